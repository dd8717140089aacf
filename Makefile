# The daily commands. A fresh machine needs python3 (>= 3.11), make and git; `make help` lists all.
PYTHON ?= python3
# Naming an interpreter on the command line makes .venv again if another one made it.
INSIST := $(if $(filter command environment,$(firstword $(origin PYTHON))),--insist)
SETUP := $(PYTHON) -m tools.setup
BIN := .venv/bin
PY := $(BIN)/python
# Files with Python types that no package holds.
LOOSE := tools deploy/demo benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup run test test-nightly lint format bench protos docs container-lint unit-lint lock clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' Makefile

setup:  ## make .venv with everything for run, test and lint
	@$(SETUP) dev $(INSIST)

run:  ## start the service and a real Envoy with the demo policy; ONCE=1 ends after the table
	@$(SETUP) run $(INSIST)
	@$(PY) -m deploy.demo.run $(if $(ONCE),--once)

# Many tests wait for servers: two at a time, each file by one worker. T=... of a few runs them in order.
WORKERS ?= $(if $(T),0,2)

test: setup  ## run every test but the long ones; T=tests/unit for some of them
	$(PY) -m pytest -m "not nightly" --install-packages -n $(WORKERS) --dist loadfile $(T)

test-nightly: setup  ## run the long tests
	$(PY) -m pytest -m nightly --install-packages $(T)

lint: setup container-lint unit-lint  ## check style, types, imports, generated files and deploy/
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases $(LOOSE)
	$(BIN)/lint-imports
	$(PY) -m tools.protos --check
	$(PY) -m tools.docs --check
	$(PY) -m tools.check_tree

format: setup  ## format the code and mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup  ## run every benchmark; ARGS="--quick --json"
	$(PY) -m benchmarks $(ARGS)

protos: setup  ## generate the Python modules from protos/**/*.proto
	$(PY) -m tools.protos

docs: setup  ## generate the reference pages under docs/
	$(PY) -m tools.docs

container-lint: setup  ## check deploy/container/Containerfile
	$(BIN)/hadolint deploy/container/Containerfile

unit-lint: setup  ## check deploy/systemd
	$(PY) -m tools.check_unit

# Locks hold for every platform, with hashes; ARGS=--upgrade takes newer versions, without it only
# what the .in files and pyproject.toml ask for changes.
UV_COMPILE := .venv-uv/bin/uv pip compile -q --universal --python-version 3.11 \
	--generate-hashes --no-header $(ARGS)
lock: setup  ## lock the dependencies again; ARGS=--upgrade for newer versions
	$(UV_COMPILE) requirements/uv.in -o requirements/uv.txt
	$(UV_COMPILE) pyproject.toml requirements/build.in -o requirements/run.txt
	$(UV_COMPILE) pyproject.toml requirements/build.in --group dev -c requirements/run.txt \
		-o requirements/dev.txt

clean:  ## remove the environments and caches, but nothing that git knows
	rm -rf .venv .venv-* .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
