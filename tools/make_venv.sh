#!/usr/bin/env bash
# Make .venv with the pinned development install; `make` calls this when its stamp is old.
# PYTHON names an interpreter to use instead of the first good one on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

usable() { # 3.11 or later, and able to make an environment that has pip
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    found=
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if usable "$python"; then
            found=$python
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "stepwire: found no Python 3.11 or later with the venv module (looked for:" \
            "${PYTHON:-python3, python3.14 … python3.11})." >&2
        echo "Install one; on Debian and Ubuntu the package python3-venv is needed beside python3." >&2
        echo "Another interpreter: make venv PYTHON=/path/to/python3" >&2
        exit 1
    fi
    echo "Making .venv with $("$found" --version)"
    "$found" -m venv --clear .venv
fi

# On a terminal pip shows its bars; elsewhere each package has a line, without the noise between.
pip=(.venv/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt)
shown='^(Collecting|Building wheel|Installing|Successfully)'
install() {
    if [ -t 1 ]; then
        "${pip[@]}" "$@"
    else
        "${pip[@]}" "$@" | { grep --line-buffered -E "$shown" || true; }
    fi
}
echo "Installing the pinned development environment into .venv: 1 to 4 minutes the first time"
# The build backend comes from the constraints too, hence no isolated build.
install --quiet hatchling editables
install --no-build-isolation --editable '.[dev]'
touch .venv/.stamp
