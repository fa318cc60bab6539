#!/usr/bin/env bash
# Check the prerequisites, then install the lock and Horovod into .venv. Usage: setup.sh HOROVOD_FOLDER
set -euo pipefail

missing() { echo "$1" >&2; exit 1; }

python=""
for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || missing "Python 3.11 is missing: install it (Debian: apt-get install python3.11 python3.11-venv; macOS: brew install python@3.11)."
command -v java >/dev/null 2>&1 || missing "Java 17 is missing: Spark needs it (Debian: apt-get install openjdk-17-jre-headless)."
java -version 2>&1 | grep -qE 'version "(17|21)' || missing "Java 17 (or 21) is needed by Spark 4, and $(java -version 2>&1 | head -n 1) was found: install openjdk-17-jre-headless and put it first on PATH."
command -v g++ >/dev/null 2>&1 || missing "g++ is missing: Horovod is compiled once (Debian: apt-get install g++)."

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -m venv .venv || missing "Python's venv module is missing: install it (Debian: apt-get install python3.11-venv)."
fi
# uv comes from the lock too, with its hashes; it then installs the rest, in seconds from a warm cache.
awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' requirements.txt > .venv/uv.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
export VIRTUAL_ENV="$PWD/.venv"
.venv/bin/uv pip install --require-hashes -r requirements.txt
echo "Installing Horovod; the first time on a machine it is compiled, which takes about two minutes."
.venv/bin/uv pip install --reinstall-package horovod "./$1"
# Here, once: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile anew what it
# imports. (uv's own --compile-bytecode leaves out what is installed already.) Some packages hold templates that are
# no Python.
.venv/bin/python -m compileall -q -q -j 0 .venv/lib || true
