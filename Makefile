# What a contributor or a CI runs. Needs make, a POSIX shell and Python 3.11 to 3.13, nothing else:
# the environment is made in $(VENV) and holds versions pinned in constraints.txt.
#
# There is one environment with one editable install: an edit takes effect at once, and trying the
# program and testing it cannot disagree. That a wheel holds what an editable install finds in the
# checkout (weights, prompts) is a test of its own.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BATTLES ?= examples/battles.csv
PREDICTIONS ?= predictions.csv

BIN := $(VENV)/bin
# The version is part of the stamps' names: another PYTHON makes the environment anew.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
MADE := $(VENV)/.made-$(VERSION)
BASE := $(VENV)/.base-$(VERSION)
TEST := $(VENV)/.test-$(VERSION)
BENCH := $(VENV)/.bench-$(VERSION)
DEV := $(VENV)/.dev-$(VERSION)
METADATA := setup.cfg pyproject.toml constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

# A recipe that fails leaves no stamp behind that says it worked.
.DELETE_ON_ERROR:
# Two installs into one environment must not run at once.
.NOTPARALLEL:
.PHONY: help score test test-fast lint format weights bench hooks constraints clean

help:
	@echo 'make score        install, score $(BATTLES), write $(PREDICTIONS)'
	@echo 'make test         install, then every check and test; what CI runs'
	@echo 'make test-fast    the tests that are not marked slow'
	@echo 'make lint         ruff and mypy'
	@echo 'make format       put the code into shape'
	@echo 'make weights      fit the weights that the statistical judge ships with'
	@echo 'make bench        measure the judge beside its peers'
	@echo 'make hooks        install the pre-commit hooks'
	@echo 'make constraints  pin the newest versions in constraints.txt'
	@echo 'make clean        remove what make made'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python; it is $(PYTHON) now.'

score: $(BASE)
	$(BIN)/arena-judge score $(BATTLES) -o $(PREDICTIONS) --show 20

test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(TEST)
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow'

lint: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

weights: $(TEST)
	$(BIN)/python scripts/train_statistical.py $(ARGS)

bench: $(BENCH)
	$(BIN)/python -m scripts.bench.quality $(ARGS)
	$(BIN)/python -m scripts.bench.elsewhere $(ARGS)
	$(BIN)/python -m scripts.bench.speed $(ARGS)
	$(BIN)/python -m scripts.bench.memory $(ARGS)

hooks: $(DEV)
	$(BIN)/pre-commit install

$(MADE):
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	    echo 'make: $(PYTHON) is not there; install Python 3.11, 3.12 or 3.13, or name one:' \
	        'make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo 'make: $(PYTHON) is Python $(VERSION), and 3.11, 3.12 or 3.13 is needed; name one:' \
	        'make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo 'make: $(PYTHON) cannot make an environment, its venv and ensurepip are missing;' \
	        'on Debian and Ubuntu: apt-get install python3-venv (or python$(VERSION)-venv)' >&2; \
	    exit 1; }
	@echo 'Making $(VENV) with Python $(VERSION)'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(BASE): $(MADE) $(METADATA)
	@echo 'Installing arena-judge into $(VENV)'
	@$(INSTALL) .
	@touch $@

$(TEST): $(MADE) $(METADATA)
	@echo 'Installing arena-judge and what its tests need into $(VENV)'
	@$(INSTALL) '.[test]'
	@touch $@ $(BASE)

$(BENCH): $(MADE) $(METADATA)
	@echo 'Installing arena-judge and the peers it is measured beside into $(VENV)'
	@$(INSTALL) '.[bench]'
	@touch $@ $(BASE)

$(DEV): $(MADE) $(METADATA)
	@echo 'Installing arena-judge and what its developers need into $(VENV)'
	@$(INSTALL) '.[dev]'
	@touch $@ $(TEST) $(BASE)

# Resolved afresh on the oldest Python, whose versions hold on the newer ones as well.
constraints:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	    echo 'make: pins are made on the oldest Python: make PYTHON=python3.11 constraints' >&2; \
	    exit 1; }
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && \
	"$$scratch/bin/python" -m pip install --quiet --disable-pip-version-check \
	    -e '.[dev,bench]' && \
	sed -n '/^#/p' constraints.txt >"$$scratch/constraints.txt" && \
	"$$scratch/bin/python" -m pip freeze --all --exclude pip --exclude wheel \
	    --exclude arena-judge >>"$$scratch/constraints.txt" && \
	cp "$$scratch/constraints.txt" constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f $(PREDICTIONS) $(PREDICTIONS).unjudged.csv
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
