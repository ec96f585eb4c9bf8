# `make demo` and `make test` are all that a newcomer needs. Both make .venv and install into it what is missing, once:
# the stamp file says that what pyproject.toml and constraints.txt ask for is there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
SOURCES := knowscope_tui scripts benchmarks tests examples

.DEFAULT_GOAL := help
.PHONY: help demo test lint format screenshot clean

help:
	@echo "make demo        open the microscope on the embedded demo model"
	@echo "make test        linters, import contracts, types and tests"
	@echo "make lint        the same without the tests"
	@echo "make format      lay the code out"
	@echo "make screenshot  draw docs/screenshot.svg"
	@echo "make clean       remove .venv and what the checks left behind"
	@echo
	@echo "PYTHON=python3.12 chooses an interpreter (3.10 or later), WORKERS=8 the test processes."

demo: $(STAMP)
	@$(BIN)/knowscope-tui open

test: lint
	@echo "==> tests"
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile

lint: $(STAMP)
	@echo "==> linter"
	@$(BIN)/ruff check $(SOURCES)
	@echo "==> layout"
	@$(BIN)/ruff format --check $(SOURCES)
	@echo "==> import contracts"
	@$(BIN)/lint-imports --no-logo
	@echo "==> types"
	@$(BIN)/mypy

format: $(STAMP)
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

screenshot: $(STAMP)
	@$(BIN)/python scripts/screenshot.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
	find knowscope_tui scripts tests -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "knowscope-tui needs Python 3.10 or later and '$(PYTHON)' is not: name one, as in make PYTHON=python3.12." >&2; \
		exit 1; }
	@echo "==> making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python cannot make a virtual environment here: on Debian and Ubuntu, apt install python3-venv." >&2; \
		exit 1; }

# The build backends (ours, and that of dependencies that come as source alone) come first and from the constraints too,
# so that nothing unpinned runs.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "==> installing (PyTorch is large: the first time takes some minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt hatchling editables setuptools
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(STAMP)
