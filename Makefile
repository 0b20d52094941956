# make run    the whole exercise on the digits (DATASET=, ANOMALIES=, SEEDS=, DATA=, MODE=offline, FRESH=1, PEEL_HOME=)
# make test   lint, types and tests
# make clean  removes the environment, not the results

DATASET ?= digits
ANOMALIES ?= photos
SEEDS ?= 1
PYTHON ?= python3
BIN := .venv/bin

export PEEL_DATA := $(if $(DATA),$(DATA),$(PEEL_DATA))
ifdef MODE
export WANDB_MODE := $(MODE)
endif

.PHONY: run test lint clean

run: .venv/run
	@$(BIN)/python -m sweeps.exercise --dataset '$(DATASET)' --anomalies '$(ANOMALIES)' --seeds '$(SEEDS)' $(if $(FRESH),--fresh True)

test: lint
	$(BIN)/pytest

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A newer pyproject.toml installs again; an installation that was cut short leaves no mark and starts over.
.venv/run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Peel needs Python 3.11 or newer: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (torch is large: a few minutes the first time)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/test: .venv/run
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'lightly>=1.5'  # its losses, to compare with ours
	@touch $@

clean:
	rm -rf .venv
