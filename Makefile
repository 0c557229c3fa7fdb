# Everything runs in a virtual environment made here: .venv with the newest supported Python of
# this machine, or .venv-3.11 and the like with the one that PYTHON= names.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help fuzz test lint bench mutants clean FORCE
MAKEFLAGS += --no-builtin-rules

ifeq ($(PYTHON),)
VENV := .venv
else
VENV := .venv-$(firstword $(shell .ci/find-python "$(PYTHON)"))
ifeq ($(VENV),.venv-)
$(error PYTHON=$(PYTHON) cannot be used)
endif
endif
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt
PROJECT := $(PIP_INSTALL) --no-build-isolation --editable

# Nothing of the caller's own Python set-up leaks into the environment.
unexport PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_USER := 0

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'PYTHON=PROGRAM picks the Python (3.11 to 3.14); ARGS="..." is passed on to what is run.'

fuzz: $(VENV)/.atheris ## fuzz two kernels for a minute on all cores, or what ARGS say; findings go to .pmdfuzz
	@$(BIN)/pmdfuzz run $(or $(ARGS),--kernel linux-6.1 --kernel linux-7.3 --time 60) \
		|| { status=$$?; [ $$status -eq 1 ] || exit $$status; } # 1: there are findings

# On all cores; ARGS=-n0 is one process, as --pdb needs it.
test: $(VENV)/.ready ## run the tests and replay the corpus
	@[ -e $(VENV)/.atheris ] || set -- -m 'not atheris'; \
		$(BIN)/python -m pytest -n auto --dist worksteal "$$@" $(ARGS)

lint: $(VENV)/.ready ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(if $(NO_COLOR),--no-color-output) --strict engine fuzz

bench: $(VENV)/.atheris ## measure speed and memory; ARGS="--against DIR": beside another checkout
	@$(BIN)/python -m fuzz.bench run $(ARGS)

mutants: $(VENV)/.ready ## change the engine a little, many times: do rules and tests notice?
	@$(BIN)/python -m fuzz.mutants $(ARGS)

clean: ## remove environments, builds and caches, but no results (.pmdfuzz, .mutants)
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find engine fuzz corpus tests -name __pycache__ -type d -prune -exec rm -rf {} +

# .ready holds the directory it was made in: an environment does not survive a move.
ifneq ($(shell cat $(VENV)/.ready 2>/dev/null),$(CURDIR))
$(VENV)/.ready: FORCE
endif

$(VENV)/.ready: pyproject.toml constraints.txt .ci/find-python $(BIN)/python
	@set -e; \
	found=$$(.ci/find-python $(if $(PYTHON),"$(PYTHON)")); \
	python=$${found#* }; \
	identity='import sys; print(sys.version, sys.base_prefix)'; \
	if [ "$$(cat $@ 2>/dev/null)" != "$(CURDIR)" ] || \
		[ "$$($(BIN)/python -c "$$identity" 2>/dev/null)" != "$$("$$python" -c "$$identity")" ]; \
	then \
		echo "Creating $(VENV) with Python $$found"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@echo 'Installing what constraints.txt lists into $(VENV)'
	@$(PIP_INSTALL) hatchling
	@$(PROJECT) '.[dev]'
	@echo '$(CURDIR)' > $@
	@if $(ATHERIS); then touch $(VENV)/.atheris; else rm -f $(VENV)/.atheris; \
		echo 'Atheris could not be installed, see above; all but fuzzing works without it.' >&2; fi

# Only wheels: a build from source takes many minutes, and a Clang with libFuzzer.
ATHERIS = $(PROJECT) '.[fuzz]' --only-binary atheris

$(VENV)/.atheris: $(VENV)/.ready
	@$(ATHERIS) || { \
		echo 'Fuzzing needs Atheris, which could not be installed, see above. If there is no wheel for' \
			'this platform, try another PYTHON=, or build it: $(BIN)/pip install -c constraints.txt atheris' >&2; \
		exit 2; }
	@touch $@

# Gone when the Python it links to was removed, newer when that was replaced: then start over.
$(BIN)/python: ;
