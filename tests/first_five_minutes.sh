#!/usr/bin/env bash
# A newcomer's first five minutes, in an empty directory: start, paste, copy a file in and out with the AWS CLI.
# Three commands to the first `aws s3 cp`; the whole thing within ten seconds.
#   tests/first_five_minutes.sh PATH-TO-MINIKV
set -euo pipefail
bin=$(realpath "$1")
cache=${MINIKV_COMPAT_CACHE:-$HOME/.cache/minikv-compat}
export PATH="$cache/venv/bin:$cache/bin:$PATH"
dir=$(mktemp -d)
server=""
stop() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$dir"
}
trap stop EXIT
cd "$dir"
export AWS_CONFIG_FILE="$dir/none" AWS_SHARED_CREDENTIALS_FILE="$dir/none" AWS_EC2_METADATA_DISABLED=true
if curl -s "http://127.0.0.1:9000/" >/dev/null; then echo "port 9000 is taken here; this check needs the default ports" >&2; exit 1; fi

started=$(date +%s%N)
"$bin" >server.log 2>&1 & # 1
server=$!
for _ in $(seq 100); do curl -sf http://127.0.0.1:9001/readyz >/dev/null && break; sleep 0.05; done
eval "$("$bin" env)" # 2
echo "hello" >hello.txt
if command -v aws >/dev/null; then
  aws s3 cp --only-show-errors hello.txt s3://demo/hello.txt # 3
  took=$((($(date +%s%N) - started) / 1000000))
  aws s3 cp --only-show-errors s3://demo/hello.txt back.txt
  cmp hello.txt back.txt
  [ "$took" -lt 10000 ] || { echo "the first aws s3 cp took $took ms" >&2; exit 1; }
  echo "first aws s3 cp after $took ms and 3 commands"
else
  echo "skipped: not installed: aws"
fi
"$bin" put own.txt hello.txt
[ "$("$bin" get own.txt -)" = hello ]
"$bin" ls | grep -q own.txt
"$bin" delete own.txt
"$bin" status >/dev/null
if grep -q "$AWS_SECRET_ACCESS_KEY" server.log; then echo "the secret is in the log" >&2; exit 1; fi
if "$bin" >second.log 2>&1; then echo "a second process on the same data directory was let in" >&2; exit 1; fi
kill -TERM "$server"
wait "$server" || { echo "the graceful stop failed" >&2; tail server.log >&2; exit 1; }
server=""
echo "first five minutes: ok"
