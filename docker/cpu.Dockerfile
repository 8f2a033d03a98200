# syntax=docker/dockerfile:1
# The server for development on x86-64 machines without a GPU, on a slim Python. Its Triton has known vulnerabilities
# (SECURITY.md). For production, server.Dockerfile makes an image that also serves on a CPU. This image starts
# `tuwen serve`. Its program `tritonserver` takes the arguments of NVIDIA's program, so that the Helm chart can run it.
#
#   docker build -f docker/cpu.Dockerfile --build-arg TORCH_INDEX=... -t tuwen-cpu .
#   docker run --rm --read-only --tmpfs /tmp --shm-size 1g -v ./repository:/models:ro -p 8001:8001 tuwen-cpu
#
# TORCH_INDEX is PyTorch's CPU index (see "Get Started" on pytorch.org). The default wheel contains gigabytes of CUDA.
ARG PYTHON=python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON} AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement docker/locks/wheel.txt \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .
ARG PYTHON
RUN python docker/sbom.py cpu --base "${PYTHON}" --output /sbom

# hadolint ignore=DL3006
FROM ${PYTHON} AS server
LABEL org.opencontainers.image.title="tuwen-cpu" \
      org.opencontainers.image.description="For development: Chinese-CLIP and CLIP embeddings on an old Triton Inference Server, without a GPU" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG TORCH_INDEX
RUN --mount=type=bind,source=docker/locks/cpu.txt,target=/tmp/cpu.txt \
    pip install --no-cache-dir --no-deps --require-hashes ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
    --requirement /tmp/cpu.txt
RUN --mount=type=bind,from=wheel,source=/wheel,target=/tmp/wheel \
    pip install --no-cache-dir --no-deps /tmp/wheel/*.whl
# Installs the server and the numpy of its Python models for every user of the image. pip checks the hashes.
ENV TUWEN_SERVER_FOLDER=/opt/tuwen-server
RUN PIP_NO_CACHE_DIR=1 tuwen server install
COPY --chown=0:0 --chmod=755 docker/tritonserver.sh /usr/local/bin/tritonserver
COPY --from=wheel /sbom /usr/share/doc/tuwen
USER 10001:10001
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
ENTRYPOINT ["tuwen", "serve"]
CMD ["/models", "--host", "0.0.0.0", "--", "--metrics-config=summary_latencies=true"]

FROM server AS baked
# `models` is a build context, not a stage
# hadolint ignore=DL3022
COPY --from=models --chown=0:0 --chmod=755 . /models

# the stage of a build without --target
FROM server
