#!/usr/bin/env bash
# Run the whole pipeline under a Databricks runtime's versions. Usage: runtime.sh RUNTIME CONFIG
# The environment lies in .runtime/, with a tracking store, warehouse and predictions of its own; Spark is the engine.
set -euo pipefail
runtime=$1 config=$2 home=.runtime/$1
python=$(scripts/python.sh 3.12)

mkdir -p "$home"
built=(petastorm-0.12.1-arrow horovod-0.28.1-tf2.21)
wanted=$(cat "runtimes/$runtime/requirements.txt" "${built[@]/%//backend.py}" "${built[0]}/legacy_arrow.py" | sha256sum)
if [ "$wanted" != "$(cat "$home/installed" 2>/dev/null)" ]; then
    rm -rf "$home/venv"
    "$python" -m venv "$home/venv"
    export VIRTUAL_ENV="$PWD/$home/venv"
    .venv/bin/uv pip install --require-hashes -r "runtimes/$runtime/requirements.txt"
    .venv/bin/uv pip install --refresh-package petastorm --refresh-package horovod "${built[@]/#/./}"
    echo "$wanted" > "$home/installed"
fi
export PATH="$PWD/$home/venv/bin:$PATH"
export MLFLOW_TRACKING_URI="sqlite:///$PWD/$home/mlflow.db"
python -c 'import platform, importlib.metadata as m
print("Python", platform.python_version(), *(f"{p} {m.version(p)}" for p in ("pyspark", "pyarrow", "numpy", "pandas", "pydantic", "protobuf", "petastorm", "horovod", "tensorflow-cpu", "mlflow")), sep=" · ")'
mlflow run . -e main --env-manager local --experiment-name "$runtime" -P config="$config" \
    -P set="engine=spark,warehouse=$home/warehouse,batch_infer.output=$home/predictions"
# The same as the bundle's job, task by task from the wheel, in a registry with Unity Catalog's limits.
if [ "$config" = conf/flights.yaml ]; then
    env -u MLFLOW_TRACKING_URI python tests/support/databricks_scenario.py "$PWD/$home/job" "$config" \
        data/flights.parquet data/new_flights.parquet
fi
