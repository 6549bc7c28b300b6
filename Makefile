# citywatch: what to do with a checkout. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
#: Further words for pytest, make test ARGS="-k lifecycle -x", and for `citywatch up`: make run ARGS="--seed 7"
ARGS ?=
#: Of the console; none: CITYWATCH_CONSOLE__PORT, else 8080
PORT ?=

WEB := console/web
NPM := ../../tools/npm.sh
BOARDS := docker/grafana/check
ASYNCAPI := tools/asyncapi
WEB_SOURCES := $(wildcard $(WEB)/src/* $(WEB)/public/* $(WEB)/*.json $(WEB)/*.mjs)

.PHONY: help setup run run-real web web-test web-wire test test-slow check bench prove chaos generate wheelhouse clean
.PHONY: check-lint check-format check-types check-imports check-contracts check-rules check-rule-tests check-dashboards check-asyncapi

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install what requirements.lock pins, hashes checked (PYTHON=... chooses another Python)

$(STAMP): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON). Say where Python 3.11 or newer is: make setup PYTHON=/path/to/python3.12" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "citywatch needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" -V 2>&1). Say which: make setup PYTHON=python3.12" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP) $(WEB)/dist/index.html ## a living city in this terminal, and its console at http://127.0.0.1:8080 (PORT=8090 chooses another port)
	@$(BIN)/citywatch up $(if $(PORT),--port $(PORT)) $(ARGS)

run-real: $(STAMP) $(WEB)/dist/index.html ## the same on Apache Kafka and InfluxDB as processes, their data kept in var/ (says in one line what is missing)
	@$(BIN)/citywatch up --real $(if $(PORT),--port $(PORT)) $(ARGS)

web: $(WEB)/dist/index.html ## build the console's page (with Node 20, or one from PyPI where there is none)

$(WEB)/node_modules/.ready: $(WEB)/package-lock.json $(WEB)/.npmrc tools/npm.sh | $(STAMP)
	cd $(WEB) && $(NPM) ci --silent
	@touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.ready $(WEB_SOURCES)
	cd $(WEB) && $(NPM) run --silent build

web-test: $(WEB)/node_modules/.ready $(STAMP) ## the page's types, style and unit tests, and that it knows the server's JSON
	cd $(WEB) && $(NPM) run --silent types && $(NPM) run --silent lint && $(NPM) run --silent test
	PYTHONPATH=. $(BIN)/python tools/wire_schema.py | (cd $(WEB) && $(NPM) run --silent wire -- --check)

$(BOARDS)/node_modules/.ready: $(BOARDS)/package-lock.json $(BOARDS)/.npmrc tools/npm.sh | $(STAMP)
	cd $(BOARDS) && ../../../tools/npm.sh ci --silent
	@touch $@

check-dashboards: $(BOARDS)/node_modules/.ready # by Grafana's own types, for those who have npm; and that the check finds what is wrong
	cd $(BOARDS) && ../../../tools/npm.sh run --silent check -- --wrong

$(ASYNCAPI)/node_modules/.ready: $(ASYNCAPI)/package-lock.json $(ASYNCAPI)/.npmrc tools/npm.sh | $(STAMP)
	cd $(ASYNCAPI) && ../npm.sh ci --silent
	@touch $@

check-asyncapi: $(ASYNCAPI)/node_modules/.ready # by AsyncAPI's own parser, for those who have npm; and that the check finds what is wrong
	cd $(ASYNCAPI) && ../npm.sh run --silent check && ../npm.sh run --silent test

web-wire: $(WEB)/node_modules/.ready $(STAMP)
	PYTHONPATH=. $(BIN)/python tools/wire_schema.py | (cd $(WEB) && $(NPM) run --silent wire)

test: $(STAMP) ## the fast tests (3 minutes at most; ARGS="..." goes to pytest)
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(STAMP) ## the slow tests: recorded input, real Kafka (java, mvn), workers that are killed
	$(BIN)/python -m pytest -m slow -ra $(ARGS)

check: check-lint check-format check-types check-imports check-contracts check-rules check-rule-tests ## style, types, imports, contracts, rules (make -k check: all that is wrong)

check-lint: $(STAMP)
	$(BIN)/ruff check .
check-format: $(STAMP)
	$(BIN)/ruff format --check .
check-types: $(STAMP)
	$(BIN)/mypy
check-imports: $(STAMP)
	$(BIN)/lint-imports
check-contracts: $(STAMP)
	$(BIN)/citywatch schemas check
	$(BIN)/citywatch dashboards check
check-rules: $(STAMP)
	$(BIN)/citywatch rules lint
check-rule-tests: $(STAMP)
	$(BIN)/citywatch rules test

bench: $(STAMP) ## events/s of judging and storing beside the same jobs on bare aiokafka, in one run
	$(BIN)/python -m bench

prove: $(STAMP) ## 2,000 drawn episodes of every kind of rule against the oracle, cut anywhere, in any order (goes on where it was stopped)
	$(BIN)/python -m bench.prove $(ARGS)

chaos: $(STAMP) ## kill workers and brokers of real Kafka and InfluxDB, and compare with the truth (goes on where it was stopped; var/chaos.csv)
	$(BIN)/python -m bench.chaos $(ARGS)

generate: $(STAMP) ## write docs/schemas, docs/asyncapi.yaml and docker/grafana/dashboards from the models
	$(BIN)/citywatch schemas write
	$(BIN)/citywatch dashboards write

wheelhouse: $(STAMP) $(WEB)/dist/index.html ## dist/wheelhouse: wheels of citywatch and all it needs, for a machine without internet (docs/running.md)
	rm -rf dist/wheelhouse
	PYTHON=$(CURDIR)/$(BIN)/python deploy/wheelhouse.sh dist/wheelhouse

clean: ## remove caches and builds (.venv stays, and var/ with your data)
	rm -rf $(WEB)/build $(WEB)/dist $(WEB)/node_modules $(BOARDS)/build $(BOARDS)/node_modules $(ASYNCAPI)/node_modules
	rm -rf build dist .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
