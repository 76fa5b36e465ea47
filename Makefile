# make demo    from nothing to a finished report       make test     every test
# make check   what CI runs: lint, types, contracts, notebooks, tests
# make bench   the long accuracy and speed runs        make samples  record profiles/ and sample_runs/ anew
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := out/demo

.PHONY: demo test lint check bench samples clean
.DELETE_ON_ERROR:

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "perfkit needs Python 3.11 or later: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/ready
	rm -rf $(DEMO)
	$(BIN)/perfkit record --scenario heap_leak_sessions -o $(DEMO)/heap_leak_sessions
	$(BIN)/perfkit report $(DEMO)/heap_leak_sessions -o $(DEMO)/report.html --quiet >/dev/null
	@echo
	@$(BIN)/perfkit check $(DEMO)/heap_leak_sessions; test $$? -le 1
	@echo
	@echo "open $(CURDIR)/$(DEMO)/report.html"

test: $(VENV)/ready
	.ci/system-packages
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

check: lint test

bench: $(VENV)/ready
	$(BIN)/python benchmarks/run.py

samples: $(VENV)/ready
	$(BIN)/python -m perfkit.samples

clean:
	rm -rf $(VENV) out dist .mypy_cache .ruff_cache .pytest_cache
