#!/usr/bin/env bash
# Check the prerequisites, then install the lock and what is built here into .venv. Usage: setup.sh FOLDER...
# PYTHON chooses the interpreter; without it an environment that is there keeps its own, and a new one takes the newest.
set -euo pipefail

missing() { echo "$1" >&2; exit 1; }
# What tells two interpreters apart, whichever environment they are asked through.
identity() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)'; }

# The suite passes on 3.11 and 3.12, the pipeline runs on 3.13.
python=$(scripts/python.sh 3.12 3.11 3.13)
command -v java >/dev/null 2>&1 || missing "Java 17 is missing: Spark needs it (Debian: apt-get install openjdk-17-jre-headless)."
java -version 2>&1 | grep -qE 'version "(17|21)' || missing "Java 17 (or 21) is needed by Spark 4, and $(java -version 2>&1 | head -n 1) was found: install openjdk-17-jre-headless and put it first on PATH."
command -v g++ >/dev/null 2>&1 || missing "g++ is missing: Horovod is compiled once (Debian: apt-get install g++)."

if [ "$python" != .venv/bin/python ] && [ "$(identity .venv/bin/python 2>/dev/null)" != "$(identity "$python")" ]; then
    rm -rf .venv
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -m venv .venv || missing "Python's venv module is missing: install it (Debian: apt-get install python3-venv)."
fi
echo "Installing into .venv: $(.venv/bin/python --version)"
# uv comes from the lock too, with its hashes; it then installs the rest, in seconds from a warm cache.
awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' requirements.txt > .venv/uv.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
export VIRTUAL_ENV="$PWD/.venv"
.venv/bin/uv pip install --require-hashes -r requirements.txt
echo "Installing Petastorm and Horovod; the first time on a machine Horovod is compiled, which takes about two minutes."
.venv/bin/uv pip install --reinstall-package petastorm --reinstall-package horovod "${@/#/./}"
# Of PySpark, a source distribution, uv keeps 2 GB more at every install of any checkout: drop what nothing uses.
.venv/bin/uv cache prune --quiet
# Here, once: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile anew what it
# imports. (uv's own --compile-bytecode leaves out what is installed already.) Some packages hold templates that are
# no Python.
.venv/bin/python -W ignore -m compileall -q -q -j 0 .venv/lib || true
