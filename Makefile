# The verbs of the project; `make` alone lists them.

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# Processes that share the files of tests; the one with the largest networks takes up to 12 GB.
WORKERS ?= $(shell awk -v cores=$$(nproc) '/MemTotal/ { print (cores > 1 && $$2 > 20e6) ? 2 : 1 }' /proc/meminfo)

# TensorFlow's start-up chatter hides what matters.
export TF_CPP_MIN_LOG_LEVEL ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test bench lint format

help: ## List the verbs
	@echo "make VERB [PYTHON=python3.12] [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(INSTALLED) ## Serve the app on this machine; installs what is missing first
	@$(PY) -m streamlit run app.py $(ARGS)

test: $(INSTALLED) ## Run every test, or those named in ARGS; WORKERS=1 in a single process
	@$(PY) -m pytest $(if $(filter-out 1,$(WORKERS)),--numprocesses $(WORKERS) --dist loadfile) $(ARGS)

bench: $(INSTALLED) ## Measure speed and memory beside their baselines
	@$(PY) -m benchmarks $(ARGS)

lint: $(INSTALLED) ## Check the code's style
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: $(INSTALLED) ## Bring the code into style
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

# The stamp comes last, so an installation that broke off is done again.
$(INSTALLED): requirements.txt | $(PY)
	@echo "Installing the requirements (several minutes the first time) ..."
	@$(PY) -m pip install --quiet --requirement requirements.txt
	@touch $@

# PYTHON names the interpreter to use; else the first suitable one on the PATH is taken.
$(PY):
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	        2> /dev/null; then \
	        echo "Making $(VENV) with $$($$python --version) ..."; \
	        $$python -m venv --clear $(VENV) && exit 0; \
	        echo "The virtual environment could not be made; on Debian and Ubuntu first run:"; \
	        echo "    apt-get install python3-venv"; \
	        rm -rf $(VENV); exit 1; \
	    fi; \
	done; \
	echo "DermSA needs Python 3.11, 3.12 or 3.13. Tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11)."; \
	echo "Install one and name it, for example: make run PYTHON=python3.12"; exit 1
