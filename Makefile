# Two commands do everything on a fresh machine: `make demo` and `make test`. `make help` lists all commands.
# PYTHON names the interpreter (3.10 to 3.13). Without it, build/environment.sh chooses one. PIP_ARGS goes to every pip
# install. TORCH_INDEX names another index of PyTorch. WORKERS is the number of test processes.
# CLIENT_PYTHON names the interpreter of the environments of `make test-extras`, such as python3.14.
PYTHON ?=
PIP_ARGS ?=
TORCH_INDEX ?=
WORKERS ?= logical
CLIENT_PYTHON ?=
BIN := .venv/bin
# One thread for each test process: the processes already use every core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# In the full environment, a test whose library is missing fails. In the light one it is skipped.
COMPLETE := $(PYTEST) --every-library
PARALLEL := --numprocesses $(WORKERS) --maxprocesses 4 --dist worksteal
ENVIRONMENT := PYTHON='$(PYTHON)' PIP_ARGS='$(PIP_ARGS)' TORCH_INDEX='$(TORCH_INDEX)' build/environment.sh
INSTALL = $(BIN)/python -m pip install --quiet $(PIP_ARGS) $$($(ENVIRONMENT) index) -c constraints.txt
FAST := tests/unit tests/contract
PACKAGES := --cov client --cov build --cov model_repository
DEMO_TRAINING := --recipe artwork --optimizer muon --batch-size 192 --start-epochs 32 --frozen-epochs 1 --epochs 85 \
	--start-learning-rate 4e-4 --frozen-learning-rate 4e-4 --learning-rate 4e-4 --kept-patches 0.5 --evaluate-every 8 --patience 0

.DEFAULT_GOAL := help
.PHONY: help bench docs gpu-check gpu-check-pack verify-published demo demo-checkpoint demo-scores check test test-all test-extras coverage test-faults fuzz serve page lint sbom install clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.serve ## Build a repository from the demo's checkpoint, serve it, and search the gallery.
	$(BIN)/python -m tuwen_lab.demo

# Linting and type checking use one core, so they run beside the tests.
check: .venv/.light ## Check style and types, and run the tests that need no server. Installs no torch, Ray, Helm or browser.
	tests/environments.sh actionlint
	@$(MAKE) --no-print-directory --jobs 2 lint fast-tests

.PHONY: fast-tests
fast-tests: .venv/.light
	$(PYTEST) $(PARALLEL) -m "unit or contract" $(FAST)

test: .venv/.dev ## Run every check that a change must pass: under 7 minutes, after the environment is installed.
	tests/environments.sh actionlint originals prometheus http_clients api_checks crds frameworks weaviate
	@$(MAKE) --no-print-directory --jobs 2 lint tests

.PHONY: tests
tests: .venv/.dev
	$(COMPLETE) $(PARALLEL) -m "not system" $(FAST) tests/service

# System tests that carry the marker `alone` need the whole machine, so they run one after another at the end.
test-all: .venv/.dev ## `make test` with coverage, and the long tests: load, soaks, browsers, fresh environments. Under an hour.
	tests/environments.sh actionlint originals prometheus http_clients api_checks crds frameworks weaviate checkov milvus chromium axe release
	@$(MAKE) --no-print-directory lint coverage
	$(COMPLETE) $(PARALLEL) -m "system and not alone" $(FAST) tests/system; \
	parallel=$$?; $(BIN)/python -m pytest --every-library -m "system and alone" tests/system && exit $$parallel

test-extras: .venv/.serve ## Install each extra without constraints, alone and together, and use it. Runs every night.
	PIP_ARGS='$(PIP_ARGS)' CLIENT_PYTHON='$(CLIENT_PYTHON)' tests/fresh_extras.sh

# The artefact cache starts empty, because a repository that is taken from the cache runs no code of the build.
coverage: .venv/.dev ## Run the tests of `make test` and print the branch coverage of client, build and model_repository.
	tests/environments.sh actionlint originals prometheus http_clients api_checks crds frameworks weaviate
	rm -rf .cache/tests/coverage
	$(COMPLETE) $(PARALLEL) -m "not system" --artefacts .cache/tests/coverage $(PACKAGES) --cov-report term $(FAST) tests/service

test-faults: .venv/.dev ## Run every attack on a real server in full: about twenty minutes.
	$(BIN)/python -m tests.faults

# SECONDS is the time of all fuzz targets together.
SECONDS ?= 600
fuzz: .venv/.dev ## Search for inputs that crash, delay or exhaust the code that reads untrusted bytes: SECONDS=600.
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt atheris
	$(BIN)/python -m tests.faults.fuzz $(SECONDS)

serve: .venv/.serve ## Serve the demo's repository, over gRPC and HTTP.
	$(BIN)/python -m tuwen_lab.demo --serve

page: .venv/.web ## Serve the demo's repository and its search page.
	$(BIN)/python -m tuwen_lab.demo --page

data/emoji/sources.json: | .venv/.dev
	$(BIN)/tuwen dataset emoji $(@D)

# Make the demo's checkpoint, gallery and picture again, in about 90 minutes on two cores. Needs npm.
demo-checkpoint: data/emoji/sources.json
	OMP_WAIT_POLICY=passive $(BIN)/tuwen train data/emoji --output build/demo/checkpoint --force $(DEMO_TRAINING)
	$(BIN)/python -m tuwen_lab.demo._gallery data/emoji
	$(BIN)/python -m tuwen_lab.demo
	cp .cache/demo/search.svg build/demo/search.svg

# Print the table in the demo's model card.
demo-scores: data/emoji/sources.json
	$(BIN)/python -m tuwen_lab.demo._scores data/emoji

# The service and its peers on the same work: half an hour to an hour on two cores.
bench: .venv/.dev ## Measure the service beside its peers: half an hour to an hour.
	loadtest/tuwen_loadtest/bench/peers.sh
	$(BIN)/python -m tuwen_loadtest.bench

# OPTIONS may hold --data FOLDER, for recalls, and --picture FILE.
verify-published: .venv/.serve ## Compare published checkpoints with their published numbers. Needs the hub.
	$(BIN)/python -m tuwen_lab.published $(OPTIONS)

gpu-check: $(if $(wildcard .gpu-check),,.venv/.dev) ## Check an NVIDIA card: exactness, speed and memory of encoders and service.
	loadtest/tuwen_loadtest/gpu_check/carry.sh run $(OPTIONS)

gpu-check-pack: .venv/.dev ## Collect in .gpu-check what `make gpu-check` needs on a machine without internet.
	loadtest/tuwen_loadtest/gpu_check/carry.sh pack

# Mermaid draws the diagrams in the reader's browser; the site serves its own copy.
.cache/docs/mermaid.min.js:
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent mermaid@11.9.0 >/dev/null && tar -xzf mermaid-11.9.0.tgz package/dist/mermaid.min.js
	echo '0b3ed4374117363815daefdadfcc20ff704d7dd4513b55ed803abddcbd86a898  $(@D)/package/dist/mermaid.min.js' | sha256sum --check --quiet
	mv $(@D)/package/dist/mermaid.min.js $@ && rm -r $(@D)/package $(@D)/mermaid-11.9.0.tgz

docs: .venv/.docs .cache/docs/mermaid.min.js ## Build the documentation site in .cache/docs/site. Needs npm the first time.
	$(BIN)/python -m docs.staging
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Without torch and the other libraries of the full environment, mypy takes their types for Any.
MYPY_LIGHT := --ignore-missing-imports --allow-subclassing-any --allow-untyped-decorators --no-warn-unused-ignores \
	--no-warn-return-any --cache-dir .mypy_cache/light

lint: .venv/.light ## Check style, types, and which package imports which.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(if $(wildcard .venv/.dev),,$(MYPY_LIGHT))
	$(BIN)/python client/unasync.py --check
	PYTHONPATH=client $(BIN)/basedpyright --pythonpath $(BIN)/python --verifytypes tuwen --ignoreexternal
	$(BIN)/lint-imports --no-logo

sbom: .venv/.light ## Write the images' bills of materials (CycloneDX) in dist/sbom.
	tests/environments.sh release
	.cache/tests/environments/release/bin/python docker/sbom.py

install: .venv/.dev ## Create .venv with everything that development needs.

.PHONY: environment
environment:
	@$(ENVIRONMENT) create

.venv/.serve: pyproject.toml constraints.txt build/tuwen_server/packages.txt | environment
	$(INSTALL) -e '.[build,edge,serve]'
	@$(ENVIRONMENT) server
	@touch $@

# The SDK, the command line and the site's tools: no torch.
.venv/.docs: pyproject.toml constraints.txt | environment
	$(INSTALL) -e '.[docs]'
	@touch $@

.venv/.web: pyproject.toml constraints.txt build/tuwen_server/packages.txt | environment
	$(INSTALL) -e '.[build,edge,serve,web]'
	@$(ENVIRONMENT) server
	@touch $@

.venv/.light: pyproject.toml constraints.txt | environment
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[check]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt build/tuwen_server/packages.txt | environment
	$(INSTALL) -e '.[build,serve,dataset,evaluate,parquet,loadtest,dev]'
	@$(ENVIRONMENT) server
	@touch $@ .venv/.serve .venv/.light

clean: ## Remove every environment and cache.
	rm -rf .venv .cache .coverage .coverage.*
