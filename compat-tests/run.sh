#!/usr/bin/env bash
# Other people's clients against our server, as a user would run them: default settings, default checksums.
#
#   compat-tests/run.sh [CLIENT...]   the fast lane: aws CLI, boto3, rclone, mc; or those that are named
#   compat-tests/run.sh --full        every client there is; one that is not installed counts as a failure;
#                                     writes docs/compat.md
#
# Everything over http and over https (with --tls auto), unless SCHEME=http or SCHEME=https says otherwise.
# MINIKV_BIN names the server binary. Prints one line per promise and a closing "N passed, N failed, N skipped".
# A client that is not installed is printed as "skipped: not installed" and never stood in for; compat-tests/install.sh
# installs them (with --full: all). MINIKV_COMPAT_RESULTS=FILE keeps the outcome table (client, scheme, promise, outcome, reason).
set -u
here=$(cd "$(dirname "$0")" && pwd)
cache=${MINIKV_COMPAT_CACHE:-$HOME/.cache/minikv-compat}
export PATH="$cache/venv/bin:$cache/bin:$PATH" NODE_PATH="$cache/node/node_modules"
bin=${MINIKV_BIN:-${CARGO_TARGET_DIR:-$here/../target}/release/minikv}
[ -x "$bin" ] || { echo "no server binary at $bin: run cargo build --release, or set MINIKV_BIN" >&2; exit 2; }
bin=$(realpath "$bin")
full=no
if [ "${1:-}" = --full ]; then full=yes; shift; fi
clients=("$@")
if [ ${#clients[@]} -eq 0 ]; then
  clients=(aws-cli boto3 rclone mc)
  [ $full = no ] || clients+=(aws-cli-v2 s3cmd minio-py s5cmd aws-sdk-js minio-js aws-sdk-rust object_store opendal restic)
fi
case ${SCHEME:-both} in
  both) schemes=(http https) ;;
  http | https) schemes=("$SCHEME") ;;
  *) echo "SCHEME is http, https or both" >&2; exit 2 ;;
esac

scratch=$(mktemp -d "${TMPDIR:-/tmp}/minikv-compat.XXXXXX")
server=""
stop_server() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; server=""; fi
}
trap 'stop_server; rm -rf "$scratch"' EXIT
export RESULTS=${MINIKV_COMPAT_RESULTS:-$scratch/results.tsv}
: >"$RESULTS"
: >"$scratch/versions.tsv"
export DATA="$scratch/data"
python3 "$here/make_data.py" "$DATA"

export AWS_ACCESS_KEY_ID=compat-test-key AWS_SECRET_ACCESS_KEY="compat-$(head -c 18 /dev/urandom | base64 | tr -d '/+=')"
export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export AWS_CONFIG_FILE="$scratch/no-config" AWS_SHARED_CREDENTIALS_FILE="$scratch/no-credentials" AWS_EC2_METADATA_DISABLED=true
unset AWS_SESSION_TOKEN AWS_PROFILE

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# What each client reads to trust our CA; over http none of it matters.
trust() { # CA
  export CA=$1 AWS_CA_BUNDLE=$1 CURL_CA_BUNDLE=$1 REQUESTS_CA_BUNDLE=$1 SSL_CERT_FILE=$1 NODE_EXTRA_CA_CERTS=$1 RESTIC_CACERT=$1 RCLONE_CA_CERT=$1
}

start_server() { # SCHEME
  local s3_port http_port rpc_port tls=() store="$scratch/store-$1"
  s3_port=$(free_port) http_port=$(free_port) rpc_port=$(free_port)
  export SCHEME=$1 ENDPOINT="$1://127.0.0.1:$s3_port"
  export AWS_ENDPOINT_URL="$ENDPOINT"
  [ "$1" = http ] || tls=(--tls auto)
  MINIKV_ROOT_ACCESS_KEY=$AWS_ACCESS_KEY_ID MINIKV_ROOT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY \
    "$bin" server ${tls[@]+"${tls[@]}"} --data-dir "$store" --s3-addr "127.0.0.1:$s3_port" --http-addr "127.0.0.1:$http_port" --rpc-addr "127.0.0.1:$rpc_port" >"$scratch/server.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    if [ -f "$store/tls/ca.pem" ]; then trust "$store/tls/ca.pem"; fi
    curl -sf "$1://127.0.0.1:$http_port/readyz" >/dev/null 2>&1 && return
    kill -0 "$server" 2>/dev/null || { cat "$scratch/server.log"; echo "the server ended at its start" >&2; exit 1; }
    sleep 0.1
  done
  echo "the server is not ready after 10 s" >&2
  exit 1
}

skipped=0
for scheme in "${schemes[@]}"; do
  start_server "$scheme"
  for client in "${clients[@]}"; do
    export CLIENT=$client BUCKET="compat-${client//_/-}" WORK="$scratch/work-$client"
    mkdir -p "$WORK"
    echo "== $client over $SCHEME"
    began=$SECONDS
    bash "$here/$client/run.sh" >"$scratch/said" 2>&1
    status=$?
    cat "$scratch/said"
    [ "$scheme" = "${schemes[0]}" ] && printf '%s\t%s\n' "$client" "$(head -n 1 "$scratch/said")" >>"$scratch/versions.tsv"
    if [ $status -eq 77 ]; then
      echo "skipped: not installed: $client"
      skipped=$((skipped + 1))
      [ $full = no ] || printf '%s\t%s\t%s\t%s\t%s\n' "$client" "$SCHEME" "it is installed" FAIL "compat-tests/install.sh --full" >>"$RESULTS"
    elif [ $status -ne 0 ]; then
      printf '%s\t%s\t%s\t%s\t%s\n' "$client" "$SCHEME" "the script ran to its end" FAIL "exit $status" >>"$RESULTS"
    fi
    echo "   $((SECONDS - began)) s"
    rm -rf "$WORK"
  done
  kill -0 "$server" 2>/dev/null || printf 'server\t%s\tit was still alive at the end\tFAIL\t\n' "$SCHEME" >>"$RESULTS"
  stop_server
done

passed=$(awk -F'\t' '$4 == "ok"' "$RESULTS" | wc -l)
failed=$(awk -F'\t' '$4 == "FAIL"' "$RESULTS" | wc -l)
if [ "$failed" -gt 0 ]; then
  echo "what failed:"
  awk -F'\t' '$4 == "FAIL" { print "  " $1 "/" $2 " " $3 ": " $5 }' "$RESULTS"
  echo "last lines of the server's log:"
  tail -n 20 "$scratch/server.log"
fi
if [ $full = yes ] && [ $# -eq 0 ] && [ "${#schemes[@]}" -eq 2 ]; then
  python3 "$here/report.py" "$RESULTS" "$scratch/versions.tsv" >"$here/../docs/compat.md"
  echo "docs/compat.md is written anew"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
