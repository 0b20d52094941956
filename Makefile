# make run    the whole exercise on the digits; STUDY=all makes every study, and a front door to them
#             (STUDY=, DATASET=, NAME=, ANOMALIES=, SEEDS=, DATA=, SKIP_CORRUPT=1, ENCODING=, UNLABELED=1, FRESH=1, MODE=offline, PEEL_HOME=)
# make test   lint, types and tests
# make quick  lint, and the tests that start no process, browser or server: for between two edits
# make faults ten times as many kills, damages and hostile inputs as make test tries, and the table of what was tried
# make bench  what the lab costs, beside the plain way to do the same; wants an idle machine and an hour and a half (DATA=FOLDER with CIFAR-10)
# make newest the online tests with the newest wandb, in an environment of its own; no other check waits for it
# make clean  removes the environment, not the results

STUDY ?= peel
DATASET ?=
ANOMALIES ?= photos
SEEDS ?= 1
PYTHON ?= python3
BIN := .venv/bin

# Some shells have a NAME of their own, which is no data set's.
ifneq ($(origin NAME),command line)
NAME :=
endif

# Paths come with any signs: make is kept from reading a $ in them, and the shell sees none of them but in its environment.
VALUES := STUDY DATASET NAME ANOMALIES SEEDS SKIP_CORRUPT ENCODING UNLABELED FRESH DATA MODE PEEL_DATA PEEL_HOME
$(foreach name,$(VALUES),$(if $(value $(name)),$(eval override $(name) := $$(value $(name)))$(eval export $(name))))
export PEEL_DATA := $(or $(DATA),$(PEEL_DATA))
ifdef MODE
export WANDB_MODE := $(MODE)
endif

.PHONY: run test quick style lint faults bench newest clean

run: .venv/run
	@$(BIN)/python -m sweeps.make --study="$$STUDY" --dataset="$$DATASET" --name="$$NAME" --anomalies="$$ANOMALIES" --encoding="$$ENCODING" --seeds="$$SEEDS" \
		$(if $(SKIP_CORRUPT),--skip-corrupt True) $(if $(UNLABELED),--unlabeled True) $(if $(FRESH),--fresh True)

# The order of the files is that of tests/conftest.py; xdist's own, by their numbers of tests, deals the longest last.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: style
	@$(BIN)/mypy >.venv/types 2>&1 & types=$$!; \
	$(PYTEST); tests=$$?; \
	wait $$types; found=$$?; cat .venv/types; \
	if [ $$found -ne 0 ]; then echo 'make test: mypy failed, see above; make lint repeats it' >&2; exit $$found; fi; \
	exit $$tests

quick: style
	$(PYTEST) -m 'not process and not slow'

faults: .venv/test
	$(BIN)/pytest --full -rP tests/faults

bench: .venv/test
	@$(BIN)/python -m tests.bench

newest: .venv/test
	@test -x .venv-newest/bin/python || $(BIN)/python -m venv .venv-newest
	@$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > "$$(.venv-newest/bin/python -c 'import site; print(site.getsitepackages()[0])')/all-else.pth"
	@PIP_CONSTRAINT= .venv-newest/bin/pip install --quiet --disable-pip-version-check --upgrade wandb
	.venv-newest/bin/python -m pytest tests/whole/test_online.py tests/whole/test_publish.py

style: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
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
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'torchmetrics>=1.6' lightning-utilities 'diffusers==0.35.*' 'huggingface-hub==0.36.*'  # the same for measures of samples, and samplers
	@touch $@

clean:
	rm -rf .venv .venv-newest
