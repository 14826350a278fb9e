#!/usr/bin/env bash
# minio for JavaScript.
set -u
. "$(dirname "$0")/../check.sh"
command -v node >/dev/null && [ -d "$NODE_PATH/minio" ] || exit 77
node "$(dirname "$0")/promises.cjs"
