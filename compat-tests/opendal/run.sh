#!/usr/bin/env bash
# OpenDAL. The promises are in ../rust/src/opendal.rs.
set -u
. "$(dirname "$0")/../check.sh"
command -v minikv-compat >/dev/null || exit 77
rust_version opendal
# It does not make buckets, and names them below the endpoint.
bucket_by_curl PUT
minikv-compat opendal
check "the bucket is empty and goes" bucket_by_curl DELETE
