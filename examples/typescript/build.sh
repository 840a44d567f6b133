#!/usr/bin/env bash
# Compile to build/, on clients/typescript, whose build.sh runs before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ ! node_modules/.package-lock.json -nt package.json ]; then
    npm install --no-package-lock --loglevel=error
fi
node_modules/.bin/tsc
