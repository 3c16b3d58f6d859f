# Everything a developer needs, each from nothing: `make gate` and `make test` create .venv and install into it.
PYTHON ?= python3
# Of every simulation in `make calibration`.
SEED ?= 0
# Of the table of `make quantization`: a folder, a hub id or a name of the zoo.
MODEL ?= tiny-llama
# A further folder of mutants for `make mutation`.
MUTANTS ?=
# So many of the benign runs of `make mutation`, chosen under the seed; all where it is empty.
SAMPLE ?=
SUITES := --suite equivalence --suite accuracy --suite methods --suite checkpoints --suite performance
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CACHE := $(CURDIR)/.llmopt/cache
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export TOKENIZERS_PARALLELISM = false
# Kept beside the reports, so that the second run finds what the first one compiled.
export TORCHINDUCTOR_CACHE_DIR ?= $(CACHE)/inductor
# Kernels of a processor without vector instructions, and of one without AVX-512, with compiled graphs of their own.
BASIC := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE TORCHINDUCTOR_CACHE_DIR=$(CACHE)/inductor-default
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 TORCHINDUCTOR_CACHE_DIR=$(CACHE)/inductor-avx2
# No hub is asked for anything: the zoo ships with the repository.
export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.PHONY: help install gate gate-margins quantization test test-slow test-portable check format zoo bench calibration enginecost engines mutation architectures wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(READY) ## create .venv and install the project with everything it is developed with

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --requirement requirements-dev.txt
	touch $@

gate: $(READY) ## run the shipped suites against the zoo on this machine and print the verdicts
	$(BIN)/llmopt gate --workers 2 $(SUITES)

gate-margins: $(READY) ## the same as `make gate`; fails also where a verdict comes near its limit
	PYTHONPATH=tests $(BIN)/llmopt gate --workers 2 $(SUITES) -p margins

quantization: $(READY) ## run every quantization method that this machine can, and print the table of them (MODEL=tiny-llama)
	$(BIN)/llmopt gate --suite quantization --workers 2 $(MODEL)

test: $(READY) ## run the project's own tests and the examples of the docs, but for the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-slow: $(READY) ## run the project's own tests that take a minute or more each
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

test-portable: $(READY) ## run the tests whose verdicts rest on computed figures, with the kernels of older processors
	$(BASIC) $(BIN)/python -m pytest tests -n 2 --dist loadgroup -m 'any_processor and not slow'
	$(AVX2) $(BIN)/python -m pytest tests/integration/test_unpacked_quantizers.py -n 2 -m any_processor -k 'tiny-llama and compressed_tensors'

check: $(READY) ## lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## format the code and apply what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

zoo: $(READY) ## train the zoo again, and make its prompts, checkpoints and adapters (about an hour and a half)
	OMP_NUM_THREADS=1 $(BIN)/python fixtures/train.py
	$(BIN)/python fixtures/make_prompts.py
	OMP_NUM_THREADS=1 $(BIN)/python fixtures/make_variants.py

bench: $(READY) ## measure what the plugin itself costs, into benchmarks/overhead/
	$(BIN)/python benchmarks/overhead/measure.py

calibration: $(READY) ## verify every test's false-alarm rate, into benchmarks/calibration/ (SEED=0; goes on where it stopped)
	$(BIN)/python benchmarks/calibration/run.py --seed $(SEED)

enginecost: $(READY) ## measure what evidence and an equivalence check cost, into benchmarks/engine_cost/
	$(BIN)/python benchmarks/engine_cost/measure.py

engines: $(READY) ## measure what another process costs and contains, into benchmarks/engines/
	$(BIN)/python benchmarks/engines/measure.py

mutation: $(READY) .llmopt/peers ## real bugs and benign differences before every judge, into benchmarks/mutation/ (SEED=0, MUTANTS=DIR, SAMPLE=80; resumes)
	$(BIN)/python benchmarks/mutation/run.py --seed $(SEED) $(if $(MUTANTS),--mutants $(MUTANTS)) $(if $(SAMPLE),--sample $(SAMPLE))

architectures: $(READY) ## every causal language model of Transformers, tiny and random, into benchmarks/architectures/ (resumes)
	$(BIN)/python benchmarks/architectures/sweep.py

# The packages that we are compared with, away from .venv: their pytest plugins are not for our own tests.
.llmopt/peers: benchmarks/mutation/peers.txt
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $@ --requirement $<
	touch $@

wheel: $(READY) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove the environment and everything that was generated
	rm -rf $(VENV) .llmopt dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
