# Each target installs what it needs into .venv first. Outside this folder there are caches alone: pip's, and
# ~/.cache/dpft (or $DPFT_CACHE) with demonstrations and base policies.
#
# TORCH chooses the build of torch 2.13.0 (delete .venv to change it later); what it needs comes from your default index:
#   make setup TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2
BIN := .venv/bin
SETUP := .venv/.installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help setup quickstart test test-slow test-slurm bench bench-compare figures docs lint lock
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(SETUP)  ## install everything into .venv (Python 3.11 or newer)

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("DPFT needs Python 3.11 or newer: make setup PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

quickstart: $(SETUP)  ## train four methods on Hopper and draw the figure (WORKERS=2 processes, about 7 minutes on 2 cores)
	$(BIN)/dpft sweep sweeps/grids/quickstart.yaml --workers $(WORKERS)
	$(BIN)/dpft figures runs/quickstart

test: $(SETUP)  ## the tests, without the slow ones
	$(PYTEST) -n 2 -m "not slow and not slurm"

test-slow: $(SETUP)  ## the slow tests
	$(PYTEST) -n 2 -m slow

test-slurm: $(SETUP)  ## the launcher's tests on a real one-node SLURM (Debian's packages, root)
	$(PYTEST) tests/slurm -m slurm

bench: $(SETUP)  ## time the simulator, sampling and updates; numbers go to .benchmarks/latest.json
	@mkdir -p .benchmarks
	$(PYTEST) tests/bench --benchmark-enable --benchmark-only --benchmark-json .benchmarks/latest.json

bench-compare: bench  ## the same, each time beside that of results/speed/bench.json, with their ratio
	$(BIN)/pytest-benchmark compare results/speed/bench.json .benchmarks/latest.json --group-by fullname --columns median

figures: $(SETUP)  ## draw every committed figure again from the records in results/
	$(BIN)/dpft figures

docs: $(SETUP)  ## the documentation site, build/docs/site; a broken link is an error
	$(BIN)/python docs/pages.py build/docs
	cd build/docs && $(CURDIR)/$(BIN)/zensical build --strict

lint: $(SETUP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .mypy_cache/tree  # mypy reads no package-dir
	@ln -sfn $(CURDIR) .mypy_cache/tree/dpft
	$(BIN)/mypy

lock:  ## resolve pyproject.toml into constraints.txt, keeping the versions that fit (LOCK=--upgrade: the newest)
	@test -x $(BIN)/uv || ($(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q uv)
	$(BIN)/uv pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest \
		--no-annotate --custom-compile-command "make lock" -o constraints.txt $(LOCK)
	grep -vE '^(nvidia|cuda)-' constraints.txt > constraints.new  # torch's wheel pins those of its own build
	mv constraints.new constraints.txt
