#!/usr/bin/env bash
# Generate src/gen/ from the protos, compile to dist/, and build the example on it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

protos=../../protos
if [ ! -d $protos/.deps ]; then
    make -s -C ../.. venv
    ../../.venv/bin/python ../../tools/protos.py deps
fi
protoc=${PROTOC:-$(command -v protoc || echo ../../tools/protoc)}
if [ ! node_modules/.package-lock.json -nt package.json ]; then
    npm install --no-package-lock --loglevel=error
fi
rm -rf src/gen
mkdir -p src/gen
"$protoc" -I$protos -I$protos/.deps --plugin=node_modules/.bin/protoc-gen-es \
    --es_out=src/gen --es_opt=target=ts,import_extension=js \
    $protos/stepwire/v1/*.proto google/rpc/{code,status,error_details}.proto
node_modules/.bin/tsc
node_modules/.bin/tsc --project conformance
bash ../../examples/typescript/build.sh
