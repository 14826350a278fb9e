#!/usr/bin/env bash
# @aws-sdk/client-s3 for JavaScript, with its defaults: CRC32 on every write.
set -u
. "$(dirname "$0")/../check.sh"
command -v node >/dev/null && [ -d "$NODE_PATH/@aws-sdk/client-s3" ] || exit 77
node "$(dirname "$0")/promises.cjs"
