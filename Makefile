# Everything runs in .venv, which is made here and made again when pyproject.toml changes.
# Needed: Python >= 3.11 with pip, and make. PYTHON=/path/to/python3.12 chooses another Python.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

BIN := .venv/bin
READY := .venv/ready
PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3.11 python3 python3.12 python3.13)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start some hundred programs: each would compile all of router/ anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show what can be made.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(READY) ## Start everything with simulated models, route 2,000 prompts, show what happened.
	@$(BIN)/pointsman demo

.PHONY: demo-trap
demo-trap: $(READY) ## A cheap model gets worse for one kind of task: who notices, and when. Three minutes.
	@$(BIN)/pointsman demo-trap

.PHONY: test
test: lint schemacheck doccheck pytest ## Lint, types, layers, generated files and every test, on a real Kafka.

.PHONY: lint
lint: style types layers linters ## Everything that is checked without running it.

.PHONY: bench
bench: $(READY) ## Measure this machine: rates and latencies beside their references.
	@$(BIN)/pointsman bench

.PHONY: chaos
chaos: $(READY) ## Everything that stresses, half an hour at most: faults, overload, tenants, hostile input, an upgrade, a short soak.
	@$(BIN)/python -m benchmarks.chaos $(CHAOS)

.PHONY: sbom
sbom: $(READY) ## Write build/sbom.json: everything that is installed, with versions and licences (CycloneDX).
	@mkdir -p build
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --no-validate --of JSON -o build/sbom.json $(BIN)/python

.PHONY: audit
audit: $(READY) ## Ask for known weaknesses of what is installed; says so where the network does not let it.
	@$(BIN)/python -m benchmarks.audit_dependencies

.PHONY: schemas
schemas: $(READY) ## Write schemas/ from router/contract.
	$(BIN)/python -m router.contract.schema

.PHONY: docs
docs: $(READY) ## Write docs/config.md from router/config.py.
	$(BIN)/python -m router.config

.PHONY: clean
clean: ## Remove the virtual environment, caches and build results. What is in var/ stays.
	rm -rf .venv .venv.lock build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The parts of lint and test; each can be called by itself.
.PHONY: style types layers linters schemacheck doccheck pytest

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

# Of containers and scripts; each linter comes as a wheel.
linters: $(READY)
	$(BIN)/hadolint --config docker/hadolint.yaml docker/Dockerfile
	$(BIN)/yamllint --strict --config-file docker/yamllint.yaml docker
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml
	$(BIN)/shellcheck .ci/run

schemacheck: $(READY)
	$(BIN)/python -m router.contract.schema --check

doccheck: $(READY)
	$(BIN)/python -c 'from router.config.show import reference_markdown as text; print(text(), end="")' | diff -u docs/config.md -

# Two processes: what shares an installation is in one of them (tests/conftest.py), the rest in whichever is free. no_skips: a test that did not run
# is a test that failed.
pytest: $(READY)
	PYTHONPATH=tests/plugins $(BIN)/python -m pytest -p no_skips -n 2 --dist loadscope $(PYTEST)

# The version is in the installed metadata, so a new one is installed too. Two makes at once: the second waits.
# A virtual environment without a working pip was interrupted while it was made, or its Python is gone: made anew.
$(READY): pyproject.toml router/__init__.py
	@if command -v flock >/dev/null; then exec 9>.venv.lock; flock 9; fi; \
	if [ -e $(READY) ] && [ ! pyproject.toml -nt $(READY) ] && [ ! router/__init__.py -nt $(READY) ]; then exit 0; fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		found=; \
		for python in $(PYTHONS); do \
			"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
		done; \
		[ -n "$$found" ] || { echo 'make: needs Python 3.11 or newer, found none (PYTHON=/path/to/it names one)' >&2; exit 2; }; \
		"$$found" -c 'import ensurepip, venv' 2>/dev/null || \
			{ echo "make: $$found makes no virtual environments (Debian: apt-get install python3-venv)" >&2; exit 2; }; \
		echo "make: virtual environment .venv with $$("$$found" --version)"; \
		"$$found" -m venv --clear .venv || exit 2; \
	fi; \
	echo 'make: installing pointsman and what it is developed with (half a minute the first time)' && \
	$(BIN)/python -m pip install -e '.[dev]' && touch $(READY)
