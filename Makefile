# make demo    from nothing to a finished report       make test     every test
# make check   what CI runs: lint, types, contracts, notebooks, tests
# make bench   the long accuracy and speed runs        make samples  record profiles/ and sample_runs/ anew
# make bench-pools   what is said about connection pools of real libraries
# make bench-leaks   record 50 leaking and healthy programs and compare the verdicts with the truth
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := out/demo
# Which recordings each notebook is shown on.
leak_root_cause := healthy heap_leak_bodies heap_leak_decoder_cache heap_leak_sessions
gc_tuning := healthy cyclic_garbage manual_collect
pool_lifecycle := healthy checkout_leak
NOTEBOOKS := leak_root_cause gc_tuning pool_lifecycle
SAMPLES := $(sort $(foreach notebook,$(NOTEBOOKS),$($(notebook))))
REPORTS := $(foreach notebook,$(NOTEBOOKS),$(addprefix $(notebook)--,$($(notebook))))

PYTEST := $(BIN)/python -m pytest
# Tests of one file stay together: what the file makes once is made once.
AT_ONCE := --dist loadscope --no-loadscope-reorder
# What fails while other tests compete for the machine is asked once more, alone; it has to pass then.
AGAIN := $(PYTEST) --last-failed --last-failed-no-failures none

.PHONY: demo test lint check bench bench-gc bench-leaks bench-pools samples sample_runs picture clean
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
	$(PYTEST) -m 'not quiet and not recording' $(AT_ONCE) -n 4 || $(AGAIN) -m 'not quiet and not recording'
	$(PYTEST) -m recording $(AT_ONCE) -n 2 || $(AGAIN) -m recording
	$(PYTEST) -m quiet || $(AGAIN) -m quiet

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb

check: lint test

bench: $(VENV)/ready
	$(BIN)/python benchmarks/run.py

bench-pools: $(VENV)/ready
	.ci/system-packages
	$(BIN)/python benchmarks/pools.py

# An hour: LEAKS='--only sessions_without_expiry --duration 30s' for less, LEAKS=--rescore for kept recordings.
bench-leaks: $(VENV)/ready
	$(BIN)/python -m benchmarks.leaks $(LEAKS)

# The right answers about the garbage collector, predicted and measured effects, and false alarms: about 25 minutes.
bench-gc: $(VENV)/ready
	$(BIN)/python -m benchmarks.gc_tuning --experiments --noise 10

# Committed recordings and the reports over them. Record on a quiet machine.
samples: $(VENV)/ready
	set -e; for name in $(SAMPLES); do \
	    rm -rf profiles/$$name; \
	    $(BIN)/perfkit record --scenario $$name -o profiles/$$name; \
	done
	PERFKIT_GOLDEN=write $(BIN)/python -m pytest -q tests/golden
	$(MAKE) sample_runs picture

sample_runs: $(VENV)/ready
	rm -rf sample_runs
	set -e; for report in $(REPORTS); do \
	    notebook=$${report%--*} profile=profiles/$${report#*--} run=sample_runs/$$report; mkdir -p $$run; \
	    $(BIN)/perfkit check $$profile --json >$$run/findings.json || test $$? -eq 1; \
	    $(BIN)/perfkit report $$profile --notebook $$notebook -o $$run/report.html --quiet; \
	done

# The picture in the README: the verdict and the drawn path of one report.
PICTURE := sample_runs/leak_root_cause--heap_leak_sessions/report
picture: $(VENV)/ready
	$(BIN)/python -m tests.browser.picture $(PICTURE).html $(PICTURE).png

clean:
	rm -rf $(VENV) out dist .mypy_cache .ruff_cache .pytest_cache
