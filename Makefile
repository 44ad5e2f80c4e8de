# make            lists the targets
# make demo       the whole experiment on drawn streets, from nothing
# make test       the tests
# make demo TORCH_INDEX=URL    takes PyTorch from there, such as its build for CPUs, before the rest from elsewhere
VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check
SEGBENCH := $(PYTHON) -m segbench

.DEFAULT_GOAL := help
.PHONY: help demo test chaos check fmt bench image clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

demo: $(VENV)/installed  ## both architectures through search, promotion and report, on drawn streets (about 4 minutes)
	$(SEGBENCH).search --protocol demo --keep-weights
	$(SEGBENCH).promote --protocol demo
	$(SEGBENCH).report --protocol demo

test: $(VENV)/developer  ## the tests (4 minutes on two cores)
	$(PYTHON) -m pytest -n logical --dist worksteal

chaos: $(VENV)/developer  ## the demo killed a hundred times, compared with one left alone
	$(PYTHON) -m tests.faults.chaos --kills 100 --seed 0

check: $(VENV)/developer  ## linter, formatter, import contract and type checker
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(VENV)/bin/lint-imports --no-cache
	$(PYTHON) -m mypy

fmt: $(VENV)/developer  ## format the code, and fix what the linter can
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

bench: $(VENV)/developer  ## ours against what a user would write instead, in turn (about 20 minutes)
	$(PYTHON) -m benchmarks.bench
	$(PYTHON) -m benchmarks.architectures
	$(PYTHON) -m benchmarks.crops
	$(PYTHON) -m benchmarks.disk
	$(PYTHON) -m benchmarks.ledger
	$(PYTHON) -m benchmarks.serving

image:  ## the API's and the page's container images, with docker, podman or buildah (docs/deploy.md)
	@for engine in docker podman buildah; do \
		if $$engine info >/dev/null 2>&1; then \
			set -ex; export BUILDAH_FORMAT=docker; \
			$$engine build --target api --tag segbench $(IMAGE) .; \
			$$engine build --target page --tag segbench-page $(IMAGE) .; \
			exit; \
		fi; \
	done; echo "make image needs docker, podman or buildah, and none of them answers here; see docs/deploy.md" >&2; exit 1

clean:  ## remove the virtual environment and what tools left behind; storage/ and reports/ stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "segbench needs Python 3.11 or newer; this is " + sys.version)'
	python3 -m venv $(VENV)

# What is installed already, pip leaves as it is.
$(VENV)/torch: deploy/torch.txt | $(VENV)/bin/python
	$(if $(TORCH_INDEX),$(PIP) --index-url "$(TORCH_INDEX)" --requirement $<)
	@touch $@

$(VENV)/installed: pyproject.toml | $(VENV)/torch
	$(PIP) --editable .
	@touch $@

$(VENV)/developer: pyproject.toml | $(VENV)/torch
	$(PIP) --editable '.[dev]'
	@touch $(VENV)/installed $@
