# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON names the interpreter (3.10 to 3.12); PIP_ARGS goes to every pip install.
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: demo test serve lint install clean

demo: .venv/.serve
	$(BIN)/python -m tuwen_build.demo

test: .venv/.dev lint
	tests/reference/install.sh
	$(BIN)/python -m pytest

serve: .venv/.serve
	$(BIN)/python -m tuwen_build.demo --serve

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

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[build,serve,dataset,evaluate,parquet,dev]'
	@touch $@ .venv/.serve

clean:
	rm -rf .venv .venv-reference .cache
