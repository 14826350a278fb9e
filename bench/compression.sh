#!/usr/bin/env bash
# What compression of a bucket costs and gives: server CPU per GB of PUT and GET of 1 MiB, and bytes stored, for lines of a
# log and for noise.
#   bench/compression.sh [SECONDS]     seconds per run, 4 unless given; needs cargo build --release -p minikv -p s3load first
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-4}
target=${CARGO_TARGET_DIR:-target}
bin=${MINIKV_BINARY:-$target/release/minikv} load=$target/release/s3load
[ -x "$bin" ] && [ -x "$load" ] || { echo "first: cargo build --release -p minikv -p s3load" >&2; exit 2; }
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
dir=$(mktemp -d "${MINIKV_BENCH_DIR:-/tmp}/minikv-compression.XXXXXX")
"$bin" server --data-dir "$dir/store" --s3-addr 127.0.0.1:19230 --http-addr 127.0.0.1:19231 --rpc-addr 127.0.0.1:19232 >"$dir/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$dir"' EXIT
for _ in $(seq 100); do curl -sf http://127.0.0.1:19231/readyz >/dev/null && break; sleep 0.1; done
minikv() { "$bin" "$@" --endpoint http://127.0.0.1:19230 --http-endpoint http://127.0.0.1:19231; }
stored() { minikv status --json | python3 -c 'import json, sys; g = json.load(sys.stdin)["groups"]; print(sum(x["bytes"] for x in g), sum(x["versions"] for x in g))'; }
cost() { # ARGS...: CPU-s per GB
  "$load" --endpoint http://127.0.0.1:19230 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --size 1MiB --concurrency 16 \
    --seed 1 --duration "$seconds" --warmup 1 --pids $server "$@" | python3 -c 'import json, sys; print("%.2f" % [json.loads(l) for l in sys.stdin if l.startswith("{")][-1]["server_cpu_s_per_gb"])'
}
echo "| content, bucket | PUT CPU-s/GB | GET CPU-s/GB | stored of 1 MiB |"
echo "|---|---|---|---|"
for content in text noise; do
  [ $content = text ] && flags=(--text) || flags=()
  for codec in off lz4 zstd; do
    bucket=$content-$codec
    minikv bucket create "$bucket" >/dev/null
    minikv bucket compression "$bucket" $codec >/dev/null
    read -r bytes versions < <(stored)
    put=$(cost --bucket "$bucket" --op put "${flags[@]}")
    read -r bytes_after versions_after < <(stored)
    get=$(cost --bucket "$bucket" --op get --objects 100 "${flags[@]}")
    echo "| $content, $codec | $put | $get | $(awk -v b=$((bytes_after - bytes)) -v n=$((versions_after - versions)) 'BEGIN { printf "%.1f %%", 100 * b / n / 1048576 }') |"
  done
done
