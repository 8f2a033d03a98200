# syntax=docker/dockerfile:1
# The HTTP edge, which offers embeddings in the interfaces of OpenAI, Cohere, Weaviate and others.
#
#   docker build -f docker/edge.Dockerfile -t tuwen-edge .
#   docker run --rm -p 8080:8080 tuwen-edge server:8001
ARG PYTHON=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON} AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement docker/locks/wheel.txt \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .
ARG PYTHON
RUN python docker/sbom.py edge --base "${PYTHON}" --output /sbom

# hadolint ignore=DL3006
FROM ${PYTHON}
LABEL org.opencontainers.image.title="tuwen-edge" \
      org.opencontainers.image.description="tuwen's embeddings over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN --mount=type=bind,source=docker/locks/edge.txt,target=/tmp/edge.txt \
    pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/edge.txt
RUN --mount=type=bind,from=wheel,source=/wheel,target=/tmp/wheel \
    pip install --no-cache-dir --no-deps /tmp/wheel/*.whl
COPY --from=wheel /sbom /usr/share/doc/tuwen
USER 10001:10001
ENV HOME=/tmp
WORKDIR /tmp
EXPOSE 8080
HEALTHCHECK NONE
ENTRYPOINT ["tuwen", "edge", "--host", "0.0.0.0"]
