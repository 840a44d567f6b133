#!/usr/bin/env bash
# Build the conformance driver, or run it: conformance.sh build | run TABLE.json | bench … | --version.
#
# Debian's packages are installed by `build` where they are missing and that is possible: as root, with apt-get.
# Exit code 77, with the reason in one line, when they are not there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

packages=(
    g++ cmake make pkg-config
    libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc nlohmann-json3-dev
)

missing() {
    local tool
    for tool in g++ cmake make pkg-config protoc grpc_cpp_plugin; do
        command -v "$tool" > /dev/null || { echo "$tool"; return; }
    done
    pkg-config --exists grpc++ protobuf || { echo "libgrpc++-dev"; return; }
    [ -e /usr/include/nlohmann/json.hpp ] || pkg-config --exists nlohmann_json || echo "nlohmann-json3-dev"
}

build() {
    if [ -n "$(missing)" ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >&2 || true
    fi
    local without
    without=$(missing)
    if [ -n "$without" ]; then
        echo "C++: $without is missing; apt-get install ${packages[*]}" >&2
        exit 77
    fi
    [ -e build/Makefile ] || cmake -S . -B build
    cmake --build build --parallel 2
}

case "${1:-}" in
    build) build ;;
    run) exec build/conformance "${@: -1}" ;;
    bench) shift && exec build/conformance bench-stream "$@" ;;
    *) exec build/conformance "$@" ;;
esac
