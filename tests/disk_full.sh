#!/bin/sh
# Fills a small file system to the brim, five times, with small and with large objects (gateway/tests/disk_full.rs).
#
#   tests/disk_full.sh [SIZE]      SIZE of the tmpfs, 2G by default; root only, else it says "skipped"
#
# MINIKV_BINARY names the server; without it, a release build is made: at this size the dev one takes too long.
set -eu
cd "$(dirname "$0")/.."
size=${1:-2G}
if [ "$(id -u)" != 0 ]; then
    echo "skipped: mounting a tmpfs takes root"
    exit 0
fi
dir=$(mktemp -d)
trap 'umount "$dir" 2>/dev/null || true; rmdir "$dir"' EXIT
if ! mount -t tmpfs -o "size=$size,mode=700" minikv-disk-full "$dir"; then
    echo "skipped: no tmpfs can be mounted here"
    exit 0
fi
if [ -z "${MINIKV_BINARY:-}" ]; then
    cargo build --release --locked -p minikv
    MINIKV_BINARY=${CARGO_TARGET_DIR:-$PWD/target}/release/minikv
fi
export MINIKV_BINARY MINIKV_FULL_DIR=$dir
cargo test --locked -p minikv --test disk_full -- --test-threads 1 --nocapture
