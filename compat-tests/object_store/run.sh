#!/usr/bin/env bash
# object_store, which Arrow, DataFusion, Polars and delta-rs read with. The promises are in ../rust/src/object_store.rs.
set -u
. "$(dirname "$0")/../check.sh"
command -v minikv-compat >/dev/null || exit 77
rust_version object_store
minikv-compat object_store
