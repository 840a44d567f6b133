#!/usr/bin/env bash
# Put grpcurl beside the environment's programs, for the tests of docs/clients.md; it is built by Go, where that is here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=v1.9.3
if command -v grpcurl > /dev/null || [ -x .venv/bin/grpcurl ]; then
    exit 0
elif command -v go > /dev/null; then
    echo "building grpcurl $version"
    GOBIN="$PWD/.venv/bin" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version"
else
    echo "skipping the recipes for grpcurl: neither it nor Go is on the PATH"
fi
