# Visavis. `make help` lists what there is.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup
TEST_STAMP := $(VENV)/.setup-test

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-roomkit test-compose check-kubernetes lint types proto train-visemes bench bench-fleet gpu-kit clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Visavis needs Python 3.11 to 3.13: name one with make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo "Python cannot make a virtual environment: apt-get install python3-venv, then again"; exit 1; }
	@echo "installing into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[orchestrator,inference]'
	@touch $@

$(TEST_STAMP): $(STAMP)
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[orchestrator,inference,musetalk,dev]'
	@touch $@

setup: $(STAMP)  ## install both services into .venv

test: $(TEST_STAMP)  ## run the tests
	$(BIN)/python -m pytest $(ARGS)

test-compose: $(TEST_STAMP)  ## run the tests of the compose files, with a real container engine
	$(BIN)/python -m pytest -m container $(ARGS)

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
	@test -x $(ROOMKIT_VENV)/bin/pip || $(PYTHON312) -m venv $(ROOMKIT_VENV)
	@$(ROOMKIT_VENV)/bin/pip install -q --disable-pip-version-check -e '.[orchestrator,inference,roomkit]' \
	  pytest==9.2.0 pytest-asyncio==1.5.0 'websockets>=14'
	@touch $@

test-roomkit: $(ROOMKIT_STAMP)  ## the tests with the real RoomKit (Python 3.12, baresip) [ARGS=]
	$(ROOMKIT_VENV)/bin/python -m pytest tests/with_roomkit $(ARGS)

run: $(STAMP)  ## start both services; prints what to dial (Ctrl-C stops them)
	@$(BIN)/python -m examples.run

# Options of the demo are what stands on make's command line, and nothing from the environment (LANGUAGE is gettext's
# there); they go over as variables of the environment, so that neither make nor the shell reads anything in them.
unexport IMAGE TEXT LANGUAGE SIZE FPS
option = $(if $(filter command,$(origin $(1))),$(value $(1)))
demo: export DEMO_IMAGE := $(call option,IMAGE)
demo: export DEMO_TEXT := $(call option,TEXT)
demo: export DEMO_LANGUAGE := $(call option,LANGUAGE)
demo: export DEMO_SIZE := $(call option,SIZE)
demo: export DEMO_FPS := $(call option,FPS)
demo: $(STAMP)  ## a whole call into out/demo.mp4 and out/demo.png [IMAGE= TEXT= LANGUAGE= SIZE= FPS=]
	@$(BIN)/python -m examples.demo $${DEMO_IMAGE:+"--image=$$DEMO_IMAGE"} $${DEMO_TEXT:+"--text=$$DEMO_TEXT"} \
	  $${DEMO_LANGUAGE:+"--language=$$DEMO_LANGUAGE"} $${DEMO_SIZE:+"--size=$$DEMO_SIZE"} \
	  $${DEMO_FPS:+"--fps=$$DEMO_FPS"}

bench: $(TEST_STAMP)  ## measure: media path, whole calls, avatar stream, inference server (about 30 minutes)
	$(BIN)/python -m bench.media --runs 3
	for what in latency interrupt wire offset; do $(BIN)/python -m bench.call $$what || exit 1; done
	$(BIN)/python -m bench.avatar_stream
	$(BIN)/python -m bench.jumps
	$(BIN)/python -m bench.server
	$(BIN)/python -m bench.speaking
	$(BIN)/python -m bench.lipsync.engine visavis/portraits/default.png --seconds 24
	$(BIN)/python -m bench.lipsync.call

bench-fleet: $(TEST_STAMP)  ## failures of a fleet under sixty calls, Kamailio, autoscaling (about 10 minutes)
	$(BIN)/python -m bench.fleet --into docs/kubernetes.md
	$(BIN)/python -m bench.kamailio
	$(BIN)/python -m bench.autoscale --into docs/kubernetes.md

lint: $(TEST_STAMP)  ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TEST_STAMP)  ## mypy --strict
	$(BIN)/mypy

check-kubernetes:  ## schemas of Kubernetes, checkov and hadolint over the manifests and Dockerfiles (needs kubectl)
	deploy/kubernetes/check.sh $(PYTHON)

train-visemes: $(STAMP)  ## make the sound-to-mouth weights and judge them (see docs/visemes.md)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[train,inference]'
	$(BIN)/python -m inference_server.engines.portrait.training.train
	$(BIN)/python -m inference_server.engines.portrait.training.evaluate

proto: $(TEST_STAMP)  ## generate visavis/avatar/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  protos/visavis/avatar/v1/avatar.proto

gpu-kit: $(TEST_STAMP)  ## what a GPU machine without internet needs, in .gpu-kit
	$(BIN)/python -m bench.gpu_kit $(ARGS)

clean:  ## remove what was built; keeps .venv
	rm -rf build out .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
