# Every target makes its own .venv when there is none. PYTHON=… picks the interpreter for it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
STAMP := .venv/.stamp
CODE := $(wildcard client server tests examples benchmarks tools)
ARGS ?=
# Python keeps what it compiled. Without that each server that a test starts would compile Stepwire anew: half its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo demo-cluster test test-slow test-web tail-web test-llamaindex screenshots check lint ruff types imports protos-check protos bench chaos chaos-cluster config docs security soak clean profile conformance model clients

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

venv: $(STAMP) ## make or update .venv

$(STAMP): pyproject.toml constraints.txt tools/make_venv.sh
	@bash tools/make_venv.sh

demo: $(STAMP) ## run the demo
	$(BIN)/python examples/demo.py $(ARGS)

demo-cluster: $(STAMP) ## the demo with three replicas on PostgreSQL, two of which are killed (Debian: postgresql)
	$(BIN)/python -m examples.demo_cluster $(ARGS)

test: $(STAMP) ## run the tests; ARGS go to pytest
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint protos-check test test-slow ## everything that must hold before a merge

test-slow: $(STAMP) ## the tests that take long or install packages
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-web: $(STAMP) ## the console in a real browser (Debian: chromium, chromium-driver)
	$(BIN)/python -m pytest -m web $(ARGS)

tail-web: $(STAMP) ## an hour of live tail in a real browser: the page keeps no more at its end; ARGS: --minutes N, --rate N
	$(BIN)/python -m tests.system.web.live_tail $(ARGS)

test-llamaindex: $(STAMP) ## adopted workflows, in environments with the newest two minor versions of LlamaIndex
	@bash tools/llamaindex_envs.sh $(ARGS)

screenshots: $(STAMP) ## write the pictures of the console in docs/images
	$(BIN)/python -m tests.system.web.screenshots

lint: ruff types imports ## format, ruff, mypy, import-linter

ruff: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy $(CODE)

imports: $(STAMP)
	$(BIN)/lint-imports
	$(BIN)/python tools/circles.py

protos-check: $(STAMP) ## buf lint, format and breaking; generated code is current
	$(BIN)/python tools/protos.py deps
	$(BIN)/buf lint protos
	$(BIN)/buf format protos --path protos/stepwire --diff --exit-code
	$(BIN)/python tools/protos.py breaking
	$(BIN)/python tools/protos.py check
	$(BIN)/python tools/reasons.py check

protos: $(STAMP) ## format the protos, generate client/stepwire/v1 and the reasons of clients
	$(BIN)/python tools/protos.py deps
	$(BIN)/buf format protos --path protos/stepwire --write
	$(BIN)/python tools/protos.py generate
	$(BIN)/python tools/reasons.py

config: $(STAMP) ## write docs/configuration.md from the settings
	$(BIN)/python tools/config.py

profile: $(STAMP) ## what each operation costs a server, by layer, in calls and µs; ARGS: --calls, --functions 40, --write-docs
	$(BIN)/python -m benchmarks.budget $(ARGS)

bench: .venv/.bench ## run the benchmarks; ARGS go to them
	$(BIN)/python -m benchmarks $(ARGS)

# The plot's packages, which nothing else needs.
.venv/.bench: $(STAMP)
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt \
	    --no-build-isolation --editable '.[bench]'
	@touch $@

docs: .venv/.docs ## build the documentation site into build/site; a broken link fails
	$(BIN)/python tools/protos.py deps
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

# The packages of the site, which nothing else needs.
.venv/.docs: $(STAMP)
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt \
	    --no-build-isolation --editable '.[docs]'
	@touch $@

security: $(STAMP) ## the long versions of the tests of security: hours of malformed calls, attacks, slow readers
	STEPWIRE_SECURITY_FULL=1 $(BIN)/python -m pytest tests/system/security tests/unit/server -s $(ARGS)

chaos: $(STAMP) ## kill, cut and fill the server; ARGS: scenarios, --full, --seed N
	$(BIN)/python -m tests.system.chaos $(ARGS)

chaos-cluster: $(STAMP) ## the same with three replicas on PostgreSQL; ARGS: scenarios, --full, --seed N
	$(BIN)/python -m tests.system.chaos.cluster $(ARGS)

soak: $(STAMP) ## load a server for 20 minutes: memory, tasks, files and threads stay; ARGS: --minutes N
	$(BIN)/python -m tests.system.soak $(ARGS)

model: $(STAMP) ## the model test, long, then every defect that it must catch; MODEL_EXAMPLES, MODEL_STEPS
	MODEL_EXAMPLES=$${MODEL_EXAMPLES:-3000} MODEL_STEPS=$${MODEL_STEPS:-60} $(BIN)/python -m pytest tests/unit/model $(ARGS)
	$(BIN)/python -m tests.unit.model.mutants
	$(BIN)/python -m tests.unit.model.family_mutants

clients: $(STAMP) ## build the client packages of other languages, with code generated from the protos
	$(BIN)/python tools/protos.py deps
	$(BIN)/python -m tests.system.conformance --build clients

conformance: $(STAMP) ## every client runs the scenarios, buf curl and grpcurl the recipes; ARGS: --only Go, --bench, --write-docs
	$(BIN)/python -m tests.system.conformance $(ARGS)
	@bash tools/grpcurl.sh
	$(BIN)/python -m pytest tests/system/conformance/test_recipes.py

clean: ## remove everything that make made
	rm -rf .venv build dist protos/.deps .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
