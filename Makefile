# Targets are single words. Everything is installed into .venv inside the clone; `make PYTHON=… venv` chooses the Python.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# In order of preference. A Python that does not run or lacks venv is skipped.
PYTHONS := python3.11 python3 python3.13 python3.12 python3.10 /usr/bin/python3.11 /usr/bin/python3

bin := .venv/bin
pip := $(bin)/python -m pip --disable-pip-version-check --no-input
# Print the output of a command only if it fails.
quietly = out=$$($(1) 2>&1) || { echo "$$out" >&2; exit 1; }

# Each stamp is written last, so that an interrupted step runs again. The first stamp holds the path of the clone and
# the name of the Python: .venv is recreated if either changes.
made := .venv/.made
tools := .venv/.tools
was := $(strip $(shell cat $(made) 2>/dev/null))
ifneq ($(strip $(CURDIR) $(or $(PYTHON),$(lastword $(was)))),$(was))
$(made): FORCE
endif

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

$(made): pyproject.toml
	@python=; \
	for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'make: openai2 needs Python 3.10 or newer, with its venv module (on Debian: python3-venv).' >&2; \
	  echo 'make: tried: $(or $(PYTHON),$(PYTHONS)). Name one: make PYTHON=/path/to/python venv' >&2; \
	  exit 1; \
	fi; \
	echo "creating .venv with $$($$python -V)"; \
	"$$python" -m venv --clear .venv; \
	$(call quietly,$(pip) install 'pip>=25.1'); \
	$(call quietly,$(pip) install --editable .); \
	echo '$(CURDIR)' "$$python" > $@

$(tools): $(made)
	@echo 'installing the tools for lint, types and tests into .venv'
	@$(call quietly,$(pip) install --group dev)
	@touch $@

.PHONY: venv
venv: $(tools) ## create .venv with openai2 (editable) and its tools

.PHONY: demo
demo: $(made) ## a guided run of the command, without a key
	@$(bin)/openai2 demo

.PHONY: words
words: $(made) ## collect the texts, compile the translations, print the missing ones
	@$(bin)/python -m tests.support.catalogues

.PHONY: lint
lint: $(tools) ## ruff: rules and format
	@$(bin)/ruff check --quiet
	@$(call quietly,$(bin)/ruff format --diff)

.PHONY: format
format: $(tools) ## format the code, sort imports, apply safe fixes
	@$(bin)/ruff check --quiet --fix-only
	@$(bin)/ruff format --quiet

.PHONY: types
types: $(tools) ## mypy and pyright, both strict
	@$(bin)/mypy --no-error-summary
	@$(call quietly,$(bin)/basedpyright --warnings --pythonpath $(bin)/python)

.PHONY: test
test: lint types ## lint, types and tests
	@$(bin)/python -m pytest --quiet --numprocesses=auto --maxprocesses=8

.venv/.bench: $(made)
	@echo 'installing the tools for benchmarks into .venv'
	@$(call quietly,$(pip) install --group bench)
	@touch $@

.PHONY: bench
bench: .venv/.bench ## measure against the floors: table, JSON and plots in build/benchmarks
	@$(bin)/python -m benchmarks.run

.PHONY: torture
torture: $(tools) ## the tests that take minutes
	@$(bin)/python -m pytest --quiet --numprocesses=auto --maxprocesses=8 -m torture

.PHONY: wheel
wheel: $(tools) ## build the wheel and test it without the source
	@$(bin)/python tests/support/wheel.py

.PHONY: chromium
chromium:
	@command -v chromium chromium-browser google-chrome chrome >/dev/null && exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo 'make: no Chromium is installed (on Debian: apt-get install chromium).' >&2; exit 1; \
	fi; \
	echo 'installing chromium'; \
	$(call quietly,apt-get update && apt-get install --yes --no-install-recommends chromium fonts-noto-cjk)

.PHONY: page
page: $(tools) chromium ## the HTML page, driven in a headless Chromium
	@$(bin)/python -m pytest --quiet -m browser tests/browser

.PHONY: images
images: $(tools) chromium ## redraw docs/images
	@$(bin)/python -m tests.browser.screenshots

.PHONY: clean
clean: ## remove everything that make and the tools created
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: FORCE
FORCE:
