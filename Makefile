# r2convert: everything a developer needs. `make` alone lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint typecheck bench clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make the virtual environment .venv and install r2convert with its tools

demo: $(STAMP)  ## Install, then fetch, map and verify a stand-in, offline, in about a minute
	$(BIN)/r2convert demo

test: $(STAMP) lint typecheck  ## Install, lint, check types and run every test
	$(BIN)/python -m pytest

lint: $(STAMP)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(STAMP)  ## Check types
	$(BIN)/mypy

bench: $(STAMP)  ## Run every benchmark against its peer and print the ratios
	$(BIN)/python scripts/bench.py

clean:  ## Remove the virtual environment and everything built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Versions are pinned by constraints.txt, the build backend included: that is why the build is not isolated.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable '.[test,lint]'
	touch $@
