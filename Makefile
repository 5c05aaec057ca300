# Every target sets up what it needs in .venv first. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SOURCES := $(wildcard *.py) demo.html demo.css demo.js $(shell find core protocols tls -name '*.py') pyproject.toml README.md
WORKERS ?= 2

help:           ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16

demo: $(VENV)/.installed  ## serve the demonstration over TLS on https://localhost:8443
	$(BIN)/serve --demo --dev-tls --port 8443

test: $(VENV)/.tested-wheel  ## install the wheel built from the sdist, run the tests
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(PYTEST_OPTIONS)

coverage: $(VENV)/.tested-wheel  ## the same with branch coverage and its floor
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing:skip-covered $(PYTEST_OPTIONS)

fmt: $(VENV)/.lint      ## format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(VENV)/.lint     ## check format and lint
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.lint    ## mypy --strict
	cd .types && ../$(BIN)/mypy --config-file ../pyproject.toml

imports: $(VENV)/.lint  ## who may import whom
	cd .types && ../$(BIN)/lint-imports --config ../pyproject.toml

docs: $(VENV)/.installed  ## regenerate docs/reference.md
	$(BIN)/python tests/support/reference.py

all: lint types imports coverage  ## everything that gates a landing

clean:          ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.installed: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install --quiet .
	touch $@

$(VENV)/.tools: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --group test build
	touch $@

$(VENV)/.lint: $(SOURCES) $(VENV)/.tools
	$(BIN)/pip install --quiet --group lint
	$(BIN)/pip install --quiet --no-deps --editable .
	rm -f $(VENV)/.tested-wheel $(VENV)/.installed
	touch $@

# What is tested is what is shipped: a wheel, built from the sdist rather than from the checkout.
$(VENV)/.tested-wheel: $(SOURCES) $(VENV)/.tools
	rm -rf dist build
	$(BIN)/python -m build --outdir dist . > $(VENV)/build.log || (cat $(VENV)/build.log; exit 1)
	$(BIN)/pip install --quiet dist/*.whl
	$(BIN)/pip install --quiet --no-deps --force-reinstall dist/*.whl
	rm -f $(VENV)/.lint
	touch $@

.PHONY: help demo test coverage fmt lint types imports docs all clean
