PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help venv ablation test check browser chaos fuzz cluster ui study bench docs lock

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "got $$($(PYTHON) --version), expected Python 3.11 or later: make venv PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

venv: .venv/.installed  ## make .venv from the pinned lock

ablation: venv  ## run the LSTM ablation on the bundled prices
	$(BIN)/python -m farm.sweep ablation

test: check  ## run the checks and the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

check: venv  ## lint, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

browser: venv  ## look at the MLflow UI and the report page in a browser (chromium on the path)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/e2e

chaos: venv  ## kill what a sweep is made of, at random, ten times over (FARM_CHAOS_SEED repeats a round)
	FARM_CHAOS_ROUNDS=$${FARM_CHAOS_ROUNDS:-10} OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m chaos tests/chaos

fuzz: venv  ## ten thousand hostile sweep files, settings, panels, surfaces, checkpoints and stores
	FARM_FUZZ_EXAMPLES=1250 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_hostile.py

cluster: venv  ## bring a cluster up on this machine's namespaces and lose a host (root, openssh-server, rsync)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster tests/cluster

HOST := 127.0.0.1
PORT := 5000
OTHERS := $(filter-out 127.0.0.1 ::1 localhost,$(HOST))
ui: venv  ## open the MLflow UI on http://127.0.0.1:5000 (HOST=0.0.0.0 lets others in, with a password)
	@test -z "$(OTHERS)" || test -n "$$MLFLOW_AUTH_ADMIN_PASSWORD" || test -f basic_auth.db || { echo "got HOST=$(HOST), which others reach, expected a password: set MLFLOW_AUTH_ADMIN_PASSWORD, that of the user admin" >&2; exit 2; }
	$(if $(OTHERS),MLFLOW_FLASK_SERVER_SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_hex())')) $(BIN)/mlflow server --backend-store-uri sqlite:///mlflow.db --host $(HOST) --port $(PORT) $(if $(OTHERS),--app-name basic-auth)

# A page about several sweeps, and those whose networks it looks into.
SWEEPS_forecast := ablation probabilistic latent final
STATES_forecast := ablation latent

study: venv  ## run the sweeps of a study and refresh its page in docs/studies (NAME=backfill)
	for sweep in $(or $(SWEEPS_$(NAME)),$(NAME)); do $(BIN)/python -m farm.sweep $$sweep || exit; done
	for sweep in $(STATES_$(NAME)); do $(BIN)/python -m farm.latent_space $$sweep || exit; done
	test ! -f search_spaces/$(NAME)_report.py || $(BIN)/python -m farm.sweep $(NAME)_report
	test $(NAME) != latent || $(BIN)/python docs/factor_numbers.py
	$(BIN)/python docs/refresh.py $(NAME)

bench: venv  ## measure speed, and write docs/performance.md (ROW=overhead; DATA=panel.parquet MARKET=SPY)
	$(BIN)/python -m benchmarks $(ROW) $(if $(DATA),--data $(DATA) --neuralforecast) $(if $(MARKET),--market $(MARKET))

docs: docs/.venv/.installed  ## build the documentation into site/; a warning or a broken link fails
	docs/.venv/bin/zensical build --clean --strict

docs/.venv/.installed: docs/requirements.lock
	test -x docs/.venv/bin/python || $(PYTHON) -m venv docs/.venv
	docs/.venv/bin/python -m pip install --quiet -r docs/requirements.lock
	touch $@

lock:  ## resolve the newest allowed versions anew and write requirements.lock
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0 setuptools
	.venv-lock/bin/python -m pip install --quiet '.[dev]'
	.venv-lock/bin/python -m pip freeze --all --exclude farm --exclude pip | sed 's/+cpu$$//' > requirements.lock
	.venv-lock/bin/python -m pip install --quiet '.[cluster]' -c requirements.lock
	.venv-lock/bin/python -m pip freeze --all --exclude farm --exclude pip | sed 's/+cpu$$//' | grep -vxFf requirements.lock > clusters/requirements.lock
	rm -rf .venv-lock
