#!/usr/bin/env bash
# Generate stepwirev1/ from the protos and build the package, the driver and the example.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

protos=../../protos
if [ ! -d $protos/.deps ]; then
    make -s -C ../.. venv
    ../../.venv/bin/python ../../tools/protos.py deps
fi
protoc=${PROTOC:-$(command -v protoc || echo ../../tools/protoc)}
module=$(go list -m)
mkdir -p build/bin
go build -o build/bin google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

options=(--go_opt=module="$module" --go-grpc_opt=module="$module")
files=()
for path in $protos/stepwire/v1/*.proto; do
    file=stepwire/v1/$(basename "$path")
    files+=("$file")
    options+=(--go_opt=M"$file=$module/stepwirev1" --go-grpc_opt=M"$file=$module/stepwirev1")
done
PATH="$PWD/build/bin:$PATH" "$protoc" -I$protos -I$protos/.deps \
    --go_out=. --go-grpc_out=. "${options[@]}" "${files[@]}"

go vet .
go build -o build/driver ./conformance
go build -C ../../examples/go -o build/approval .
