#!/usr/bin/env bash
# minio-py: MinIO's own library for Python.
set -u
. "$(dirname "$0")/../check.sh"
command -v python >/dev/null && python -c 'import minio' 2>/dev/null || exit 77
python "$(dirname "$0")/promises.py"
