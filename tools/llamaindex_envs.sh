#!/usr/bin/env bash
# Make .venv/llamaindex-VERSION for the newest two minor versions of llama-index-workflows, and run the tests that are
# marked `llamaindex` in each. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=(2.25.0 2.26.1)
for version in "${versions[@]}"; do
    env=.venv/llamaindex-$version
    stamp=$env/.stamp
    if [ ! -e "$stamp" ] || [ constraints.txt -nt "$stamp" ] || [ tools/llamaindex.txt -nt "$stamp" ]; then
        echo "Making $env"
        .venv/bin/python -m venv --clear "$env"
        pip=("$env/bin/python" -m pip --quiet --disable-pip-version-check install
            --constraint constraints.txt --constraint tools/llamaindex.txt)
        "${pip[@]}" hatchling editables
        "${pip[@]}" --no-build-isolation --editable '.[llamaindex]' "llama-index-workflows==$version" \
            llama-index-core hypothesis pytest pytest-asyncio pytest-timeout
        touch "$stamp"
    fi
    echo "llama-index-workflows $version"
    "$env/bin/python" -m pytest -m llamaindex tests/llamaindex "$@"
done
