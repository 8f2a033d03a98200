# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON names the interpreter (3.10 to 3.12); PIP_ARGS goes to every pip install.
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
PIP_ARGS ?=
BIN := .venv/bin
DEMO_TRAINING := --recipe artwork --optimizer muon --batch-size 192 --start-epochs 32 --frozen-epochs 1 --epochs 85 \
	--start-learning-rate 4e-4 --frozen-learning-rate 4e-4 --learning-rate 4e-4 --kept-patches 0.5 --evaluate-every 8 --patience 0

.PHONY: bench demo demo-checkpoint demo-scores test test-faults fuzz serve page lint install clean

demo: .venv/.serve
	$(BIN)/python -m tuwen_build.demo

test: .venv/.dev lint
	tests/reference/install.sh
	tests/judges.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not alone" --numprocesses logical --maxprocesses 4; \
	rest=$$?; $(BIN)/python -m pytest -m alone && exit $$rest

# Every attack in full: about fifteen minutes on two cores.
test-faults: .venv/.dev
	$(BIN)/python -m tests.faults

# Look for inputs that break the cores, for some minutes; what is found worth keeping stays in tests/faults/corpus.
fuzz: .venv/.dev
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt atheris
	for core in pixels tokens; do $(BIN)/python -m tests.faults.fuzz $$core -max_total_time=120 -max_len=4096; done

serve: .venv/.serve
	$(BIN)/python -m tuwen_build.demo --serve

page: .venv/.web
	$(BIN)/python -m tuwen_build.demo --page

data/emoji/sources.json: | .venv/.dev
	$(BIN)/tuwen dataset emoji $(@D)

# The demo's checkpoint, gallery and picture anew, in about an hour and a half on two cores; needs npm.
demo-checkpoint: data/emoji/sources.json
	OMP_WAIT_POLICY=passive $(BIN)/tuwen train data/emoji --output build/demo/checkpoint --force $(DEMO_TRAINING)
	$(BIN)/python -m tuwen_build.demo._gallery data/emoji
	$(BIN)/python -m tuwen_build.demo
	cp .cache/demo/search.svg build/demo/search.svg

# The table of the card.
demo-scores: data/emoji/sources.json
	$(BIN)/python -m tuwen_build.demo._scores data/emoji

# The service and its peers on the same work: half an hour to an hour on two cores.
bench: .venv/.dev
	loadtest/tuwen_loadtest/bench/peers.sh
	$(BIN)/python -m tuwen_loadtest.bench

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

install: .venv/.dev

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is needed; name one with: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.serve: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[build,serve]'
	@touch $@

.venv/.web: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[build,serve,web]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[build,serve,dataset,evaluate,parquet,loadtest,dev]'
	@touch $@ .venv/.serve

clean:
	rm -rf .venv .venv-reference .venv-checkov .venv-milvus .cache
