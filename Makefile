# Needs Python 3.11 or newer, git and make; all else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
# So many processes share the tests; WORKERS=0 runs them one after another, in this one.
WORKERS ?= 2
PYTEST := pytest -n $(WORKERS) --dist worksteal

# $(call step,NAME,COMMAND): say what begins, and how long it took.
step = @echo "== $(1)"; start=$$(date +%s); $(2) && echo "== $(1): $$(($$(date +%s) - start)) s"

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1 - \2/p' Makefile

serve: .venv/stamp ## run the server
	$(BIN)/sessile serve

venv: .venv/stamp ## create or renew .venv

.venv/stamp: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

test: .venv/stamp ## run every test, in a random order
	$(BIN)/python -m $(PYTEST)

check: .venv/stamp ## what CI runs: format, lint, bandit, types, imports, tests, coverage
	$(call step,format,$(BIN)/ruff format --check .)
	$(call step,lint,$(BIN)/ruff check .)
	$(call step,bandit,$(BIN)/bandit -q -r -c pyproject.toml src)
	$(call step,mypy,$(BIN)/mypy)
	$(call step,pyright,$(BIN)/pyright)
	$(call step,imports,$(BIN)/lint-imports --no-logo)
	@$(BIN)/coverage erase
	$(call step,tests,$(BIN)/coverage run -m $(PYTEST))
	@$(BIN)/coverage combine -q
	$(call step,coverage of core,$(BIN)/coverage report --include='src/sessile/core/*' --fail-under=100)
	$(call step,coverage,$(BIN)/coverage report --skip-covered --fail-under=90)

bench: .venv/stamp ## measure
	$(BIN)/python -m bench

bench-peers: .venv/stamp ## measure other servers beside Sessile, each in an environment of its own; PEERS=--quick
	$(BIN)/python -m bench.peers $(PEERS)

chaos: .venv/stamp ## kill, pause and cut off nodes for longer; CHAOS="--seed 7 --seconds 600"
	$(BIN)/python -m tests.chaos $(CHAOS)

soak: .venv/stamp ## live simulated worlds for 8 hours; SOAK="0.5 --from 70000": so many, from this seed on
	$(BIN)/python -m tests.simulation --soak $(or $(SOAK),8)

fuzz: .venv/stamp ## as many times the malformed inputs of CI; FUZZ=50
	FUZZ=$(or $(FUZZ),20) $(BIN)/python -m $(PYTEST) --timeout 36000 tests/fuzz

format: .venv/stamp ## format, and mend what the linter can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## remove .venv and what the tools left behind
	rm -rf .venv bench/peers/.venvs build dist htmlcov .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help serve venv test check bench bench-peers chaos soak fuzz format clean
