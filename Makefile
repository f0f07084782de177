# lookforward. `make help` lists what there is; `make demo` and `make test` set everything up by themselves.
#
#   PYTHON       the interpreter for the environment, 3.11 or newer (default: python3)
#   TORCH_INDEX  a package index to take torch from (default: chosen by tools/install.sh, which never
#                brings CUDA packages to a machine without an NVIDIA GPU)
#   LOCKED       1: install what locks/ lists, and check the hash of every file

PYTHON ?= python3
TORCH_INDEX ?=
LOCKED ?=
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

export PYTHON TORCH_INDEX LOCKED

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env demo test test-slow torture fuzz coverage lint format docs dist lock audit sbom

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## */  make \1|/' | awk -F'|' '{printf "%-17s %s\n", $$1, $$2}'

env: $(VENV)/.installed-dev  ## the environment with everything for development

demo: $(VENV)/.installed  ## personalise the bundled model on the bundled photos: demo/sheet.png, demo/table.md
	$(BIN)/lookforward demo

test: lint  ## format, lint, types, import contracts, tests
	@echo "== tests, on $(WORKERS) cores"
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -q

test-slow: $(VENV)/.installed-dev  ## the tests that take longer: every golden run, kills at every file change, clusters
	@echo "== slow tests, on $(WORKERS) cores"
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -q -m slow

torture: $(VENV)/.installed-dev  ## kills, failing disks, flipped bits, hostile files, in numbers: a table (10 minutes)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m torture --workers $(WORKERS) $(TORTURE)

fuzz: $(VENV)/.installed-fuzz  ## ten minutes of made-up files for every reader, guided by coverage: what breaks one
	PYTHONPATH=tests $(BIN)/python -m fuzz --workers $(WORKERS) $(FUZZ)

coverage: $(VENV)/.installed-dev  ## which lines the tests run: a table, and htmlcov/index.html
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -q --cov --cov-report=term --cov-report=html

lint: $(VENV)/.installed-dev  ## format, lint, types, import contracts
	@echo "== format"
	$(BIN)/ruff format --check --output-format concise .
	@echo "== lint"
	$(BIN)/ruff check .
	@echo "== types"
	$(BIN)/pyright
	@echo "== import contracts"
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## write the pages that come from the code, and build the documentation into site/
	$(BIN)/python -m lookforward.cli.reference docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(VENV)/.installed-dev  ## both distributions, as wheels, into dist/
	$(BIN)/hatchling build --target wheel --directory $(CURDIR)/dist
	cd toybox && $(CURDIR)/$(BIN)/hatchling build --target wheel --directory $(CURDIR)/dist

lock: $(VENV)/.installed-audit  ## locks/: every package with its hashes, for each supported Python; after a change of constraints.txt
	tools/lock.sh

audit:  ## known vulnerabilities in the locked packages; a note where they cannot be looked up
	@echo "== known vulnerabilities"
	tools/audit.sh

sbom: $(VENV)/.installed-audit  ## dist/lookforward.cdx.json: what lookforward consists of, in CycloneDX's format
	mkdir -p dist
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file dist/lookforward.cdx.json locks/python$(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt

# A stamp tells that the environment is complete. The files it depends on are what decides its content.
INSTALL := pyproject.toml toybox/pyproject.toml constraints.txt tools/install.sh

$(VENV)/.installed: $(INSTALL)
	@echo "== environment"
	tools/install.sh $(VENV)
	@touch $@

$(VENV)/.installed-dev: $(INSTALL)
	@echo "== environment, for development"
	tools/install.sh $(VENV) dev
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-audit: $(INSTALL)
	@echo "== environment, for locks and audits"
	tools/install.sh $(VENV) audit
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-fuzz: tests/fuzz/requirements.txt $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/fuzz/requirements.txt
	@touch $@

$(VENV)/.installed-docs: $(INSTALL)
	@echo "== environment, for documentation"
	tools/install.sh $(VENV) docs
	@touch $@ $(VENV)/.installed
