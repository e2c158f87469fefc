# Every command a person needs. `make` alone lists them.
PYTHON ?= python3
# Further arguments of pip, e.g. the index of PyTorch's small CPU builds:
#   make test PIP_ARGS="--extra-index-url URL"
PIP_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
READY := .venv/.installed
BENCHMARKS := $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))

# pyright and mkdocs-material would otherwise advertise newer releases.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1

# Threads that wait do not spin: beside any other work, spinning made training twenty times slower.
export OMP_WAIT_POLICY := PASSIVE

# One process of tests a core; who is idle takes over from who is not.
WORKERS := -n auto --dist worksteal

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo test test-all test-gpu bench lint docs gallery errors sanitize clean

say = @printf '\n== %s\n' "$(1)"

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "  %-14s %s\n", $$1, $$2}'

install: $(READY) ## create .venv with everything in it

$(READY): pyproject.toml constraints.txt
	$(call say,install into .venv; the first time this takes some minutes)
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Regard needs Python 3.11 or newer, and this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv
	@$(PIP) torch
	@$(PIP) -e '.[all,dev,docs]'
	@touch $@

demo: $(READY) ## translate with plain and with programmed attention; a few minutes
	@$(BIN)/python examples/demo.py

test: lint docs ## all checks and the quick tests
	$(call say,tests)
	@$(BIN)/python -m pytest -q -m "not slow" $(WORKERS)

test-all: lint docs ## all checks and every test, the long ones too
	$(call say,all tests)
	@REGARD_TEST_ALL=1 $(BIN)/python -m pytest -q $(WORKERS)

test-gpu: $(READY) ## the kernels for GPUs on this machine's own; where there is none, in Triton's interpreter
	$(call say,tests of backend triton)
	@$(BIN)/python -m pytest -q tests/backends/triton

bench: $(READY) ## run every benchmark; tables here, JSON beside the scripts
	@for script in $(BENCHMARKS); do printf '\n== %s\n' "$$script"; $(BIN)/python "$$script" || exit 1; done

lint: $(READY) ## style, types, docstrings, spelling
	$(call say,style)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo 'to mend: $(BIN)/ruff format .'; exit 1; }
	$(call say,spelling)
	@$(BIN)/codespell
	$(call say,docstrings)
	@$(BIN)/pydoclint src
	$(call say,types)
	@$(BIN)/pyright

docs: $(READY) ## build the documentation into site/
	$(call say,documentation)
	@$(BIN)/mkdocs build --quiet --strict

gallery: $(READY) ## write docs/catalogue, its pages and pictures, from the programs
	@$(BIN)/python scripts/gallery.py

errors: $(READY) ## list the raise lines no quick test reaches
	$(call say,tests under coverage)
	-@$(BIN)/coverage run -m pytest -q -m "not slow"
	$(call say,raise lines not reached)
	@$(BIN)/python scripts/unreached_errors.py

sanitize: $(READY) ## run kernels under AddressSanitizer and UBSan, compared with the reference
	@$(BIN)/python scripts/sanitize.py

clean: ## remove what the commands above made, except .venv and runs/
	@rm -rf build dist site .coverage .hypothesis .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
