#!/usr/bin/env bash
# An old aws CLI 2, as Debian has it: from before the SDKs' change of 2025, so Content-MD5 and no trailers. The same
# promises as for the current CLI, but for those that it has no options for.
set -u
here=$(cd "$(dirname "$0")" && pwd)
/usr/bin/aws --version 2>/dev/null | grep -q '^aws-cli/2' || exit 77
# It does not know AWS_ENDPOINT_URL, and must never ask anybody else.
mkdir -p "$WORK/bin"
printf '#!/bin/sh\nexec /usr/bin/aws --endpoint-url "%s" "$@"\n' "$ENDPOINT" >"$WORK/bin/aws"
chmod +x "$WORK/bin/aws"
OLD_AWS=yes PATH="$WORK/bin:$PATH" exec bash "$here/../aws-cli/run.sh"
