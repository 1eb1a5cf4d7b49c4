# Needs make and Python 3.11 or newer with venv; everything else goes into .venv. `make help` lists the commands.

CHECK := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
PYTHON ?= $(eval PYTHON := $(shell \
    for name in $(CANDIDATES); do $$name -c '$(CHECK)' >/dev/null 2>&1 && echo $$name && break; done))$(PYTHON)
JOBS ?= 2
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DELETE_ON_ERROR:
.PHONY: help demo test lint bench gallery lock clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' $(MAKEFILE_LIST) | expand -t 14

demo: .venv/demo.stamp  ## train LeNet-5 on MNIST and leave a report in runs/lenet5
	@echo "demo: agrad train lenet5"
	@$(BIN)/agrad train lenet5

test: .venv/test.stamp lint  ## ruff, mypy and the whole test suite
	@echo "test: pytest, $(JOBS) processes"
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: .venv/test.stamp  ## ruff and mypy alone
	@echo "lint: ruff"
	@$(BIN)/ruff check --quiet .
	@echo "lint: mypy"
	@$(BIN)/mypy --no-error-summary

bench: .venv/demo.stamp  ## speed of ops and training steps, beside the frameworks that are installed
	@echo "bench: agrad bench (for comparisons: $(PIP) install torch==2.13.0 jax autograd)"
	@$(BIN)/agrad bench

gallery: .venv/test.stamp  ## run the gallery's notebooks in full (some: ONLY="lenet5 xor_mlp"): runs/gallery/index.html
	@$(BIN)/python notebooks/gallery/build.py $(ONLY)

.venv/%.stamp: requirements/%.lock requirements/data.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer with venv on the PATH" \
	    "(on Debian and Ubuntu: apt install python3-venv), or named: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c '$(CHECK)' 2>/dev/null || { echo \
	    "make: PYTHON=$(PYTHON) is not Python 3.11 or newer with venv (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	@$(BIN)/python -c 'import pip; $(CHECK)' >/dev/null 2>&1 || { echo "setup: making .venv with $$($(PYTHON) -V)"; \
	    $(PYTHON) -m venv --clear .venv; }
	@echo "setup: installing $$(grep -c '==' $<) packages from $< into .venv (once, about a minute)"
	@$(PIP) install --require-hashes --only-binary :all: -r $< && \
	    $(PIP) install --require-hashes --no-deps -r requirements/data.lock && \
	    $(PIP) install --no-index --no-build-isolation --no-deps --editable . || { echo \
	    "make: installing into .venv failed, see above (the first run needs a network; later runs do not)"; exit 1; }
	@touch $@

# Exact versions and hashes for every platform and Python, without addresses: pip takes its own configured index.
# Both locks are solved under the same constraints, so that the demo and the tests run the same versions.
COMPILE = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
    --generate-hashes --no-annotate --custom-compile-command "make lock"
lock:  ## solve the versions in requirements/ again
	@$(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install --quiet uv
	@$(COMPILE) --upgrade pyproject.toml --extra dev --group build -o requirements/test.lock
	@$(COMPILE) pyproject.toml --extra demo --group build -c requirements/test.lock -o requirements/demo.lock
	@$(COMPILE) --upgrade --no-deps --group data -o requirements/data.lock
	@echo "lock: wrote requirements/*.lock"

clean:  ## remove .venv, caches and run folders
	@rm -rf .venv build dist runs *.egg-info .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
