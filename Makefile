# All set-up happens here: `make demo` and `make test` need Python 3.11+, make and git, nothing else.
# A target that is up to date installs nothing again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Which build of PyTorch: from a folder of wheels where pip has been given one, otherwise the one that
# fits this machine (`make install TORCH=` takes what the package index offers).
TORCH ?= $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend auto)
# Nothing that is run here reports its use to anybody.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# Where this is set, every process that is started here would compile this project's modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: install
install: $(INSTALLED) ## Make the virtual environment with the pinned versions

# --compile-bytecode: where PYTHONDONTWRITEBYTECODE is set, every process would otherwise compile
# every import again, which costs seconds each time.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode \
		-c constraints.txt $(TORCH) --editable '.[flights,net,redis]' --group dev
	@touch $@

.PHONY: demo
demo: install ## Run the whole graph on the real flights data, then print a summary
	$(BIN)/mlops demo

.PHONY: search
search: install ## The same with the whole declared search of parameters (ten minutes)
	$(BIN)/mlops demo --full-search

.PHONY: ui
ui: install ## Start Dagster's UI and MLflow's on this project, until Ctrl-C
	$(BIN)/mlops up

.PHONY: test
test: install browser redis-server ## Run all tests, browser tests included; Ray's are `make test-ray`
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
		--ignore tests/serving/on_ray

.PHONY: test-ray
test-ray: ray ## Run the tests of the model server on a real Ray cluster of two nodes
	$(BIN)/pytest tests/serving/on_ray

.PHONY: check
check: install lint types layers sql docs-links ## Lint, types, layers, SQL, dbt parse, links in docs

.PHONY: lint
lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: install
	$(BIN)/mypy

.PHONY: layers
layers: install
	$(BIN)/lint-imports

.PHONY: sql
sql: install
	$(BIN)/dbt --quiet parse --project-dir dbt_project --profiles-dir dbt_project
	$(BIN)/sqlfluff lint --processes 2 dbt_project/models dbt_project/tests

.PHONY: docs-links
docs-links: install
	$(BIN)/python -m tests.docs_links README.md docs

.PHONY: format
format: install ## Format Python and SQL
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/sqlfluff fix dbt_project/models dbt_project/tests

.PHONY: dbt-docs
dbt-docs: install ## Generate dbt's documentation of the models into dbt_project/target
	$(BIN)/dbt docs generate --project-dir dbt_project --profiles-dir dbt_project

.PHONY: browser
browser: install ## Find a Chromium for the browser tests, or install one
	@$(BIN)/python -m tests.browser.chromium

.PHONY: redis-server
redis-server: install ## Find a Redis server for the tests of the online store, or install one
	@$(BIN)/python -m tests.features.online.redis_server

# An extra of its own: what needs no Ray need not wait for it.
RAY_INSTALLED := $(VENV)/.ray-installed
.PHONY: ray
ray: $(RAY_INSTALLED) ## Install Ray, for the model server on several machines and its tests

$(RAY_INSTALLED): $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode \
		-c constraints.txt --editable '.[ray]'
	@touch $@

.PHONY: benchmarks
benchmarks: install ## Measure ours against the peers, side by side
	@for script in benchmarks/*.py; do \
		[ $$script = benchmarks/measure.py ] || $(BIN)/python $$script || exit 1; done

.PHONY: clean
clean: ## Remove the demo's state; the environment stays
	rm -rf .mlops dbt_project/target
