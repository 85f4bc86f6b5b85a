.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python
UV := .venv/bin/uv

.PHONY: help setup demo test check fix airflow bench constraints

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.installed  ## Build .venv with everything, pinned by constraints.txt

# Python 3.12 or newer is needed; .python-version makes pyenv's python3 the right one.
.venv/.installed: pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
	  { echo "Python 3.12 or newer is needed; python3 here is $$(python3 -V). Install it, or put it first on PATH." >&2; exit 1; }
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(UV) pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

constraints:  ## Pin the newest versions that work together into constraints.txt
	test -x $(UV) || { python3 -m venv .venv && .venv/bin/python -m pip install --quiet uv; }
	{ $(UV) pip compile --quiet --upgrade --all-extras --no-header --no-annotate --no-emit-index-url pyproject.toml; \
	  $(UV) --version | awk '{print "uv==" $$2}'; } | sort > constraints.new
	mv constraints.new constraints.txt
