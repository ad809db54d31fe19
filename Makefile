# Needs make and a Python >= 3.11; everything else is installed into .venv* beside this file.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# Further arguments for pytest, e.g. make test ARGS="-k export -x".
ARGS ?=
# A folder with Airflow's constraint files, airflow-3.3.1.txt and airflow-2.11.2.txt; only `make lock` reads it.
CONSTRAINTS ?=

VENV := $(CURDIR)/.venv
VENV_211 := $(CURDIR)/.venv-2.11
VENV_SDK := $(CURDIR)/.venv-sdk
VENV_DOCS := $(CURDIR)/.venv-docs
UV := $(VENV)/bin/uv
READY := $(VENV)/.ready
READY_211 := $(VENV_211)/.ready
READY_SDK := $(VENV_SDK)/.ready
READY_DOCS := $(VENV_DOCS)/.ready

# The user's AWS account and Airflow stay out of it: no setting, no credential, no ~/airflow.
# Even `import airflow` writes to AIRFLOW_HOME.
$(foreach name,$(filter AWS_% AIRFLOW_% _AIRFLOW_%,$(.VARIABLES)),$(eval unexport $(name)))
export AWS_CONFIG_FILE := /dev/null
export AWS_SHARED_CREDENTIALS_FILE := /dev/null
export AWS_EC2_METADATA_DISABLED := true
export AIRFLOW_HOME := $(CURDIR)/.cache/airflow
# A virtual environment that happens to be active must not be taken for ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# Airflow and the tests start hundreds of processes, each of which would compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-batch up down test test-e2e test-all test-2.11 test-sdk test-openlineage test-moto check format docs docs-links bench side-by-side invented-answers \
    example-responses mutation lock clean install

# A target's comment begins with ##, its group and its description.
help:
	@for group in try:'Try it' test:Test measure:Measure maintain:Maintain; do \
	  echo "$${group#*:}"; \
	  awk -v group="##$${group%%:*} " '/^[a-z0-9.-]+:/ && (start = index($$0, group)) \
	    {printf "  make %-18s%s\n", substr($$0, 1, index($$0, ":") - 1), substr($$0, start + length(group))}' $(MAKEFILE_LIST); \
	done

demo: $(READY)  ##try Autopilot job to predictions, offline; ends with a table
	@exec $(VENV)/bin/python -m airflow_sm_plugin.local.stack.demo

demo-batch: $(READY)  ##try Sixty models, one endpoint, a batch; ends with a table, a report
	@exec $(VENV)/bin/python -m airflow_sm_plugin.local.stack.demo --dag multi_model_batch \
	  --set multi_model_capacity=24 --set multi_model_load_seconds=0.4

up: $(READY)  ##try Start Airflow and SageMaker, or check those that run
	@exec $(VENV)/bin/python -m airflow_sm_plugin.local.stack.demo --up

down:  ##try Stop what make up started; its state is kept
	@if [ -x $(VENV)/bin/python ]; then exec $(VENV)/bin/python -m airflow_sm_plugin.local.stack.demo --down; fi

# How long each test took stays in .cache/junit*.xml.
test: $(READY)  ##test The tests, without most that need a running Airflow
	$(TEST) --junitxml=.cache/junit.xml -m "not slow" $(ARGS)

test-all: $(READY)  ##test All tests under Airflow 3.3
	$(TEST) --junitxml=.cache/junit-all.xml $(ARGS)

test-e2e: $(READY)  ## The slow tests with a running Airflow, without the table of kills
	$(TEST) --junitxml=.cache/junit-e2e.xml -m slow tests/e2e tests/demo tests/dags --ignore=tests/e2e/test_kill_table.py $(ARGS)

TEST = $(VENV)/bin/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder --ignore=tests/benchmarks \
    --durations=0 --durations-min=5

# Only these can be imported there: the others need the extra `local`, which Airflow 2.11's environment has not.
ON_211 = $(shell grep -rlE 'mark\.airflow\b' tests --include='test_*.py' | sort)

test-2.11: $(READY) $(READY_211)  ##test What is marked `airflow` under Airflow 2.11
	AIRFLOW_SM_LOCAL_PYTHON=$(VENV)/bin/python AIRFLOW_HOME=$(CURDIR)/.cache/airflow-2.11 \
	  $(VENV_211)/bin/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder -p no:cacheprovider -m "airflow and not slow" \
	  --durations=0 --durations-min=5 --junitxml=.cache/junit-2.11.xml $(ON_211) $(ARGS)

test-sdk: $(READY_SDK)  ##test AWS CLI and SageMaker SDK 2.x, without Airflow
	$(VENV_SDK)/bin/python -m pytest -p no:cacheprovider --junitxml=.cache/junit-sdk.xml tests/clients $(ARGS)

test-openlineage: $(READY)  ## What OpenLineage gets, with Airflow's OpenLineage provider
	$(INSTALL) --target .cache/openlineage --no-deps -r requirements/openlineage.txt
	$(VENV)/bin/python -m pytest -p no:cacheprovider tests/test_lineage.py $(ARGS)

# What moto's own tests import beside what it needs itself.
test-moto: $(READY)  ##test Moto's own tests of S3, SQS and SNS
	$(INSTALL) --target .cache/moto/packages --no-deps -r requirements/moto-tests.txt
	$(VENV)/bin/python -m tests.moto.suites $(ARGS)

check: $(READY)  ##test Format, lint and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(READY)  ##test Format, and fix what the linter can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# Warnings are errors: a page that no page lists, a link within the site that leads nowhere, a snippet that is gone.
docs: $(READY_DOCS)  ##maintain Build the documentation in .cache/docs/html
	$(SPHINX) -b html docs .cache/docs/html $(ARGS)

docs-links: $(READY_DOCS)  ##maintain Check the documentation's links to other sites
	$(SPHINX) -b linkcheck docs .cache/docs/links $(ARGS)

SPHINX = $(VENV_DOCS)/bin/python -m sphinx --fail-on-warning --keep-going --quiet --jobs auto -d .cache/docs/doctrees

bench: $(READY)  ##measure The figures of docs/benchmarks.md
	$(VENV)/bin/python -m pytest $(wildcard tests/benchmarks/bench_*.py) -p no:cacheprovider --timeout=1200 -s $(ARGS)

install: $(READY)  ##maintain Only install into .venv

clean: down  ##try Remove all that make made, the state of make up too
	rm -rf .venv .venv-2.11 .venv-sdk .venv-docs .cache .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: done once, and again when a list of pins or the project's own metadata changes.
# Byte-compiled at once: Airflow starts dozens of processes, each of which would compile again where the
# environment forbids Python to write bytecode.
INSTALL = $(UV) pip install --quiet --compile-bytecode
PROJECT = $(UV) pip install --quiet --no-deps --no-build-isolation --editable .

$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; set PYTHON=")'
	@echo "Installing into .venv, about a minute …"
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/uv.txt
	@touch $@

$(READY): $(UV) requirements/airflow-3.3.txt pyproject.toml
	@begun=$$SECONDS; echo "  Airflow, the embedded SageMaker and the tools of the tests …"; \
	  $(INSTALL) --python $(VENV)/bin/python -r requirements/airflow-3.3.txt; \
	  $(PROJECT) --python $(VENV)/bin/python; \
	  echo "  installed after $$((SECONDS - begun)) s"
	@touch $@

# Airflow 2.11 knows Python up to 3.12: the main environment's, or else one that uv finds or fetches.
UP_TO_312 = $$($(VENV)/bin/python -c 'import sys; print(sys.executable if sys.version_info < (3, 13) else ">=3.11,<3.13")')

$(READY_211): $(UV) requirements/airflow-2.11.txt pyproject.toml
	[ -x $(VENV_211)/bin/python ] || $(UV) venv --quiet --no-project --python "$(UP_TO_312)" $(VENV_211)
	$(INSTALL) --python $(VENV_211)/bin/python -r requirements/airflow-2.11.txt
	$(PROJECT) --python $(VENV_211)/bin/python
	@touch $@

$(READY_SDK): $(UV) requirements/sagemaker-sdk.txt pyproject.toml
	[ -x $(VENV_SDK)/bin/python ] || $(UV) venv --quiet --no-project --python $(VENV)/bin/python $(VENV_SDK)
	$(INSTALL) --python $(VENV_SDK)/bin/python -r requirements/sagemaker-sdk.txt
	$(PROJECT) --python $(VENV_SDK)/bin/python
	@touch $@

# Autodoc imports what it describes: Airflow and the extra `local` are there as well.
$(READY_DOCS): $(UV) requirements/airflow-3.3.txt requirements/docs.txt pyproject.toml
	[ -x $(VENV_DOCS)/bin/python ] || $(UV) venv --quiet --no-project --python $(VENV)/bin/python $(VENV_DOCS)
	$(INSTALL) --python $(VENV_DOCS)/bin/python -r requirements/airflow-3.3.txt -r requirements/docs.txt
	$(PROJECT) --python $(VENV_DOCS)/bin/python
	@touch $@

# The pins. Airflow's constraints hold, save for what the embedded SageMaker and the tools need newer.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links
NEWER := apache-airflow|boto|aiobotocore|moto|aiohttp==|s3transfer|numpy|scikit|scipy|werkzeug|[Ff]lask|rich|ruff|mypy|pytest|hypothesis|types-|hatchling|editables

# What to install for it, and how its data file is made, says tests/mutation/check.py.
mutation: $(READY)  ##test Plant thirty faults: the tests have to find 28
	$(VENV)/bin/python -m tests.mutation.check --contexts .cache/contexts $(ARGS)

side-by-side: $(READY)  ##measure Compare with the provider; writes docs/side-by-side.md
	AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL $(VENV)/bin/python -m tests.docs.side_by_side

invented-answers: $(READY)  ##maintain Write docs/embedded-sagemaker.md's list
	$(VENV)/bin/python -m tests.docs.invented_answers

example-responses: $(READY)  ##maintain Write docs/response-keys.md's list
	$(VENV)/bin/python -m tests.docs.example_responses

lock: $(UV)  ##maintain Pin the dependencies again
	@[ -n "$(CONSTRAINTS)" ] || { echo "say make lock CONSTRAINTS=<folder with airflow-<version>.txt>" >&2; exit 2; }
	mkdir -p .cache
	grep -vE '^($(NEWER))' $(CONSTRAINTS)/airflow-3.3.1.txt > .cache/constraints-3.3.txt
	$(COMPILE) pyproject.toml requirements/airflow-3.3.in --extra local --group dev \
	  -c .cache/constraints-3.3.txt -o requirements/airflow-3.3.txt
	$(COMPILE) requirements/airflow-2.11.in -c $(CONSTRAINTS)/airflow-2.11.2.txt -o requirements/airflow-2.11.txt
	$(COMPILE) requirements/sagemaker-sdk.in -o requirements/sagemaker-sdk.txt
	$(COMPILE) requirements/docs.in -c requirements/airflow-3.3.txt -o requirements/docs.txt
