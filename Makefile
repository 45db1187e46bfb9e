# Everything from a fresh clone, with nothing but git, make and Python 3.11-3.13:
#
#   make quickstart   train a tiny ELECTRA on text that is already on this machine
#   make test         lint, check types and run the everyday tests
#   make test-all     run every test: then those that are slow or compare with PyTorch (installs it)
#   make test-slow    only the tests that `make test` leaves out
#   make lint         style and formatting: ruff only
#   make typecheck    types: pyright only
#   make format       format the code
#   make benchmarks   speed beside the usual alternatives (installs torch and transformers), memory
#   make clean        remove the virtual environment and caches; data and models stay
#
# Packages go into $(VENV), once: a run after that needs no network unless pyproject.toml changed.
# Another place: make test VENV=/tmp/venv. Another Python: make test BASE_PYTHON=/opt/python3.12

VENV ?= .venv
PYTHON := $(VENV)/bin/python
# Two processes, because most of a test's time is TensorFlow building graphs, on one core. The tests
# of a file share what it builds, so a file stays together; tests/conftest.py puts long files first.
# Each process needs up to 4 GB; `make test PYTEST_ARGS=` runs everything in one.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
# The markers of tests that `make test` leaves out; pyproject.toml says what they mean.
LEFT_OUT := slow or interop

# TensorFlow's start-up notes would bury what the programs print.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help quickstart test test-all test-slow lint typecheck format benchmarks clean

help:
	@sed -n 's/^#   make/make/p' Makefile

quickstart: $(VENV)/.installed-report
	$(PYTHON) examples/quickstart.py

test: lint typecheck
	$(PYTHON) -m pytest $(PYTEST_ARGS) -m "not ($(LEFT_OUT))"

test-all: test
	$(MAKE) test-slow

test-slow: $(VENV)/.installed-test $(VENV)/.installed-interop
	$(PYTHON) -m pytest $(PYTEST_ARGS) -m "$(LEFT_OUT)"

lint: $(VENV)/.installed-test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: $(VENV)/.installed-test
	$(PYTHON) -m ruff format .

# Without the variable, pyright would ask PyPI whether there is a newer one.
typecheck: $(VENV)/.installed-test
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PYTHON) -m pyright --pythonpath $(PYTHON)

benchmarks: $(VENV)/.installed-interop
	$(PYTHON) benchmarks/tokenization.py
	$(PYTHON) benchmarks/dataset.py
	$(PYTHON) benchmarks/input.py
	$(PYTHON) benchmarks/pretraining_step.py
	$(PYTHON) benchmarks/finetuning.py
	$(PYTHON) benchmarks/encode.py
	$(PYTHON) benchmarks/latency.py
	$(PYTHON) benchmarks/distribution.py
	$(PYTHON) benchmarks/memory.py
	$(PYTHON) benchmarks/saving.py
	$(PYTHON) benchmarks/interchange.py

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so that an interrupted install is done again.
$(VENV)/.installed-%: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --disable-pip-version-check -e '.[$*]'
	@touch $@

# A `python3.13` on the path may be a shim that leads nowhere, so each candidate is run. A venv
# needs ensurepip, which Debian and Ubuntu ship in a package of their own.
$(PYTHON):
	@for candidate in $(BASE_PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      >/dev/null 2>&1; then \
	    if $$candidate -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$candidate; break; \
	    else without_venv=$$candidate; fi; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  if [ -n "$$without_venv" ]; then \
	    echo "error: $$without_venv can't make virtual environments." >&2; \
	    echo "  what to do: install its venv package (Debian, Ubuntu: apt install python3-venv)." >&2; \
	  else \
	    echo "error: no Python 3.11, 3.12 or 3.13 found." >&2; \
	    echo "  what to do: install one, or name it: make $(MAKECMDGOALS) BASE_PYTHON=/path/to/python3.13" >&2; \
	  fi; \
	  exit 2; \
	fi; \
	echo "$$found -m venv $(VENV)"; \
	"$$found" -m venv "$(VENV)"
