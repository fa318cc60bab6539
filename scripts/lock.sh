#!/usr/bin/env bash
# pyproject.toml → requirements.txt (everything, with hashes) and conda.yaml (the run-time part, same pins).
set -euo pipefail
cd "$(dirname "$0")/.."
options=(--python-version 3.11 --no-header --no-annotate --quiet)
.venv/bin/uv pip compile pyproject.toml --group test --generate-hashes "${options[@]}" --output-file requirements.txt
pins=$(sed -nE 's/^([a-z0-9._-]+==[^ ]+).*/\1/p' requirements.txt)
{
    cat <<'YAML'
# Made by `make lock` from requirements.txt; pip takes hashes and a local folder only apart, so: exact pins.
# uv and virtualenv use Python's version and the pip part alone; conda brings Java and a compiler too.
name: baton
channels:
  - conda-forge
dependencies:
  - python=3.11.7
  - openjdk=17
  - cxx-compiler
  - pip
  - pip:
YAML
    .venv/bin/uv pip compile pyproject.toml --constraint <(echo "$pins") "${options[@]}" | sed 's/^/      - /'
    echo "      - ./horovod-0.28.1-tf2.21"
} > conda.yaml
