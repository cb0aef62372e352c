PYTHON ?= python3
BIN := .venv/bin

.venv/stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[all,dev]'
	touch $@

.PHONY: venv
venv: .venv/stamp
