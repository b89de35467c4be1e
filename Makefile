# Two commands for a fresh machine, each with all its own set-up: `make quickstart` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
# On machines with an NVIDIA GPU the same release is the CUDA build.
TORCH  ?= torch==2.13.0
OUT    ?= runs/quickstart
ARGS   ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: quickstart test check test-slow lint clean help

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

quickstart: $(VENV)/ready        ## the whole loop on this machine in about 12 minutes, installation included
	$(BIN)/isoflop quickstart --out $(OUT) $(ARGS)

test: $(VENV)/ready-dev          ## style, types and all tests, on all processors
	@$(MAKE) --no-print-directory -j 2 lint check

check: $(VENV)/ready-dev         ## the tests alone
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(VENV)/ready-dev     ## the tests that take minutes
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

lint: $(VENV)/ready-dev          ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:           ## remove the virtual environment (not your runs)
	rm -rf $(VENV)

$(VENV)/ready: pyproject.toml
	@echo "installing into $(VENV) (about a minute)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	$(PIP) --editable ".[train,report]"
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(PIP) --editable ".[train,report,dev]"
	@touch $@
