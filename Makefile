# Every target starts from a clean checkout: it makes .venv and installs the locked versions first.
# Needs Python >= 3.11 (PYTHON=...), make and a package registry.
PYTHON ?= python3
PY := .venv/bin/python
UV := .venv/bin/uv

.DEFAULT_GOAL := help
.PHONY: help setup docs demo test test-all test-matrix coverage check format lock wheel clean bench bench-cifar10 gpu-check

help:  ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.venv/.installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11 ...")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet uv
	$(UV) pip install --quiet --compile-bytecode --python $(PY) --constraint requirements.lock --editable '.[dev]'
	touch $@

setup: .venv/.installed  ## Make .venv with the locked versions

demo: setup  ## Distil the digits student with three losses; ends with a table and a figure (< 3 min)
	$(PY) -m tser_lightning.cli.demo

test: setup  ## Run the fast tests (4 min on 2 quiet cores)
	$(PY) -m pytest -n 2 -m 'not slow'

test-all: setup  ## Run every test
	$(PY) -m pytest -n 2

PYTHONS ?= 3.11 3.12 3.13

test-matrix:  ## Run the fast tests on every Python that is here, and on the lowest and the newest versions allowed
	test -x $(UV) || $(MAKE) setup
	for python in $(PYTHONS); do for versions in highest lowest-direct; do \
	  python$$python -c "" 2>/dev/null || { echo "no python$$python here"; continue 2; }; \
	  echo "== python$$python, $$versions"; \
	  $(UV) venv --quiet --clear --python python$$python .venv-matrix && \
	  $(UV) pip install --quiet --python .venv-matrix/bin/python --resolution $$versions --editable '.[dev]' && \
	  .venv-matrix/bin/python -m pytest -n 2 -m 'not slow' || exit 1; \
	done; done

coverage: setup  ## Lines and branches that the fast tests run: losses, neurons, checkpoints, run identity (docs/quality.md)
	$(UV) pip install --quiet --python $(PY) 'coverage>=7.10'
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -m 'not slow' $(addprefix tests/,losses neurons kernels training records resilience test_atomic_io.py)
	$(PY) -m coverage combine --quiet
	for part in losses/ neurons/ kernels/ training/checkpoints.py records/identity.py; do \
	  $(PY) -m coverage report --show-missing --skip-covered --include "tser_lightning/$$part*"; done

check: setup  ## Format, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: setup  ## Format the code and mend what ruff can
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

BENCH_OUT ?= benchmarks/results
# Freed memory stays with the process, as under a GPU's allocator: otherwise page faults are what is measured.
BENCH := env BENCH_OUT=$(BENCH_OUT) OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=4294967296 \
	MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864 $(PY) -W ignore -m

bench: setup  ## Speed and memory against peers, about 20 minutes; JSON goes to BENCH_OUT
	$(UV) pip install --quiet --python $(PY) --constraint requirements.lock --editable '.[dev,bench]'
	for script in lif_layer step profile memory growth online inference stream overhead; do $(BENCH) benchmarks.$$script || exit 1; done
	for script in lif_layer step profile memory growth online inference; do DEVICE=cuda $(BENCH) benchmarks.$$script || exit 1; done

bench-cifar10: setup  ## Time to the paper's 95.58 % on CIFAR-10 on a GPU; TEACHER=file or trained first; where steps go
	$(UV) pip install --quiet --python $(PY) --constraint requirements.lock --editable '.[dev,bench]'
	$(BENCH) benchmarks.cifar10 $(SETTINGS)
	DEVICE=cuda T=2 $(BENCH) benchmarks.profile

gpu-check:  ## What a GPU gives, in 9 minutes, without .venv: kernels, speed, training, memory; CIFAR10=file, OUT=folder
	OUT=$(or $(OUT),gpu-check) $(PYTHON) -W ignore -m benchmarks.gpu_check

docs: setup  ## Build the documentation site into site/; a broken link is an error
	$(UV) pip install --quiet --python $(PY) --constraint requirements.lock --editable '.[dev,docs]'
	$(PY) -m mkdocs build --strict

LOCKED := timm slurm optuna dashboard litdata events docs export peers hub bench dev   # ray and trackio want older packages

lock: setup  ## Write requirements.lock anew from the ranges in pyproject.toml
	$(UV) pip compile --quiet --universal $(addprefix --extra ,$(LOCKED)) --python-version 3.11 --no-annotate --no-header pyproject.toml -o requirements.lock

wheel: setup  ## Build the wheel, install it into a clean environment, run the default experiment from another folder
	rm -rf dist .venv-wheel
	$(UV) build --quiet --wheel --out-dir dist
	$(PYTHON) -m venv .venv-wheel
	$(UV) pip install --quiet --compile-bytecode --python .venv-wheel/bin/python --constraint requirements.lock dist/*.whl
	wheel=$$PWD/.venv-wheel/bin/tser && folder=$$(mktemp -d) && cd $$folder && $$wheel && ls runs

clean:  ## Remove environments and build outputs (runs and data stay)
	rm -rf .venv .venv-wheel .venv-matrix dist build .pytest_cache .mypy_cache .ruff_cache
