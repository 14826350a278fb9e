#!/usr/bin/env bash
# Other people's clients against our server, as a user would run them: default settings, default checksums.
#
#   compat-tests/run.sh [CLIENT...]      all clients by default; MINIKV_BIN names the server binary
#
# Prints one line per promise and a closing "N passed, N failed, N skipped". A client that is not installed is printed
# as "skipped: not installed" and never stood in for. Install them with compat-tests/install.sh.
# MINIKV_COMPAT_RESULTS=FILE keeps the outcome table (client, scheme, promise, outcome, reason).
set -u
here=$(cd "$(dirname "$0")" && pwd)
cache=${MINIKV_COMPAT_CACHE:-$HOME/.cache/minikv-compat}
export PATH="$cache/venv/bin:$cache/bin:$PATH"
bin=${MINIKV_BIN:-${CARGO_TARGET_DIR:-$here/../target}/release/minikv}
[ -x "$bin" ] || { echo "no server binary at $bin: run cargo build --release, or set MINIKV_BIN" >&2; exit 2; }
bin=$(realpath "$bin")
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(aws-cli boto3 rclone mc)

scratch=$(mktemp -d "${TMPDIR:-/tmp}/minikv-compat.XXXXXX")
server=""
stop() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; fi
  rm -rf "$scratch"
}
trap stop EXIT
export RESULTS=${MINIKV_COMPAT_RESULTS:-$scratch/results.tsv}
: >"$RESULTS"
export DATA="$scratch/data"
python3 "$here/make_data.py" "$DATA"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
s3_port=$(free_port) http_port=$(free_port) rpc_port=$(free_port)
export SCHEME=http ENDPOINT="http://127.0.0.1:$s3_port"
export AWS_ACCESS_KEY_ID=compat-test-key AWS_SECRET_ACCESS_KEY="compat-$(head -c 18 /dev/urandom | base64 | tr -d '/+=')"
export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL="$ENDPOINT"
export AWS_CONFIG_FILE="$scratch/no-config" AWS_SHARED_CREDENTIALS_FILE="$scratch/no-credentials" AWS_EC2_METADATA_DISABLED=true
unset AWS_SESSION_TOKEN AWS_PROFILE
MINIKV_ROOT_ACCESS_KEY=$AWS_ACCESS_KEY_ID MINIKV_ROOT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY \
  "$bin" server --data-dir "$scratch/store" --s3-addr "127.0.0.1:$s3_port" --http-addr "127.0.0.1:$http_port" --rpc-addr "127.0.0.1:$rpc_port" >"$scratch/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  curl -sf "http://127.0.0.1:$http_port/readyz" >/dev/null && break
  kill -0 "$server" 2>/dev/null || { cat "$scratch/server.log"; echo "the server ended at its start" >&2; exit 1; }
  sleep 0.1
done

skipped=0
for client in "${clients[@]}"; do
  export CLIENT=$client BUCKET="compat-$client" WORK="$scratch/work-$client"
  mkdir -p "$WORK"
  echo "== $client over $SCHEME"
  bash "$here/$client/run.sh"
  status=$?
  if [ $status -eq 77 ]; then
    echo "skipped: not installed: $client"
    skipped=$((skipped + 1))
  elif [ $status -ne 0 ]; then
    printf '%s\t%s\t%s\t%s\t%s\n' "$client" "$SCHEME" "the script ran to its end" FAIL "exit $status" >>"$RESULTS"
  fi
  rm -rf "$WORK"
done
kill -0 "$server" 2>/dev/null || printf 'server\t%s\tit was still alive at the end\tFAIL\t\n' "$SCHEME" >>"$RESULTS"

passed=$(awk -F'\t' '$4 == "ok"' "$RESULTS" | wc -l)
failed=$(awk -F'\t' '$4 == "FAIL"' "$RESULTS" | wc -l)
if [ "$failed" -gt 0 ]; then
  echo "what failed:"
  awk -F'\t' '$4 == "FAIL" { print "  " $1 "/" $2 " " $3 ": " $5 }' "$RESULTS"
  echo "last lines of the server's log:"
  tail -n 20 "$scratch/server.log"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
