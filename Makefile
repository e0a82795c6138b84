# The commands of a newcomer: make demo, make test. Everything is set up in .venv, once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Of tests at a time: many wait for nodes, so more than small machines have cores.
WORKERS ?= 3
# The newest torch brings gigabytes of CUDA packages; this version is installed alone and first.
TORCH := torch==2.13.0

.PHONY: help demo test test-all test-oracles soak bench test-arm docs lint format clean
help:
	@echo "make demo   play a real drive through the nodes, write out/demo/ (installs no torch)"
	@echo "make test   run the tests; make test-all also those that take minutes or gigabytes"
	@echo "make test-oracles   compare with other libraries, in environments of their own (gigabytes);"
	@echo "            SEG_PERCEPTION_ORACLES names the folder with the scripts that run them"
	@echo "make soak   fuzz and load live nodes for half an hour, write out/soak.json"
	@echo "make bench  measure speed as ratios, write out/bench.json"
	@echo "make test-arm   the core and the bundled models in an emulated arm64 Debian; needs root"
	@echo "make docs   write docs/reference/ from the code"
	@echo "make lint   ruff and mypy"

demo: .venv/.demo
	$(BIN)/seg-perception demo --out out/demo

test: .venv/.test
	$(BIN)/python -m pytest -n $(WORKERS) --maxschedchunk 6

test-all: .venv/.test
	$(BIN)/python -m pytest -m ''

test-oracles: .venv/.test
	$(BIN)/python -m pytest -m '' test/checkpoints/test_oracles.py

soak: .venv/.demo
	$(BIN)/python test/soak.py --json out/soak.json

bench: .venv/.test
	$(BIN)/seg-perception bench --json out/bench.json

# No prerequisite: what root would set up in .venv would be root's.
test-arm:
	test/arm.sh $(BIN)/python

docs: .venv/.demo
	$(BIN)/python tools/make_reference.py

lint: .venv/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv out build install log

$(BIN)/python:
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 13); \
	    sys.exit(0 if ok else "Python %d.%d: use 3.10 to 3.13, as in: make demo PYTHON=python3.12" \
	    % sys.version_info[:2])'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	    echo "python3-venv is missing: sudo apt install python3-venv"; exit 1; }

.venv/.demo: setup.py | $(BIN)/python
	$(PIP) -e '.[ros,evaluate]'
	@touch $@

.venv/.test: setup.py .venv/.demo
	$(PIP) $(TORCH)
	$(PIP) -e '.[ros,evaluate,cluster,export,hub,safetensors,train,test]'
	@touch $@

.venv/.lint: setup.py .venv/.test
	$(PIP) ruff==0.17.5 mypy==2.4.1 types-PyYAML
	@touch $@
