#!/usr/bin/env bash
# Print the Python to use: $PYTHON, else the one of .venv if it will do, else the first that runs.
# Usage: python.sh VERSION... (the most wanted first)
set -euo pipefail

missing() { echo "$1" >&2; exit 1; }
# Whether a name runs at all (version managers leave names that only say "command not found") and is of these versions.
runs() { "$1" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' "${@:2}" 2>/dev/null; }

if [ -n "${PYTHON:-}" ]; then
    runs "$PYTHON" "$@" || missing "PYTHON=$PYTHON does not run, or is another version. Python $* will do."
    echo "$PYTHON"
    exit
fi
if runs .venv/bin/python "$@" && .venv/bin/python -m pip --version >/dev/null 2>&1; then echo .venv/bin/python; exit; fi
for version in "$@"; do
    for candidate in "python$version" python3 python; do
        if runs "$candidate" "$version"; then echo "$candidate"; exit; fi
    done
done
missing "Python is missing, or is another version. Python $* will do: install one (Debian: apt-get install python3 python3-venv; macOS: brew install python@3.12), or name it: make PYTHON=/path/to/python3.12."
