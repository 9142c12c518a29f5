# Visavis. `make help` lists what there is.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup
TEST_STAMP := $(VENV)/.setup-test
TORCH_STAMP := $(VENV)/.setup-torch

.DEFAULT_GOAL := help
# Tests start many processes: what is compiled once is kept, as Python does where nobody says otherwise.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup run demo check quick test test-all test-peers test-peers-hidden test-torch test-python test-roomkit \
  test-livekit test-pipecat test-sdks test-compose check-kubernetes secrets test-oldest lint types proto proto-tools train-visemes bench bench-fleet gpu-kit sbom pin-images clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	@test "$$(uname)" = Linux || { \
	  echo "Visavis runs on Linux: on a Mac or Windows take Docker or WSL 2 (docs/faq.md)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Visavis needs Python 3.11 to 3.13: name one with make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo "Python cannot make a virtual environment here. Can this folder be written to? Is python3-venv"; \
	  echo "installed (apt install python3-venv)? Then again."; exit 1; }
	@echo "installing the services into $(VENV): about 250 MB to fetch, 660 MB on disk, one minute"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[orchestrator,inference]'
	@touch $@

$(TEST_STAMP): $(STAMP)
	@echo "installing what the tests need into $(VENV): about 60 MB more to fetch, 170 MB on disk, half a minute"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[orchestrator,inference,dev]'
	@touch $@

# The torch of Linux brings CUDA with it. PIP_EXTRA_INDEX_URL can name an index with builds for the CPU alone.
$(TORCH_STAMP): $(TEST_STAMP)
	@echo "installing torch into $(VENV): 2.8 GB to fetch and 5 GB on disk with CUDA (a build for the CPU alone:"
	@echo "0.2 GB, see CONTRIBUTING.md); several minutes"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[orchestrator,inference,musetalk,dev]' triton
	@touch $@

setup: $(STAMP)  ## install both services into .venv

check: $(TEST_STAMP)  ## lint, types, tests that start no process (75 s)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint types quick

quick: $(TEST_STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not process and not torch' $(ARGS)

test: $(TEST_STAMP) proto-tools  ## all tests that need neither torch nor programs of others (ten minutes) [ARGS=]
	@quick=0; $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not process and not torch' $(ARGS) || quick=$$?; \
	process=0; $(BIN)/python -m pytest -n 3 --dist loadfile \
	  -m 'process and not peer and not container and not torch' $(ARGS) || process=$$?; \
	case $$quick$$process in 00|05|50) ;; *) exit 1 ;; esac  # 5: ARGS chose none of these

test-all: test test-oldest test-peers test-torch test-compose test-roomkit test-livekit test-pipecat test-sdks  ## the same, then peers, torch, frameworks, containers

test-peers: $(TEST_STAMP)  ## tests with baresip, SIPp, Kamailio, Linphone, GStreamer... (CONTRIBUTING.md lists them)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'peer and not container and not torch' $(ARGS)

test-peers-hidden: $(TEST_STAMP)
	PATH=/nowhere CI= $(abspath $(BIN))/python -m pytest -n 2 --dist loadfile -m 'peer and not container and not torch' $(ARGS)

test-torch: $(TORCH_STAMP)  ## tests of MuseTalk on the CPU, with torch
	$(BIN)/python -m pytest -m torch $(ARGS)

# The tests that start no process, with other Pythons: by path, from PATH or from ~/.pyenv/versions.
PYTHONS ?= 3.12 3.13
OTHER_PYTHONS ?= $(foreach version,$(PYTHONS),$(firstword \
  $(shell python$(version) -c 'import sys; print(sys.executable)' 2>/dev/null) \
  $(wildcard $(HOME)/.pyenv/versions/$(version).*/bin/python$(version))))

test-python:  ## the tests that start no process with Python 3.12 and 3.13 [PYTHONS=, OTHER_PYTHONS=]
	@for version in $(PYTHONS); do \
	  case "$(OTHER_PYTHONS)" in *$$version*) ;; *) echo "*** NO PYTHON $$version HERE: NOTHING WAS TESTED WITH IT. \
	Name one with OTHER_PYTHONS=/path/of/python$$version ***";; esac; done
	@for python in $(OTHER_PYTHONS); do \
	  $(MAKE) --no-print-directory quick PYTHON=$$python VENV=.venv-$$($$python -c \
	    'import sys; print("py%d%d" % sys.version_info[:2])') || exit 1; done

# What pip installs elsewhere is the newest that is allowed. Pipecat and others keep protobuf below 7, for one.
OLDEST_VENV := .venv-oldest

$(OLDEST_VENV)/.setup: pyproject.toml
	@test -x $(OLDEST_VENV)/bin/pip || $(PYTHON) -m venv $(OLDEST_VENV)
	@$(PYTHON) -m testing.oldest orchestrator inference dev > $(OLDEST_VENV)/constraints.txt
	@$(OLDEST_VENV)/bin/pip install -q --disable-pip-version-check -c $(OLDEST_VENV)/constraints.txt \
	  -e '.[orchestrator,inference,dev]'
	@touch $@

test-oldest: $(OLDEST_VENV)/.setup  ## the tests that start no process with the oldest allowed version of every dependency
	$(OLDEST_VENV)/bin/python -m pytest -n 2 --dist worksteal -m 'not process and not torch' $(ARGS)

test-compose: $(TEST_STAMP)  ## tests of the compose files, with a real container engine
	$(BIN)/python -m pytest -m container --timeout 1200 $(ARGS)

# RoomKit needs Python 3.12: an environment of its own, with the first such Python that is found.
PYTHON312 ?= $(firstword $(foreach name,python3.12 python3.13 python3,$(if $(shell $(name) -c 'import sys; \
  print("yes" if (3, 12) <= sys.version_info[:2] <= (3, 13) else "")' 2>/dev/null),$(name))) \
  $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python $(HOME)/.pyenv/versions/3.13.*/bin/python))
ROOMKIT_VENV := .venv-roomkit
ROOMKIT_STAMP := $(ROOMKIT_VENV)/.setup

$(ROOMKIT_STAMP): pyproject.toml
	@test -n "$(PYTHON312)" || { \
	  echo "RoomKit needs Python 3.12 or 3.13, and none is on PATH or under ~/.pyenv/versions:"; \
	  echo "name one with make test-roomkit PYTHON312=/path/of/python3.12"; exit 1; }
	@echo "installing RoomKit, the services and the tests into $(ROOMKIT_VENV): about 250 MB to fetch, one minute"
	@test -x $(ROOMKIT_VENV)/bin/pip || $(PYTHON312) -m venv $(ROOMKIT_VENV)
	@$(ROOMKIT_VENV)/bin/pip install -q --disable-pip-version-check -e '.[orchestrator,inference,roomkit]' \
	  roomkit==0.109.0 'aiortp[g722,opus]' pytest==9.2.0 pytest-asyncio==1.5.0 pytest-timeout==2.4.0 'websockets>=14'
	@touch $@

test-roomkit: $(ROOMKIT_STAMP)  ## the tests with the real RoomKit (Python 3.12, baresip) [ARGS=]
	$(ROOMKIT_VENV)/bin/python -m pytest tests/with_roomkit tests/frameworks $(ARGS)

# Every framework has an environment of its own, with the version that docs/frameworks.md names.
.venv-livekit/.setup: FRAMEWORK := livekit-agents==1.8.9
.venv-pipecat/.setup: FRAMEWORK := pipecat-ai==1.14.0
.venv-livekit/.setup .venv-pipecat/.setup: .venv-%/.setup: pyproject.toml
	@echo "installing $(FRAMEWORK), the inference server and the tests into .venv-$*: one minute"
	@test -x .venv-$*/bin/pip || $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/pip install -q --disable-pip-version-check -e '.[inference,$*]' $(FRAMEWORK) pytest==9.2.0 \
	  pytest-asyncio==1.5.0 pytest-timeout==2.4.0 'pillow>=12,<14' 'av>=18,<20'
	@touch $@

test-livekit: .venv-livekit/.setup  ## the tests with the real LiveKit Agents [ARGS=]
	.venv-livekit/bin/python -m pytest tests/with_livekit tests/frameworks $(ARGS)

test-pipecat: .venv-pipecat/.setup  ## the tests with the real Pipecat [ARGS=]
	.venv-pipecat/bin/python -m pytest tests/with_pipecat tests/frameworks $(ARGS)

.venv-sdks/.setup: pyproject.toml
	@echo "installing the vendors' own clients, the orchestrator and the tests into .venv-sdks: one minute"
	@test -x .venv-sdks/bin/pip || $(PYTHON) -m venv .venv-sdks
	@.venv-sdks/bin/pip install -q --disable-pip-version-check -e '.[orchestrator]' anthropic==2.14.0 deepgram-sdk==7.17.0 \
	  elevenlabs==2.78.0 openai==3.57.0 pytest==9.2.0 pytest-asyncio==1.5.0 pytest-timeout==2.4.0 'pillow>=12,<14'
	@touch $@

test-sdks: .venv-sdks/.setup  ## Deepgram's, ElevenLabs', OpenAI's and Anthropic's clients against our tests' services [ARGS=]
	.venv-sdks/bin/python -m pytest tests/with_sdks $(ARGS)

run: $(STAMP)  ## start both services; prints what to dial (Ctrl-C stops them)
	@$(BIN)/python -m examples.run

# Options of the demo are what stands on make's command line, and nothing from the environment (LANGUAGE is gettext's
# there); they go over as variables of the environment, so that neither make nor the shell reads anything in them.
unexport AVATAR IMAGE TEXT LANGUAGE SIZE FPS
option = $(if $(filter command,$(origin $(1))),$(value $(1)))
demo: export DEMO_AVATAR := $(call option,AVATAR)
demo: export DEMO_IMAGE := $(call option,IMAGE)
demo: export DEMO_TEXT := $(call option,TEXT)
demo: export DEMO_LANGUAGE := $(call option,LANGUAGE)
demo: export DEMO_SIZE := $(call option,SIZE)
demo: export DEMO_FPS := $(call option,FPS)
demo: $(STAMP)  ## a whole call into out/demo.mp4 and out/demo.png [AVATAR= IMAGE= TEXT= LANGUAGE= SIZE= FPS=]
	@$(BIN)/python -m examples.demo $${DEMO_AVATAR:+"--avatar=$$DEMO_AVATAR"} \
	  $${DEMO_IMAGE:+"--image=$$DEMO_IMAGE"} $${DEMO_TEXT:+"--text=$$DEMO_TEXT"} \
	  $${DEMO_LANGUAGE:+"--language=$$DEMO_LANGUAGE"} $${DEMO_SIZE:+"--size=$$DEMO_SIZE"} \
	  $${DEMO_FPS:+"--fps=$$DEMO_FPS"}

bench: $(TEST_STAMP)  ## measure: media path, whole calls, avatar stream, inference server (about 30 minutes)
	$(BIN)/python -m bench.media --runs 3
	for what in latency interrupt wire offset; do $(BIN)/python -m bench.call $$what || exit 1; done
	$(BIN)/python -m bench.avatar_stream
	$(BIN)/python -m bench.jumps
	$(BIN)/python -m bench.server
	$(BIN)/python -m bench.speaking
	$(BIN)/python -m bench.lipsync.engine tests/avatars/faces/iris.png --seconds 24
	$(BIN)/python -m bench.lipsync.call
	for what in engine call voices; do $(BIN)/python -m bench.motion $$what || exit 1; done

bench-fleet: $(TEST_STAMP)  ## failures of a fleet under sixty calls, Kamailio, autoscaling (about 10 minutes)
	$(BIN)/python -m bench.fleet --into docs/kubernetes.md
	$(BIN)/python -m bench.kamailio
	$(BIN)/python -m bench.autoscale --into docs/kubernetes.md

lint: $(TEST_STAMP)  ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TEST_STAMP)  ## mypy --strict
	$(BIN)/mypy

secrets:  ## Kubernetes: make the tokens that the manifests mount, once [NAMESPACE=visavis KUBECTL=kubectl]
	@NAMESPACE=$(or $(NAMESPACE),visavis) KUBECTL="$(or $(KUBECTL),kubectl)" deploy/kubernetes/secrets.sh

check-kubernetes:  ## schemas of Kubernetes, checkov, hadolint and promtool over manifests, Dockerfiles and alerts (needs kubectl, promtool)
	deploy/kubernetes/check.sh $(PYTHON)

train-visemes: $(STAMP)  ## make the sound-to-mouth weights and judge them (see docs/visemes.md)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[train,inference]'
	$(BIN)/python -m testing.training.train
	$(BIN)/python -m testing.training.evaluate

# Code that an older protoc made runs with newer protobuf: an environment of its own, with the oldest.
PROTO_VENV := .venv-proto
PROTO_STAMP := $(PROTO_VENV)/.setup

$(PROTO_STAMP): protos/requirements.txt
	@test -x $(PROTO_VENV)/bin/pip || $(PYTHON) -m venv $(PROTO_VENV)
	@$(PROTO_VENV)/bin/pip install -q --disable-pip-version-check -r protos/requirements.txt
	@touch $@

proto-tools: $(PROTO_STAMP)

proto: $(PROTO_STAMP)  ## generate visavis/avatar/v1 from protos/
	$(PROTO_VENV)/bin/python protos/generate.py .

SBOM_VENV := .venv-sbom

sbom:  ## what is in the images, as CycloneDX, in sbom/
	@test -x $(SBOM_VENV)/bin/cyclonedx-py || { $(PYTHON) -m venv $(SBOM_VENV) && \
	  $(SBOM_VENV)/bin/pip install -q --disable-pip-version-check cyclonedx-bom==7.5.0; }
	@mkdir -p sbom
	@for image in orchestrator inference inference-cuda caller; do \
	  $(SBOM_VENV)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	    -o sbom/$$image.cdx.json deploy/requirements-$$image.txt || exit 1; done
	@ls sbom

pin-images:  ## write the digests of images that are not built here into .env (needs Docker)
	deploy/pin-images.sh

gpu-kit: $(TORCH_STAMP)  ## what a GPU machine without internet needs, in .gpu-kit
	$(BIN)/python -m bench.gpu.kit $(ARGS)

clean:  ## remove what was built; keeps .venv
	rm -rf build out .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
