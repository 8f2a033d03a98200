# syntax=docker/dockerfile:1
# The server for production: NVIDIA's tritonserver, on a GPU where there is one, on the CPU elsewhere.
#
#   docker build -f docker/server.Dockerfile -t tuwen-server .                        # models are mounted at /models
#   docker build -f docker/server.Dockerfile -t clip:1 --target baked --build-context models=repository .
#
# Build the repository with a torch no newer than the image's: in NVIDIA's pytorch image of the same month, or see
# `manifest.json`. Before 26.05 a server stays "ready" when a Python model has died, and its cache leaks (before 25.09).
ARG TRITON=nvcr.io/nvidia/tritonserver:26.05-pyt-python-py3

# Pin what you deploy: --build-arg TRITON=nvcr.io/nvidia/tritonserver@sha256:...
# hadolint ignore=DL3006
FROM ${TRITON} AS server
LABEL org.opencontainers.image.title="tuwen-server" \
      org.opencontainers.image.description="Chinese-CLIP and CLIP embeddings on Triton Inference Server" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN --mount=type=bind,source=docker/locks/server.txt,target=/tmp/server.txt \
    pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/server.txt
# glibc would return every large buffer to the system after use, and take it anew for the next batch.
ENV MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=1073741824
# triton-server; by number, so that Kubernetes can see that it is not root
USER 1000:1000
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=6 \
    CMD ["curl", "--fail", "--silent", "--show-error", "http://localhost:8000/v2/health/ready"]
ENTRYPOINT ["tritonserver"]
CMD ["--model-repository=/models", "--model-control-mode=none", "--disable-auto-complete-config", \
     "--cache-config=local,size=67108864", "--exit-timeout-secs=30", \
     "--backend-config=python,shm-default-byte-size=67108864", \
     "--backend-config=python,shm-growth-byte-size=67108864"]

FROM server AS baked
# `models` is a build context, not a stage
# hadolint ignore=DL3022
COPY --from=models --chown=0:0 --chmod=755 . /models

# what a build without --target makes
FROM server
