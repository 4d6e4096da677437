# make demo   sets up, trains on generated images, evaluates, and says where the report is
# make test   sets up and runs the tests
PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
WORKERS ?= 2  # processes that run the tests, one thread each

.PHONY: setup demo test test-all docs-test test-gpu reliability lint audit format clean help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/.ready  ## the environment, in .venv
$(VENV)/.ready: requirements.txt
	@echo "setting up $(VENV) (downloads torch: a few minutes)"
	@$(PY) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(BIN)/uv pip install -q --compile-bytecode -p $(BIN)/python -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt requirements-optional.txt $(VENV)/.ready
	@$(BIN)/uv pip install -q --compile-bytecode -p $(BIN)/python -r requirements-dev.txt
	@touch $@

demo: setup  ## train on generated images, evaluate
	@$(BIN)/python train.py demo run=$(RUN)
	@$(BIN)/python test.py $(RUN)

test: $(VENV)/.ready-dev  ## the tests, five minutes on two cores
	@$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST)

test-all: $(VENV)/.ready-dev  ## also the slow ones
	@$(BIN)/python -m pytest -m 'not gpu' --timeout=3600 $(PYTEST)

docs-test: $(VENV)/.ready-dev  ## what README.md and docs/*.md say, a minute
	@$(BIN)/python -m pytest tests/test_docs.py $(PYTEST)

test-gpu: $(VENV)/.ready-dev  ## the ones that need a CUDA device
	@$(BIN)/python -m pytest -m gpu $(PYTEST)

reliability: $(VENV)/.ready-dev  ## fuzz, kill, and write docs/reliability.md
	@$(BIN)/python -m reliability.check_guarantees $(TABLE)

lint: $(VENV)/.ready-dev  ## ruff and pyright
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

audit: $(VENV)/.ready-dev  ## known holes in what is installed (asks the public database)
	@$(BIN)/uvx pip-audit --strict --path $(VENV)/lib/python3*/site-packages

format: $(VENV)/.ready-dev  ## let ruff lay the code out
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## remove what the demo made
	@rm -rf scenes runs/demo
