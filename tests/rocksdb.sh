#!/usr/bin/env bash
# Builds minikv with the rocksdb engine and runs what every engine must keep to on it: the conformance suite, and a real
# process that changes engines. Not part of .ci/run: RocksDB is 340 files of C++, half an hour of one core.
#   tests/rocksdb.sh           CARGO_TARGET_DIR and CARGO_BUILD_JOBS count as for cargo
# Needs libclang (its headers are read with it) and a C++ compiler: apt-get install libclang-dev g++
set -euo pipefail
cd "$(dirname "$0")/.."
command -v c++ >/dev/null || { echo "a C++ compiler is missing: apt-get install g++" >&2; exit 2; }
# Release throughout: the C++ is built once, and the benches want it fast.
cargo test --release --locked -p minikv-core --features rocksdb --lib engine::conformance
cargo test --release --locked -p minikv --features rocksdb --test engines
echo "rocksdb: all passed, $(date -u +%F), commit $(git rev-parse --short HEAD)"
