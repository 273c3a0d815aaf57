# Every target makes and fills a private .venv by itself; Python 3.11 or later is all it takes.
#   make PYTHON=/path/to/python3 test     chooses the interpreter
#   make test ARGS="-k vmap"              passes arguments on

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-emulator lint types bench clean

VENV := .venv
RUN := $(VENV)/bin/python
STAMPS := $(VENV)/stamps
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check
ARGS ?=

# The first candidate that starts, is new enough and can make environments. A name on PATH proves
# nothing: version managers leave stand-ins there that only print an error.
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)
PROBE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# Tests of the core that between them meet every kind of kernel and of program, in some minutes.
ON_EMULATOR := $(addprefix tests/,checkpoint nn numpy/test_shapes.py numpy/test_cumulative.py numpy/test_updates.py \
  composition/test_pairs_and_triples.py composition/test_cupy_seam.py)

help:
	@echo "make demo    train a classifier, print the cookbook's figures, save a picture"
	@echo "make test    run the test suite on all cores"
	@echo "make test-emulator  a part of it on an emulated GPU; ARGS=tests for all"
	@echo "make lint    ruff: rules and formatting"
	@echo "make types   pyright"
	@echo "make bench   benchmarks; ARGS names the cases"
	@echo "make clean   remove the environment, builds and caches"

demo: $(STAMPS)/main
	@$(RUN) -m autodiff.demo $(ARGS)

test: $(STAMPS)/main
	@$(RUN) -m pytest -n auto --dist worksteal $(ARGS)

test-emulator: $(STAMPS)/main
	@$(RUN) -m pytest -n auto --dist worksteal --device emulator $(or $(ARGS),$(ON_EMULATOR))

lint: $(STAMPS)/lint
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: $(STAMPS)/main $(STAMPS)/lint
	@$(RUN) -m pyright --pythonpath $(RUN) $(ARGS)

bench: $(STAMPS)/main $(STAMPS)/bench
	@$(RUN) -m bench.run $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c '$(PROBE)' >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$("$$candidate" --version)."; \
	    "$$candidate" -m venv --clear $(VENV) && mkdir -p $(STAMPS) && touch $@; exit; \
	  fi; \
	done; \
	echo "make: needs Python 3.11 or later with the venv module, got none among: $(CANDIDATES)." >&2; \
	echo "To fix: install one (Debian, Ubuntu: apt install python3 python3-venv), or name it:" >&2; \
	echo "  make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	exit 1

# The first stamp installs the library, the others add what their targets need.
$(STAMPS)/main: $(STAMPS)/venv pyproject.toml
	@echo "Installing the library with its test and demo tools into $(VENV) (once; a minute or two)."
	@$(INSTALL) --editable '.[test,test-cuda,demo]'
	@touch $@

$(STAMPS)/lint: $(STAMPS)/venv pyproject.toml
	@echo "Installing the linter and the type checker into $(VENV)."
	@$(INSTALL) --editable '.[lint]'
	@touch $@

$(STAMPS)/bench: $(STAMPS)/venv pyproject.toml
	@echo "Installing the benchmark tools into $(VENV)."
	@$(INSTALL) --editable '.[bench]'
	@touch $@
