#!/usr/bin/env bash
# OpenDAL. The promises are in ../rust/src/opendal.rs.
set -u
. "$(dirname "$0")/../check.sh"
command -v minikv-compat >/dev/null || exit 77
rust_version opendal
minikv-compat opendal
