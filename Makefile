# r2convert: everything a developer needs. `make` alone lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
PEERS  := .venv-peers
PADDLE := .venv-paddle

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-peers test-browser docs pictures lint typecheck bench dist clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make the virtual environment .venv and install r2convert with its tools

demo: $(STAMP)  ## Install, then fetch, map and verify a stand-in, offline
	$(BIN)/r2convert demo

test: $(STAMP) lint typecheck  ## Install, lint, check types and run every test but the slow ones
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m 'not slow'

test-slow: $(STAMP)  ## Run the slow tests: whole commands on whole networks, the examples of the documentation
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m slow

test-peers: $(STAMP) $(PEERS)/installed $(PADDLE)/installed  ## Let timm, mmpretrain and PaddleClas judge conversions
	$(BIN)/python -m pytest tests/peers

test-browser: $(STAMP)  ## Open a report in Chromium, which is installed if it can be: prints SKIPPED if not
	@command -v chromium > /dev/null || ! command -v apt-get > /dev/null || test "$$(id -u)" != 0 || \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core; } > /dev/null 2>&1 || true
	@if command -v chromium > /dev/null; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt playwright && \
		$(BIN)/python -m pytest tests/browser; \
	else \
		echo "*** SKIPPED: tests/browser. There is no chromium here and it cannot be installed. ***" >&2; \
	fi

docs: $(STAMP)  ## Build the documentation into build/site; a broken link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

pictures: $(STAMP)  ## Make the pictures of README and documentation again; those of the report need Chromium
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt playwright
	$(BIN)/python -m scripts.pictures

lint: $(STAMP)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(STAMP)  ## Check types
	$(BIN)/mypy

bench: $(STAMP)  ## Install a wheel, run every benchmark against its peer, write docs/maintainers/benchmarks.md
	$(BIN)/python -m scripts.bench

dist: $(STAMP)  ## Build the wheel and the source distribution into dist/, twice, and try the wheel by itself
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt twine
	$(BIN)/python -m scripts.make_distributions

clean:  ## Remove the virtual environment and everything built
	rm -rf $(VENV) $(PEERS) $(PADDLE) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Versions are pinned by constraints.txt, the build backend included: that is why the build is not isolated.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--no-build-isolation --editable '.[test,lint,docs]'
	touch $@

# The peers' lists are complete, so nothing else may come in; torch goes first, with what its build for this machine needs.
$(PEERS)/installed: constraints-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-peers.txt torch
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement constraints-peers.txt
	touch $@

$(PADDLE)/installed: constraints-paddle.txt
	$(PYTHON) -m venv $(PADDLE)
	$(PADDLE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement constraints-paddle.txt
	touch $@
