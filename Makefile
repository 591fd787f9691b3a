# From a fresh clone, with python3 (3.11 or later, with venv) and make:
#
#   make sample    draw samples from a shipped network into out/sample     (MODEL=… SOLVER=… NFE=… NUM=… SEED=…)
#   make test      the tests                                               (JOBS=… ARGS="-k …")
#   make lint      ruff (lint and format) and basedpyright
#   make docs      the documentation into site/, warnings are errors
#   make studies   the figures of studies/ that are missing, and their pages (an hour for all on a free core)
#   make bench     overhead of the loop, cost of the noise, strong orders at full size
#   make clean     remove outputs and caches;  make distclean  removes .venv too
#
# Each sets up what it needs in .venv, and again when pyproject.toml or constraints.txt changes.
# On Linux without a GPU, constraints.txt says how to have pip take the CPU build of torch.

PYTHON ?= python3
MODEL := mnist-edm
SOLVER := seeds-3
NFE := 60
NUM := 64
SEED := 0
OUT := out
JOBS := 2
ARGS :=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help sample test lint docs studies bench clean distclean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

# Two levels: to run the samplers needs less than to develop them.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

# A rule without prerequisites: only a missing interpreter makes a new environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expint needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0] + ". Choose another: make PYTHON=python3.x")'
	@echo "expint: creating $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

$(RUN): $(PINS) | $(BIN)/python
	@echo "expint: installing the package, torch and matplotlib into $(VENV) (minutes the first time)"
	@$(PIP) install -c constraints.txt -e '.[plot]'
	@touch $@

$(DEV): $(PINS) | $(BIN)/python
	@echo "expint: installing the package and the development tools into $(VENV) (minutes the first time)"
	@$(PIP) install -c constraints.txt -e '.[docs,lint,plot,test,train]'
	@touch $(RUN) $@

sample: $(RUN)
	$(BIN)/expint sample --model $(MODEL) --solver $(SOLVER) --nfe $(NFE) --num $(NUM) --seed $(SEED) --out $(OUT)/sample

# One thread per process: the parallelism is pytest's.
test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

# The theme's announcement about MkDocs 2 is not about this build, which asks for mkdocs<2.
docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python tests/built_site.py site
	@echo "expint: the documentation is in site/"

# One thread: the pages give seconds.
STUDIES := stiffness work_precision noise_decomposition churn networks trajectories \
  rademacher strong_orders best_schedule ornstein_uhlenbeck cld network_paths allen_cahn
studies: $(DEV)
	set -e; for name in $(STUDIES); do OMP_NUM_THREADS=1 $(BIN)/python studies/$$name.py; done
	set -e; for name in $(STUDIES); do $(BIN)/python studies/$$name.py --page; done

bench: $(DEV)
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/noise.py
	$(BIN)/python benchmarks/strong_order.py

clean:
	rm -rf $(OUT) site build dist .pytest_cache .ruff_cache .hypothesis .cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
