#!/usr/bin/env bash
# An old aws CLI 2, as Debian has it: from before the SDKs' change of 2025, so Content-MD5 and no trailers. The same
# promises as for the current CLI.
set -u
here=$(cd "$(dirname "$0")" && pwd)
/usr/bin/aws --version 2>/dev/null | grep -q '^aws-cli/2' || exit 77
mkdir -p "$WORK/bin" && ln -sf /usr/bin/aws "$WORK/bin/aws"
PATH="$WORK/bin:$PATH" exec bash "$here/../aws-cli/run.sh"
