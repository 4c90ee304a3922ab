# Everything runs in one virtual environment, made on first use.
#   EASEL_VENV=DIR   where it is          PYTHON=python3.12   the interpreter it is made with
EASEL_VENV ?= .venv
PYTHON ?= python3

BIN := $(EASEL_VENV)/bin
STAMP := $(EASEL_VENV)/.easel-installed
PROTOS := $(wildcard protos/*.proto)

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-all lint format types proto bench audit wheel clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("easel needs Python 3.11 or newer, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(EASEL_VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

install: $(STAMP) ## Make the virtual environment with everything in it

demo: $(STAMP) ## Train together, fit one head, paint photos; PHOTOS=DIR ART=DIR use your own, ARGS=... adds options
	$(BIN)/easel-sim demo $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(ART),--art "$(ART)") $(ARGS)

test: $(STAMP) ## Run the tests, without the slow ones, on two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(ARGS)

test-all: $(STAMP) ## Run all tests, those with real processes too
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## Put imports and formatting right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## Check types, strictly
	$(BIN)/mypy

proto: $(STAMP) ## Generate Python code from protos/*.proto
ifeq ($(PROTOS),)
	@echo "protos/ holds no .proto file, nothing to generate"
else
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)
endif

bench: $(STAMP) ## Measure speed on this machine, side by side with a peer
	$(BIN)/easel-sim bench $(ARGS)

audit: $(STAMP) ## Attack the privacy code and see whether it leaks more than it claims; ARGS=--quick for half a minute
	$(BIN)/easel-sim audit $(ARGS)

wheel: $(STAMP) ## Build dist/easel-*.whl
	$(BIN)/python -m build --wheel

clean: ## Remove what builds and checks leave behind (not runs/, not the virtual environment)
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(EASEL_VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
