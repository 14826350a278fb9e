#!/usr/bin/env bash
# boto3, with its defaults: CRC32 on every write, checksum validation on every read.
set -u
. "$(dirname "$0")/../check.sh"
command -v python >/dev/null && python -c 'import boto3' 2>/dev/null || exit 77
python "$(dirname "$0")/promises.py"
