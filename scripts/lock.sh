#!/usr/bin/env bash
# pyproject.toml → requirements.txt (everything, for every Python and platform, with hashes), peers/requirements.txt
# (what only `make peers` needs), conda.yaml (the run-time part for one Python, the same pins), and the run-time part
# under a Databricks runtime's own versions. Petastorm and Horovod are built by folders of their own: in no list.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-package petastorm "$@"; }
pins() { sed 's/ *\\$//; /^ *--hash/d' requirements.txt; }
universal=(--universal --python-version 3.11 --generate-hashes)
conda_python=3.12
runtime=runtimes/databricks-17.3 runtime_python=3.12 runtime_pyspark=4.0.0

# The direct dependencies, of which those that the runtime has are held by its constraints instead of their pins.
for_runtime() {
    .venv/bin/python - "$runtime/constraints.txt" <<'PY'
import re, sys, tomllib
held = set(re.findall(r"^([\w.-]+)==", open(sys.argv[1]).read(), re.MULTILINE))
for requirement in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    name = requirement.split("==")[0]
    if name != "pyspark":
        print(name if name in held else requirement)
PY
    echo "pyspark==$runtime_pyspark"
}

compile pyproject.toml --group test "${universal[@]}" --output-file requirements.txt
compile --group peers "${universal[@]}" --constraint <(pins) --output-file peers/requirements.txt
for_runtime | compile - --constraint "$runtime/constraints.txt" --python-version "$runtime_python" --generate-hashes \
    --output-file "$runtime/requirements.txt"
# What a job's cluster installs of it: its Spark is the cluster's own.
awk '/^[a-z]/ {on = !/^(pyspark|py4j)==/} on' "$runtime/requirements.txt" > "$runtime/job.txt"
{
    cat <<YAML
# Made by \`make lock\` from requirements.txt; pip takes hashes and a local folder only apart, so: exact pins.
# uv and virtualenv use Python's version and the pip part alone; conda brings Java and a compiler too.
name: baton
channels:
  - conda-forge
dependencies:
  - python=$conda_python
  - openjdk=17
  - cxx-compiler
  - pip
  - pip:
YAML
    compile pyproject.toml --constraint <(pins) --python-version "$conda_python" | sed 's/^/      - /'
    printf '      - ./%s\n' petastorm-0.12.1-arrow horovod-0.28.1-tf2.21
} > conda.yaml
