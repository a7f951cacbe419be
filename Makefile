# Two commands do everything, each with its own set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check readme clean

demo: $(READY)  ## a real release, from raw data to a verified publication
	$(BIN)/release-kit demo

test: $(READY)  ## every test, slow ones too
	$(BIN)/python -m pytest

check: $(READY)  ## what to run before each commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

readme: $(READY)  ## write the generated parts of README.md anew
	$(BIN)/python -m tests.readme

clean:
	rm -rf $(VENV) release-kit-demo dist

# The constraints hold versions that were tested together; torch comes first, so that no other
# package pulls another build of it.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("release-kit needs Python 3.11 or newer; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
