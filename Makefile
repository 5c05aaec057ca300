# Every target sets up what it needs in .venv first. PYTHON chooses the interpreter, VENV the folder.
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 4
FUZZ_SECONDS  ?= 3600
SOAK_SECONDS  ?= 3600
FUZZ_EXAMPLES ?= 1000000
BIN     := $(VENV)/bin
SOURCES := $(wildcard *.py demo.*) $(shell find core protocols tls -name '*.py') pyproject.toml setup.py README.md

help:  ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 12

demo: $(VENV)/.installed  ## serve the demonstration on https://localhost:8443
	$(BIN)/serve --demo --dev-tls --port 8443

test: $(VENV)/.installed $(VENV)/.test-tools  ## run the tests, on the wheel that would be shipped
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(PYTEST_OPTIONS)

coverage: $(VENV)/.installed $(VENV)/.test-tools  ## the same, with coverage and its floor (PYTEST_OPTIONS=--cov-branch: that of branches, half as long again)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing:skip-covered $(PYTEST_OPTIONS)

compiled: $(VENV)/.installed $(VENV)/.test-tools  ## build the compiled variant (docs/compiled.md), and run on it what concerns it
	ALPHORN_COMPILE=1 $(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/compiled $(VENV)/dist/*.tar.gz
	PYTHONPATH=$(VENV)/compiled $(BIN)/python -P -m alphorn --version | grep compiled
	PYTHONPATH=$(VENV)/compiled $(BIN)/pytest -n $(WORKERS) --dist worksteal -W "ignore:the (type, exc, tb) signature" \
		-k "not tls" tests/carriers tests/protocols

fmt: $(VENV)/.lint-tools  ## format, and mend what can be mended
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(VENV)/.lint-tools  ## check format and style
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.lint-tools $(VENV)/.test-tools  ## check types, strictly
	cd .types && ../$(BIN)/mypy --config-file ../pyproject.toml

imports: $(VENV)/.lint-tools  ## check who imports whom
	cd .types && ../$(BIN)/lint-imports --config ../pyproject.toml

compliance: $(VENV)/.installed $(VENV)/.test-tools  ## prove conformance, write docs/compliance.md (half an hour to an hour)
	$(BIN)/python tests/compliance/report.py

attack: $(VENV)/.installed $(VENV)/.test-tools $(if $(PEER),.tools/bench/.installed)  ## attack a server in all ways, write docs/security.md (8 minutes), PEER=uvicorn
	PYTHONPATH=tests $(BIN)/python -P -m attacks $(if $(PEER),--peer $(PEER)) $(if $(ATTACK),--attack $(ATTACK))

fuzz: $(VENV)/.installed $(VENV)/.test-tools  ## fuzz each parser for FUZZ_SECONDS, then HTTP/2 with FUZZ_EXAMPLES of frames
	cd tests && ../$(BIN)/python -m compliance.fuzz $(FUZZ_SECONDS)
	ALPHORN_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest -o timeout=0 tests/protocols/test_http2_any_bytes.py

bench: $(VENV)/.installed .tools/bench/.installed  ## measure beside other servers, BENCH_OPTIONS="--quick --work hello"
	PYTHONPATH=tests $(BIN)/python -P -m benchmarks $(BENCH_OPTIONS)

soak: $(VENV)/.installed $(VENV)/.test-tools  ## load servers with misbehaving clients for SOAK_SECONDS; nothing may be left of it
	ALPHORN_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest -s tests/soak

docs: $(VENV)/.installed $(VENV)/.test-tools  ## write docs/reference.md anew
	$(BIN)/python tests/support/reference.py

all: lint types imports coverage compiled  ## everything that a landing must pass

clean:  ## remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# What is tested is what is shipped: a wheel, built from the sdist rather than from the checkout.
$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	$(BIN)/pip install --quiet build
	rm -rf $(VENV)/dist
	$(BIN)/python -m build --outdir $(VENV)/dist . > $(VENV)/build.log || { cat $(VENV)/build.log; exit 1; }
	$(BIN)/pip install --quiet $(VENV)/dist/*.whl
	$(BIN)/pip install --quiet --no-deps --force-reinstall $(VENV)/dist/*.whl
	touch $@

# Other servers, and what puts them under load, in an environment that nothing else uses.
.tools/bench/.installed: tests/benchmarks/peers-requirements.txt | $(BIN)/python
	$(BIN)/python -m venv .tools/bench
	.tools/bench/bin/pip install --quiet --requirement $<
	touch $@

$(VENV)/.test-tools: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --group test
	touch $@

$(VENV)/.lint-tools: pyproject.toml | $(VENV)/.installed
	$(BIN)/pip install --quiet --group lint
	touch $@

.PHONY: help demo test coverage compiled fmt lint types imports compliance attack fuzz soak bench docs all clean
