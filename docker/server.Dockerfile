# syntax=docker/dockerfile:1
# The server for production: NVIDIA's tritonserver, which uses a GPU if there is one, and else the CPU.
#
#   docker build -f docker/server.Dockerfile -t tuwen-server .                     # models are mounted at /models
#   docker build -f docker/server.Dockerfile -t clip:1 --target baked --build-context models=repository .
#   docker build -f docker/server.Dockerfile -t clip:1 --target exported --build-arg CHECKPOINT=OFA-Sys/chinese-clip-vit-base-patch16 .
#   docker build -f docker/server.Dockerfile -t clip:1 --target exported --build-context checkpoint=checkpoint .
#
# A repository must be built with a torch no newer than the server's. So both images are of one month, and `exported`
# builds the repository in the PyTorch image. client/tuwen_cli/security_floor.json names the oldest safe release.
ARG TRITON=nvcr.io/nvidia/tritonserver:26.11-pyt-python-py3
ARG PYTORCH=nvcr.io/nvidia/pytorch:26.11-py3
ARG PYTHON=python:3.11-slim-bookworm

# Pin what you deploy: --build-arg TRITON=nvcr.io/nvidia/tritonserver@sha256:...
# hadolint ignore=DL3006
FROM ${PYTHON} AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement docker/locks/wheel.txt \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .
ARG TRITON
RUN python docker/sbom.py server --base "${TRITON}" --output /sbom

# --build-context checkpoint=FOLDER replaces this empty stage by a folder with a checkpoint.
FROM scratch AS checkpoint

# hadolint ignore=DL3006
FROM ${PYTORCH} AS export
# Our packages go into a separate folder without NVIDIA's constraints, so that NVIDIA's packages stay unchanged.
ENV PIP_CONSTRAINT=""
RUN --mount=type=bind,source=docker/locks/export.txt,target=/tmp/export.txt \
    --mount=type=bind,from=wheel,source=/wheel,target=/tmp/wheel \
    pip install --no-cache-dir --no-deps --require-hashes --target /opt/tuwen --requirement /tmp/export.txt \
    && pip install --no-cache-dir --no-deps --target /opt/tuwen --upgrade /tmp/wheel/*.whl
ENV PYTHONPATH=/opt/tuwen \
    PATH=/opt/tuwen/bin:${PATH}
ARG CHECKPOINT=/checkpoint
ARG PRECISION=fp16
# A private checkpoint: --secret id=hf-token,env=HF_TOKEN
RUN --mount=type=bind,from=checkpoint,target=/checkpoint \
    --mount=type=secret,id=hf-token,env=HF_TOKEN \
    tuwen build "${CHECKPOINT}" --precision "${PRECISION}" --output /repository

# hadolint ignore=DL3006
FROM ${TRITON} AS server
LABEL org.opencontainers.image.title="tuwen-server" \
      org.opencontainers.image.description="Chinese-CLIP and CLIP embeddings on Triton Inference Server" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN --mount=type=bind,source=docker/locks/server.txt,target=/tmp/server.txt \
    pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/server.txt
# Without these variables, glibc would return every large buffer after use and request it again for the next batch,
# libgomp's threads would keep their cores for milliseconds after each loop, and TF32 would round fp32 convolutions.
ENV MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=1073741824 \
    GOMP_SPINCOUNT=10000 \
    NVIDIA_TF32_OVERRIDE=0
COPY --from=wheel /sbom /usr/share/doc/tuwen
COPY --chown=0:0 --chmod=755 docker/serve.sh /usr/local/bin/tuwen-tritonserver
# A number, so that Kubernetes can check that the user is not root
USER 10001:10001
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=6 \
    CMD ["curl", "--fail", "--silent", "--show-error", "http://localhost:8000/v2/health/ready"]
ENTRYPOINT ["tuwen-tritonserver"]
CMD ["--model-repository=/models", "--model-control-mode=none", "--disable-auto-complete-config", \
     "--exit-timeout-secs=30", \
     "--backend-config=python,shm-default-byte-size=67108864", \
     "--backend-config=python,shm-growth-byte-size=67108864", \
     "--metrics-config=summary_latencies=true"]

FROM server AS exported
COPY --from=export --chown=0:0 --chmod=755 /repository /models

FROM server AS baked
# `models` is a build context, not a stage
# hadolint ignore=DL3022
COPY --from=models --chown=0:0 --chmod=755 . /models

# the stage of a build without --target
FROM server
