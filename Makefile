# The project's own commands. `make demo` and `make test` need only Python 3.11+ and make.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: help install demo test lint types layers unit simulation simulate simulate-many shrink mutate proto proto-check apiserver helm manifests bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): pyproject.toml requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

install: $(STAMP)  ## everything into .venv

demo: $(STAMP)  ## two whole clusters on this machine, peered and shown
	$(BIN)/peerd demo

test: $(STAMP) lint types layers proto-check apiserver helm unit simulation  ## lint, types, layers, generated code, all tests, a thousand seeds

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

# Always the same thousand: a run is judged by what was changed, not by luck. New ones: `make simulate-many`.
TESTED_SEEDS := 1000
TESTED_FROM := 20261121
simulation: $(STAMP)
	$(BIN)/python -m tests.simulation.simulate --seeds $(TESTED_SEEDS) --from $(TESTED_FROM) --workers $(WORKERS)

SEEDS ?= 100
FROM ?= 0
SEED ?= 1
SLICE ?= 1/1
simulate: $(STAMP)  ## seeded histories of whole clusters: SEEDS=n, from a random one on; FROM=k replays
	$(BIN)/python -m tests.simulation.simulate --seeds $(SEEDS) --from $(FROM) --workers $(WORKERS)

simulate-many: $(STAMP)  ## a thousand new ones; everything that can happen must happen
	$(BIN)/python -m tests.simulation.simulate --seeds 1000 --workers $(WORKERS)

shrink: $(STAMP)  ## make a failing history shorter: SEED=n
	$(BIN)/python -m tests.simulation.shrink $(SEED)

mutate: $(STAMP)  ## break peerd in a hundred places and see who notices: SLICE=i/n; not a part of `make test`
	$(BIN)/python -m tests.simulation.mutate --slice $(SLICE)

proto: $(STAMP)  ## generate peerd/api from api/*.proto
	$(BIN)/python api/generate.py peerd/api

proto-check: $(STAMP)  ## prove that peerd/api is what api/*.proto gives
	$(BIN)/python api/generate.py --check peerd/api

apiserver: $(STAMP)  ## kube-apiserver and etcd for tests, with Go, once; kept in .cache/apiserver
	@$(BIN)/python -m tests.support.go_build apiserver

helm: $(STAMP)  ## helm for the charts' tests, with Go, once; kept in .cache/helm
	@$(BIN)/python -m tests.support.go_build helm

manifests: helm  ## render manifests/base from the chart
	$(BIN)/python manifests/render.py

bench: $(STAMP)  ## `make bench` lists the benchmarks, `make bench NAME=x` runs one
	@$(BIN)/python -m bench $(NAME)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
