# Two commands for a bare machine with Python 3.11 or newer: `make demo` and `make test`. Both set up .venv first, and
# again only when pyproject.toml or constraints.txt have changed. On Linux, PyPI's torch brings gigabytes of CUDA
# libraries; without a GPU, spare them: give PIP_EXTRA_INDEX_URL the index of PyTorch's CPU builds.

PYTHON ?= python3
BIN := .venv/bin

# As variables, the pins hold inside pip's isolated builds too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_PROGRESS_BAR ?= off

.PHONY: demo test clean

demo: .venv/ready
	$(BIN)/nascli train --space resnet --data digits --time-limit 40s --out runs/demo-supernet
	$(BIN)/nascli search --space resnet --data digits --supernet runs/demo-supernet --strategy evolution \
		--objective accuracy --objective macs --objective latency_ms --evaluations 60 --out runs/demo-search

test: .venv/ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis runs/demo-supernet runs/demo-search
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no '$(PYTHON)' here; name a Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "nascli needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); name another: make PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; echo "'$(PYTHON)' can't make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

# torch first and by its exact version: only then does pip take the build that is at hand (CPU, CUDA) for all that follows.
.venv/torch: constraints.txt | $(BIN)/python
	@echo "Installing torch (minutes on a slow line) ..."
	@$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)"
	@touch $@

.venv/ready: pyproject.toml .venv/torch
	@echo "Installing nascli ..."
	@$(BIN)/python -m pip install -q -e .
	@touch $@

.venv/ready-dev: pyproject.toml .venv/torch
	@echo "Installing nascli and what tests it ..."
	@$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@ .venv/ready
