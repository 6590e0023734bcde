PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help worlds venv ablation test test-all check bits browser chaos fuzz cluster ui study bench docs wheel extras oldest newest audit lock

help:  ## list the targets
	@grep -hE '^[a-z -]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

# Which build of torch, for the CPU or for CUDA, is the index's business: what it gives must match a hash of
# the lock, and what the one for CUDA needs beside has a lock of its own.
PIP := $(BIN)/python -m pip
LOCKED := $(PIP) install --quiet --require-hashes --no-deps
.venv/.installed: requirements.lock clusters/cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "got $$($(PYTHON) --version), expected Python 3.11 or later: make venv PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	rm -rf .venv/torch
	$(PIP) download --quiet --no-deps --dest .venv/torch $$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock)
	{ printf %s .venv/torch/*.whl; sed -n '/^torch==/,/[^\]$$/s/ *\(--hash[^ ]*\).*/ \1/p' requirements.lock | tr -d '\n'; } > .venv/torch/locked
	$(LOCKED) -r .venv/torch/locked
	$(LOCKED) -r requirements.lock
	$(BIN)/python -c 'import sys, importlib.metadata as m; sys.exit(sys.platform == "linux" and any("nvidia" in r for r in m.requires("torch")))' || $(LOCKED) -r clusters/cuda.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	rm -rf .venv/torch
	touch $@

venv: .venv/.installed  ## make .venv from the pinned lock

ablation: venv  ## run the LSTM ablation on the bundled prices
	$(BIN)/python -m farm.sweep ablation

# Groups of tests side by side; tests/bounds.py says what is in one. Mypy and the others run beside them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# One process more than cores, since what starts Ray or a server waits much of its time.
ALONGSIDE := -n $(shell expr $$(nproc 2>/dev/null || echo 1) + 1) --maxprocesses 5 --dist loadscope --no-loadscope-reorder
test test-all: venv
	@$(MAKE) --no-print-directory check > .venv/check.log 2>&1 & checks=$$!; \
	$(PYTEST) $(ALONGSIDE) $(if $(filter test-all,$@),-m ''); tests=$$?; \
	wait $$checks && echo "lint, types, floors: ok" || { cat .venv/check.log; exit 1; }; exit $$tests

test:  ## run the checks and the test suite, but for what is slow or needs more than Python
test-all:  ## run every test there is; what this machine lacks something for is skipped by name

check: venv  ## lint, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bits: venv  ## run every sweep very small and keep its forecasts and scores (BASE=COMMIT compares to the bit)
	OMP_NUM_THREADS=1 $(BIN)/python tools/bits.py $(BASE)

browser: venv  ## look at the MLflow UI and the report page in a browser (chromium on the path)
	$(PYTEST) --needed -m browser tests/e2e

chaos: venv  ## kill what a sweep is made of, at random, ten times over (FARM_CHAOS_SEED repeats a round)
	FARM_CHAOS_ROUNDS=$${FARM_CHAOS_ROUNDS:-10} $(PYTEST) --needed -m chaos tests/chaos

fuzz: venv  ## ten thousand hostile sweep files, settings, panels, surfaces, checkpoints and stores
	FARM_FUZZ_EXAMPLES=1250 $(PYTEST) --needed tests/test_hostile.py

cluster: venv  ## bring a cluster up on this machine's namespaces and lose a host (root, openssh-server, rsync)
	$(PYTEST) --needed -m cluster tests/cluster

HOST := 127.0.0.1
PORT := 5000
WORKERS := 4
OTHERS := $(filter-out 127.0.0.1 ::1 localhost,$(HOST))
ui: venv  ## open the MLflow UI on http://127.0.0.1:5000 (HOST=0.0.0.0 lets others in, with a password)
	@test -z "$(OTHERS)" || test -n "$$MLFLOW_AUTH_ADMIN_PASSWORD" || test -f basic_auth.db || { echo "got HOST=$(HOST), which others reach, expected a password: set MLFLOW_AUTH_ADMIN_PASSWORD, that of the user admin" >&2; exit 2; }
	$(if $(OTHERS),MLFLOW_FLASK_SERVER_SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_hex())')) MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --backend-store-uri sqlite:///mlflow.db --host $(HOST) --port $(PORT) --workers $(WORKERS) $(if $(OTHERS),--app-name basic-auth)

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

worlds: venv  ## simulate worlds without a true gain, and count how often the verdict sees one (goes on where it stopped)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.worlds

docs: docs/.venv/.installed  ## build the documentation into site/; a warning or a broken link fails
	docs/.venv/bin/zensical build --clean --strict

docs/.venv/.installed: docs/requirements.lock
	test -x docs/.venv/bin/python || $(PYTHON) -m venv docs/.venv
	docs/.venv/bin/python -m pip install --quiet --require-hashes --no-deps -r docs/requirements.lock
	touch $@

wheel: venv  ## build the source distribution and the wheel into dist/
	rm -rf build dist *.egg-info
	$(BIN)/python -c 'from setuptools import build_meta; build_meta.build_sdist("dist"); build_meta.build_wheel("dist")'

extras: wheel  ## install each extra of the wheel into an environment of its own, and import what it brings
	$(BIN)/python tools/extras.py dist/*.whl

# The oldest releases that pyproject.toml allows, and the newest.
oldest: OLDEST := sed -nE '/^(dependencies|dev)/,/^]/s/^ *"([A-Za-z0-9-]+)(\[[^]]*\])?>=([0-9.]+).*/\1==\3/p' pyproject.toml
oldest newest:  ## run the test suite with the oldest, or the newest, releases that pyproject.toml allows
	rm -rf .venv-$@ && $(PYTHON) -m venv .venv-$@
	$(if $(OLDEST),$(OLDEST),true) > .venv-$@/constraints
	.venv-$@/bin/python -m pip install --quiet -c .venv-$@/constraints -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-$@/bin/python -m pytest $(ALONGSIDE)

audit: .venv-audit/bin/pip-audit  ## look every pinned release up among those with known holes (asks the index)
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps $(foreach lock,requirements.lock clusters/requirements.lock clusters/cuda.lock docs/requirements.lock,-r $(lock))

.venv-audit/bin/pip-audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit

FREEZE := .venv-lock/bin/python -m pip freeze --all --exclude ablation-farm --exclude pip
LOCK := .venv-lock/bin/python tools/lock.py
lock: SHELL := bash
lock: .SHELLFLAGS := -eo pipefail -c
lock:  ## resolve the newest allowed versions anew and write the locks, with hashes
	@test -n "$$PIP_INDEX_URL" || { echo "got no PIP_INDEX_URL, expected the index whose hashes are locked: set it" >&2; exit 2; }
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0 setuptools
	.venv-lock/bin/python -m pip install --quiet '.[dev]'
	$(FREEZE) | sed 's/+cpu$$//' > .venv-lock/project
	.venv-lock/bin/python -m pip install --quiet '.[cluster]' -c .venv-lock/project
	$(FREEZE) | sed 's/+cpu$$//' | grep -vxFf .venv-lock/project > .venv-lock/node
	PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= .venv-lock/bin/python -m pip install --quiet --dry-run --ignore-installed --report .venv-lock/cuda.json -c .venv-lock/project torch
	.venv-lock/bin/python -c 'import json; print(*(each["metadata"]["name"] + "==" + each["metadata"]["version"] for each in json.load(open(".venv-lock/cuda.json"))["install"]), sep="\n")' | grep -ixvFf .venv-lock/project > .venv-lock/cuda
	$(LOCK) $(wildcard $(addsuffix /*.whl,$(PIP_FIND_LINKS))) < .venv-lock/project > .venv-lock/requirements.lock
	$(LOCK) < .venv-lock/node > .venv-lock/requirements-node.lock
	$(LOCK) < .venv-lock/cuda > .venv-lock/cuda.lock
	mv .venv-lock/requirements.lock requirements.lock
	mv .venv-lock/requirements-node.lock clusters/requirements.lock
	mv .venv-lock/cuda.lock clusters/cuda.lock
	rm -rf .venv-lock
