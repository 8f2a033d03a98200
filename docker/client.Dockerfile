# syntax=docker/dockerfile:1
# The SDK, its command and the load tests.
#
#   docker build -f docker/client.Dockerfile -t tuwen-client .
#   docker run --rm tuwen-client status --url server:8001
#   docker run --rm -p 8089:8089 --entrypoint locust tuwen-client -f /opt/tuwen/locustfile.py --host server:8001
ARG PYTHON=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON} AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement docker/locks/wheel.txt \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .
ARG PYTHON
RUN python docker/sbom.py client --base "${PYTHON}" --output /sbom

# hadolint ignore=DL3006
FROM ${PYTHON}
LABEL org.opencontainers.image.title="tuwen-client" \
      org.opencontainers.image.description="The client of tuwen's embeddings, and its load tests" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN --mount=type=bind,source=docker/locks/client.txt,target=/tmp/client.txt \
    pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/client.txt
RUN --mount=type=bind,from=wheel,source=/wheel,target=/tmp/wheel \
    pip install --no-cache-dir --no-deps /tmp/wheel/*.whl
COPY --from=wheel /sbom /usr/share/doc/tuwen
COPY loadtest/locustfile.py /opt/tuwen/locustfile.py
USER 10001:10001
# matplotlib and the command line write caches into their home folder
ENV HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /tmp
HEALTHCHECK NONE
ENTRYPOINT ["tuwen"]
CMD ["--help"]
