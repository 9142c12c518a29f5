# The orchestrator: SIP, RTP, H.264, speech. Targets: orchestrator (default) and caller (a test phone on top of it).
#   docker build -f deploy/orchestrator.Dockerfile --target orchestrator -t visavis/orchestrator .
# checkov:skip=CKV_DOCKER_7:the tag is in BASE_IMAGE, which checkov does not look into
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
COPY deploy/requirements-orchestrator.txt /tmp/requirements.txt
# the wheel of onnxruntime has its library twice, Python uses the other one; some wheels carry their symbols
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --no-compile --require-hashes -r /tmp/requirements.txt \
 && /opt/venv/bin/pip uninstall -y -q setuptools pip \
 && find /opt/venv -type d -name tests -prune -exec rm -rf {} + \
 && find /opt/venv -path '*/onnxruntime/*' \( -name transformers -o -name tools -o -name quantization \
      -o -name datasets -o -name 'libonnxruntime.so.*' \) -prune -exec rm -rf {} + \
 && find /opt/venv -path '*/moonshine_voice*' \( -name '*.so*' -o -name '*.wav' -o -name '*.tsv' \) -delete \
 && find /opt/venv \( -path '*/sqlalchemy/testing' -o -path '*/sqlalchemy/ext/asyncio' -o -path '*/sqlalchemy/dialects/m*sql' \
      -o -path '*/sqlalchemy/dialects/oracle' -o -path '*/alembic/testing' -o -path '*/numpy/f2py' \
      -o -path '*/numpy/polynomial' \) -prune -exec rm -rf {} + \
 && find /opt/venv -regex '.*\.\(pyi\|pyx\|pxd\|h\|c\|a\)' -delete \
 && find /opt/venv -name '*.so' ! -path '*.libs/*' ! -path '*/onnxruntime/*' -exec strip --strip-unneeded {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv

FROM ${BASE_IMAGE} AS project
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/build
COPY deploy/requirements-build.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install -q --no-deps --require-hashes -r /tmp/requirements.txt
WORKDIR /src
COPY pyproject.toml LICENSE ./
COPY visavis visavis
COPY orchestrator orchestrator
# an image changes with its code, not with its README; programs run by the image's Python, not by this stage's
RUN touch README.md \
 && /opt/build/bin/pip install --no-build-isolation --no-deps --no-compile --target /opt/visavis . \
 && sed -i '1s|.*|#!/usr/bin/env python|' /opt/visavis/bin/* \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/visavis
COPY deploy/healthcheck.py deploy/healthcheck.sh /opt/visavis/

FROM ${BASE_IMAGE} AS orchestrator
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent visavis \
 && install -d -o 10001 -g 10001 /var/lib/visavis /var/cache/visavis \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/visavis-api /var/lib/visavis-fleet
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=project /opt/visavis /opt/visavis
ENV PATH=/opt/venv/bin:/opt/visavis/bin:$PATH \
    PYTHONPATH=/opt/visavis \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    VISAVIS_DATA_DIR=/var/lib/visavis \
    VISAVIS_CACHE_DIR=/var/cache/visavis
USER 10001:10001
WORKDIR /tmp
# SIP, and the control API; RTP takes the UDP ports VISAVIS_RTP_PORT_MIN to VISAVIS_RTP_PORT_MAX
EXPOSE 5060/udp 5060/tcp 8080/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/visavis/healthcheck.sh", "orchestrator"]
ENTRYPOINT ["python", "-m", "orchestrator"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Visavis orchestrator" \
      org.opencontainers.image.description="Answers SIP calls with a talking face" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM ${BASE_IMAGE} AS caller-dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/build
COPY deploy/requirements-caller.txt /tmp/requirements.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install --no-deps --no-compile --target /opt/caller --require-hashes -r /tmp/requirements.txt

# a phone that records what it receives, for `docker compose --profile demo run --rm demo`
FROM orchestrator AS caller
COPY --from=caller-dependencies /opt/caller /opt/caller
ENV PYTHONPATH=/opt/visavis:/opt/caller
COPY testing/__init__.py testing/ports.py /opt/visavis/testing/
COPY testing/caller /opt/visavis/testing/caller
COPY examples/demo.py examples/services.py examples/dialogue.py /opt/visavis/examples/
COPY deploy/demo.py /opt/visavis/demo.py
HEALTHCHECK NONE
ENTRYPOINT ["python", "/opt/visavis/demo.py"]

FROM orchestrator
