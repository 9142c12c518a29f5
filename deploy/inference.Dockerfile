# The inference server. Targets: cpu (default; no torch) and cuda (MuseTalk's libraries; its weights are downloaded
# into a volume by `visavis-models download`, never into the image).
#   docker build -f deploy/inference.Dockerfile --target cpu  -t visavis/inference .
#   docker build -f deploy/inference.Dockerfile --target cuda -t visavis/inference:cuda .
#
# The cuda target needs no CUDA base image: requirements-inference-cuda.txt pins torch 2.13.0 for CUDA 13.0 together
# with NVIDIA's own wheels of the CUDA libraries; the host brings the driver (580 or newer) and the container toolkit.
# checkov:skip=CKV_DOCKER_7:the tag is in BASE_IMAGE, which checkov does not look into
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS dependencies-cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
COPY deploy/requirements-inference.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --no-compile --require-hashes -r /tmp/requirements.txt \
 && /opt/venv/bin/pip uninstall -y -q setuptools pip \
 && find /opt/venv -type d -name tests -prune -exec rm -rf {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv

FROM ${BASE_IMAGE} AS dependencies-cuda
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
COPY deploy/requirements-inference-cuda.txt /tmp/requirements.txt
# no cache mount: these wheels have 3 GB
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-compile --require-hashes -r /tmp/requirements.txt \
 && /opt/venv/bin/pip uninstall -y -q pip

FROM ${BASE_IMAGE} AS project
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/build
COPY deploy/requirements-build.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install -q --no-deps --require-hashes -r /tmp/requirements.txt
WORKDIR /src
COPY pyproject.toml LICENSE ./
COPY visavis visavis
COPY inference_server inference_server
# an image changes with its code, not with its README; programs run by the image's Python, not by this stage's
RUN touch README.md \
 && /opt/build/bin/pip install --no-build-isolation --no-deps --no-compile --target /opt/visavis . \
 && sed -i '1s|.*|#!/usr/bin/env python|' /opt/visavis/bin/* \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/visavis
COPY deploy/healthcheck.py deploy/healthcheck.sh deploy/names.py deploy/check_names.py /opt/visavis/

FROM ${BASE_IMAGE} AS runtime
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent visavis \
 && install -d -o 10001 -g 10001 /var/cache/visavis /models \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/visavis-fleet
ENV PATH=/opt/venv/bin:/opt/visavis/bin:$PATH \
    PYTHONPATH=/opt/visavis \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    VISAVIS_INFERENCE_CACHE_DIR=/var/cache/visavis
USER 10001:10001
WORKDIR /tmp
# gRPC, and HTTP for metrics
EXPOSE 50051/tcp 8500/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/visavis/healthcheck.sh", "inference"]
ENTRYPOINT ["python", "-m", "inference_server"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.description="Speech in, lip-synced video frames out" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS cuda
# what compiles a kernel at run time (norms=fused, mode=compile) needs a C compiler; results go to the engine's cache_dir
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=dependencies-cuda /opt/venv /opt/venv
COPY --from=project /opt/visavis /opt/visavis
# MuseTalk's device=auto never takes the CPU here
ENV VISAVIS_CUDA_IMAGE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL org.opencontainers.image.title="Visavis inference server (CUDA 13.0)"

FROM runtime AS cpu
COPY --from=dependencies-cpu /opt/venv /opt/venv
COPY --from=project /opt/visavis /opt/visavis
LABEL org.opencontainers.image.title="Visavis inference server"
