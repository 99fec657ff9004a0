# Everything a contributor or a new user does, by name. `make help` lists it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
ONCE ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
# Stamps: a set-up is repeated only when what it was made from has changed.
RUN := $(VENV)/.set-up-to-run
DEV := $(VENV)/.set-up-to-develop
BENCH := $(VENV)/.set-up-to-measure
PROJECTS := pyproject.toml proto/pyproject.toml clients/python/pyproject.toml
# setuptools warns of any editable install; ours is meant.
EDIT := PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --no-deps -e proto -e clients/python -e .
PROTOS := $(wildcard proto/pbac/v1/*.proto)
PROTOC := $(BIN)/python -m grpc_tools.protoc -I proto
# --no-emit-options keeps the addresses that pip is configured with out of the lock files.
LOCK := PYTHONWARNINGS=ignore $(BIN)/pip-compile --quiet --no-header --allow-unsafe --generate-hashes \
	--strip-extras --no-emit-options

# The tests of floors 1 to 3.
COVERED := tests/unit/policy tests/unit/decision \
	$(patsubst %,tests/unit/test_%.py,persistent purpose fieldset merkle canonical transform obligation)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test coverage check proto bench fuzz fault chaos mutants lock clean

help: ## list what there is to make (this)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  ONCE=1 make run             end after the queries instead of serving on"
	@echo "  make test ARGS=tests/unit   only these tests, or any other option of pytest"
	@echo "  make PYTHON=/path/to/python3.11 ...   which Python to set up with"

run: $(RUN) ## a synthetic NPD, a node, and queries with their decisions; then it serves
	@$(BIN)/policyd demo $(if $(filter-out 0,$(ONCE)),--once) $(ARGS)

test: $(DEV) ## every test, with the seconds of each suite and what was skipped
	@$(BIN)/python -m pytest $(ARGS)

# In a run of its own: a tracer would slow, and distort, the tests of servers and of speed.
coverage: $(DEV) ## every branch of floors 1 to 3 is run by the tests of those floors, or it fails
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && export COVERAGE_FILE="$$scratch/data" && \
		$(BIN)/python -m coverage run -m pytest --quiet -p no:cacheprovider $(COVERED) && \
		$(BIN)/python -m coverage report

fault: $(DEV) ## the fault sweeps whole: every byte, every system call (minutes; `make test` takes samples)
	@POLICYD_SWEEPS=whole $(BIN)/python -m pytest -s tests/fault $(ARGS)

chaos: $(DEV) ## seals under load while nodes and connections fail (RUNS=5000 SECONDS=1800 SEED=7)
	@POLICYD_CHAOS_RUNS=$(or $(RUNS),5000) POLICYD_CHAOS_SECONDS=$(or $(SECONDS),1800) \
		POLICYD_CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -s tests/fleet $(ARGS)

check: $(DEV) ## format, lint, types, floors, hygiene, docs, generated code, policy set
	@echo "format"; $(BIN)/ruff format --check --quiet --output-format concise .
	@echo "lint"; $(BIN)/ruff check --quiet --output-format concise .
	@echo "types"; $(BIN)/mypy --no-error-summary
	@echo "generated code"; scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
		$(PROTOC) --python_out="$$scratch" --pyi_out="$$scratch" --grpc_python_out="$$scratch" $(PROTOS) && \
		for made in "$$scratch"/pbac/v1/*; do \
			cmp "$$made" "proto/pbac/v1/$${made##*/}" || { echo "not up to date; run: make proto"; exit 1; }; \
		done
	@echo "policy set"; $(BIN)/policyd policy lint policies/npd && $(BIN)/policyd policy test policies/npd
	@echo "floors, hygiene, docs"; $(BIN)/python -m pytest --quiet -p no:cacheprovider \
		tests/unit/test_floors.py tests/unit/test_hygiene.py tests/unit/test_docs.py

proto: $(DEV) ## generate the Python of proto/pbac/v1, docs/commands.md and the table of docs/conditions.md
	@$(PROTOC) --python_out=proto --pyi_out=proto --grpc_python_out=proto $(PROTOS)
	@$(BIN)/python tools/commands_doc.py
	@$(BIN)/python tools/conditions_doc.py

bench: $(BENCH) ## measure, beside what one would use instead
	@set -e; for script in bench/*.py; do echo "== $$script"; PYTHONPATH=tests $(BIN)/python "$$script"; done

fuzz: $(DEV) ## the two evaluators on a million random field decisions (ARGS="--seed 7")
	@$(BIN)/python tools/fuzz.py --decisions 1000000 $(ARGS)

mutants: $(DEV) ## faults planted one by one where decisions are made (ARGS=policyd/purpose.py: in one file)
	@$(BIN)/python tools/mutants.py $(ARGS)

lock: $(DEV) ## write requirements/*.txt again from *.in (UPGRADE=1: newest versions)
	@for name in build run dev bench; do \
		echo "requirements/$$name.txt"; \
		$(LOCK) $(if $(UPGRADE),--upgrade) --output-file=requirements/$$name.txt requirements/$$name.in || exit 1; \
	done

clean: ## remove the environment, caches and build output; a data directory (.policyd) stays
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -prune -exec rm -rf {} + -o -name '*.egg-info' -prune -exec rm -rf {} +
	@if [ -e .policyd ]; then echo "kept .policyd: it holds keys and a ledger; remove it yourself"; fi

# The two set-ups share one environment; a set-up to develop is one to run as well.
$(RUN): requirements/build.txt requirements/run.txt $(PROJECTS) | $(VENV)/.made
	@echo "setting up $(VENV) to run policyd (locked, hashed packages; once)"
	@$(PIP) --require-hashes -r requirements/build.txt
	@$(PIP) --no-build-isolation --require-hashes -r requirements/run.txt
	@$(EDIT)
	@touch $@

$(DEV): requirements/build.txt requirements/dev.txt $(PROJECTS) | $(VENV)/.made
	@echo "setting up $(VENV) to develop policyd (locked, hashed packages; once)"
	@$(PIP) --require-hashes -r requirements/build.txt
	@$(PIP) --no-build-isolation --require-hashes -r requirements/dev.txt
	@$(EDIT)
	@touch $(RUN) $@

$(BENCH): requirements/bench.txt $(DEV)
	@echo "adding to $(VENV) what the benches compare with (once)"
	@$(PIP) --no-build-isolation --require-hashes -r requirements/bench.txt
	@touch $@

# Optional: the tests of the span export use it when it is there. MVS gives the versions, Go checks their hashes.
$(VENV)/bin/otelcol: tests/support/otelcol/main.go tests/support/otelcol/go.mod | $(VENV)/.made
	@echo "building an OpenTelemetry Collector for the tests (needs Go; once)"
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && cp $^ "$$scratch" && \
		go build -C "$$scratch" -mod=mod -trimpath -buildvcs=false -ldflags '-s -w' -o otelcol . && \
		mv "$$scratch/otelcol" $@

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "no python3 found; install Python 3.11, or: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) does not run or is older than 3.11; name another: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) comes without venv or ensurepip; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv $(VENV)
	@touch $@
