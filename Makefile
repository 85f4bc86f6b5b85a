.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
UV := .venv/bin/uv
# Many images of containers set it. Here it would have each of hundreds of processes compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-lowest test-newest test-airflow chaos thorough fuzz check fix airflow bench dist docs \
  reference dandi constraints

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: .venv/.installed  ## Build .venv with everything, pinned by constraints.txt

# .python-version makes pyenv's python3 the right one; elsewhere, say which: make setup PYTHON3=python3.12
PYTHON3 ?= python3

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
	  { echo "Python 3.12 or newer is needed, and $(PYTHON3) is $$($(PYTHON3) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON3=python3.12" >&2; exit 1; }
	@echo "Setting up .venv (about a minute)"
	@$(PYTHON3) -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv 2>/dev/null
	@$(UV) pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

# The user's own folder instead of a simulated acquisition: make demo ACQUISITION=/path/to/session
# After make dandi, what was staged has to be what the DANDI archive takes.
DANDI = $(wildcard .venv-dandi/bin/dandi)
demo: setup  ## From a new acquisition folder to a verified NWB file in S3, on Airflow's own processes
	@$(PYTHON) -m demo $(if $(ACQUISITION),--acquisition "$(ACQUISITION)",$(if $(DANDI),--dandi $(DANDI))) $(DEMO_OPTIONS)

airflow: setup  ## The same stack, which stays until Ctrl-C: web UI, watched folder, S3
	@$(PYTHON) -m demo --stay

# On two cores: one more, for tests that start servers wait a lot. On more cores: make test TEST_PROCESSES=5
TEST_PROCESSES ?= 3

test: setup  ## All tests but make chaos, the end-to-end ones on Airflow's own processes included
	@$(PYTHON) -m pytest -n $(TEST_PROCESSES) --dist loadscope --durations 25 --ignore tests/chaos $(TEST_OPTIONS)

# Environments of their own, beside .venv: the lowest versions that pyproject.toml allows, and the newest that work
# together. What tests need is the newest in both.
RESOLUTION_lowest := lowest-direct
RESOLUTION_newest := highest

test-lowest: ## Unit, contract and DAG tests with the lowest versions that pyproject.toml allows, so the oldest Airflow
test-newest: ## Unit, contract and DAG tests with the newest versions
test-lowest test-newest: test-%: setup
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-$*
	@$(UV) pip compile --quiet --upgrade --resolution $(RESOLUTION_$*) --extra all --no-emit-index-url pyproject.toml \
	  --output-file .venv-$*/versions.txt
	@$(UV) pip install --quiet --upgrade --python .venv-$*/bin/python --constraint .venv-$*/versions.txt \
	  --editable '.[all,dev]'
	@.venv-$*/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadscope --durations 25 -m 'not stack' \
	  --ignore tests/chaos --ignore tests/demo $(TEST_OPTIONS)

# Another version of Airflow, in an environment of its own: all else stays as constraints.txt has it, where it can.
VERSION ?= 3.1
AIRFLOW_VENV = .venv-airflow-$(VERSION)
PRERELEASES = $(if $(filter-out $(subst b,,$(subst rc,,$(VERSION))),$(VERSION)),--prerelease allow)

test-airflow: setup  ## Unit, contract and DAG tests with another Airflow: make test-airflow VERSION=3.1
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(AIRFLOW_VENV)
	@cp constraints.txt $(AIRFLOW_VENV)/versions.txt
	@$(UV) pip compile --quiet --all-extras --no-header --no-annotate --no-emit-index-url $(PRERELEASES) \
	  --python $(AIRFLOW_VENV)/bin/python --constraint <(echo 'apache-airflow==$(VERSION)$(if $(PRERELEASES),,.*)') \
	  --output-file $(AIRFLOW_VENV)/versions.txt pyproject.toml >/dev/null
	@$(UV) pip install --quiet $(PRERELEASES) --python $(AIRFLOW_VENV)/bin/python \
	  --constraint $(AIRFLOW_VENV)/versions.txt --editable '.[all,dev]'
	@$(AIRFLOW_VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadscope --durations 25 -m 'not stack' \
	  --ignore tests/chaos --ignore tests/demo --ignore tests/docs $(TEST_OPTIONS)

# How many, and which: make chaos CHAOS_CONVERSIONS=1000 CHAOS_SEED=3 CHAOS_FOLDERS=10000 CHAOS_AIRFLOWS=1
# A few conversions are a quick look, which leaves out the folders and the trials of Airflow unless they are asked for.
# On a share of your own: make chaos CHAOS_FOLDER=/mnt/share CHAOS_FOLDER_AGAIN=/mnt/again (see docs/safety.md)
chaos: setup  ## Disturb several hundred conversions at random moments, the arrival of 2,000 folders, and Airflow itself
	@CHAOS_CONVERSIONS=$(or $(CHAOS_CONVERSIONS),300) CHAOS_SEED=$(or $(CHAOS_SEED),1) \
	CHAOS_FOLDERS=$(or $(CHAOS_FOLDERS),$(if $(CHAOS_CONVERSIONS),0,2000)) \
	CHAOS_AIRFLOWS=$(or $(CHAOS_AIRFLOWS),$(if $(CHAOS_CONVERSIONS),,1)) $(PYTHON) -m pytest -q -s tests/chaos

# How many places at which each call on an output and each read of a recording fails: make thorough FAILING_CALLS=100
thorough: setup  ## Try all of which make test tries a sample: what the system may answer, kills, 10,000 folders, all makers
	@OPHYS_THOROUGH=1 OPHYS_FAILING_CALLS=$(or $(FAILING_CALLS),10) $(PYTHON) -m pytest -n $(TEST_PROCESSES) \
	  --dist loadscope --durations 25 tests/acquisition/test_many_folders.py tests/contract/test_configurations.py \
	  tests/conversion/test_failing_calls.py tests/e2e tests/recordings/test_failing_reads.py \
	  tests/report/test_faults_of_makers.py tests/s3/test_{clock_jumps,kills}.py $(TEST_OPTIONS)

# How many recordings and metadata together: make fuzz FUZZ_EXAMPLES=1000
fuzz: setup  ## Damage the recordings of every maker and the metadata of sessions at random, 10,000 times
	@OPHYS_FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),10000) $(PYTHON) -m pytest -q -n $(TEST_PROCESSES) \
	  tests/recordings/test_hostile_recordings.py tests/sessions/test_hostile_metadata.py $(TEST_OPTIONS)

check: setup  ## Lint, format, types and spelling
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/codespell airflow_provider_ophys dags demo tests benchmarks docs *.md

fix: setup  ## Mend what lint and format can mend by themselves
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

reference: .venv-reference/.installed  ## neuroconv in an environment of its own, beside which tests/reference writes

.venv-reference/.installed: tests/reference/requirements.txt | setup
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-reference
	@$(UV) pip install --quiet --python .venv-reference/bin/python --requirement $<
	@touch $@

dandi: .venv-dandi/.installed  ## dandi-cli in an environment of its own, by which tests validate what we write

.venv-dandi/.installed: | setup
	@$(UV) venv --quiet --clear --python $(PYTHON) .venv-dandi
	@$(UV) pip install --quiet --python .venv-dandi/bin/python dandi==0.81.0
	@touch $@

bench: setup  ## Time, memory, size, side by side with neuroconv; QUICK=1 is small, ONLY="name ..." some of it
	@$(PYTHON) -m benchmarks $(if $(QUICK),--quick) $(ONLY)

dist: setup  ## Build wheel and sdist into dist/, and check them as a package index does
	@rm -rf dist
	@$(PYTHON) -m hatchling build
	@$(PYTHON) -m twine check --strict dist/*
	@$(PYTHON) -m zipfile --list dist/*.whl
	@tar --list --file dist/*.tar.gz

# The tables of options are made from the code first; a link that leads nowhere is an error.
docs: export AIRFLOW_HOME := $(CURDIR)/.airflow
docs: export AIRFLOW__LOGGING__LOGGING_LEVEL := WARNING
docs: setup  ## Build the documentation as a site, into site/
	@$(PYTHON) docs/option_tables.py
	@$(PYTHON) -m sphinx --fail-on-warning --keep-going --quiet docs site
	@echo "The documentation is in site/index.html"

constraints:  ## Pin the newest versions that work together into constraints.txt
	test -x $(UV) || { $(PYTHON3) -m venv .venv && $(PYTHON) -m pip install --quiet uv; }
	{ $(UV) pip compile --quiet --upgrade --all-extras --no-header --no-annotate --no-emit-index-url pyproject.toml; \
	  $(UV) --version | awk '{print "uv==" $$2}'; } | sort > constraints.new
	mv constraints.new constraints.txt
