#!/usr/bin/env bash
# aws-sdk-s3 for Rust, with its defaults. The promises are in ../rust/src/aws_sdk.rs.
set -u
. "$(dirname "$0")/../check.sh"
command -v minikv-compat >/dev/null || exit 77
rust_version aws-sdk-s3
minikv-compat aws-sdk-rust
