# Everything runs in a virtual environment made here; only Python 3.11 or newer is needed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test soak check format schemas compiled bench up clean

help: ## Show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml services/headgate/__init__.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/it" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	@echo "installing Headgate and its tools into $(VENV)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e ".[dev]"
	@touch $@

demo: $(VENV)/.ready ## Boot, train two models, deploy, send real images, show what happened (ARGS=--exit stops at the end)
	@$(BIN)/python -m headgate.demo $(ARGS)

test: $(VENV)/.ready ## Run all tests (ARGS="-k name" picks some)
	@$(BIN)/python -m pytest $(ARGS)

soak: $(VENV)/.ready ## Run the long proofs: millions of requests, kills at random (ARGS="-k name" picks some)
	@$(BIN)/python -m pytest -m soak $(ARGS)

check: $(VENV)/.ready ## Lint, format check and type check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.ready ## Put all files into the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schemas: $(VENV)/.ready ## Write the JSON Schemas, the subject table and the AsyncAPI document
	@$(BIN)/python -m headgate.schemas $(ARGS)

compiled: $(VENV)/.ready ## Make machine code of the scoring path (needs a C compiler; ARGS=--remove goes back)
	@$(BIN)/python -m headgate.compile $(ARGS)

bench: $(VENV)/.ready ## Compare speed with other servers, or run scenarios (ARGS="--quick --save")
	@$(BIN)/python -m loadtests $(ARGS)

up: $(VENV)/.ready ## Start Headgate (ARGS="--port 8900 --http ...")
	@$(BIN)/headgate up $(ARGS)

clean: ## Remove what was built here (data folders stay)
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
