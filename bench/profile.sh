#!/usr/bin/env bash
# The ten costliest functions of a server at work, of user and kernel together, in % of its CPU time:
# PUT 4 KiB, GET 4 KiB, PUT 1 MiB and LIST, as bench/run.sh makes them; HEAD, DELETE and GET 1 MiB if named.
#   bench/profile.sh [OPERATION...]     put get large list unless given, also head delete download; needs perf, and cargo build --release -p minikv -p s3load first
# MINIKV_BINARY names another server, for before and after. Data goes to MINIKV_BENCH_DIR, or a temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."
operations=("$@")
[ ${#operations[@]} -gt 0 ] || operations=(put get large list)
target=${CARGO_TARGET_DIR:-target}
bin=${MINIKV_BINARY:-$target/release/minikv} load=$target/release/s3load
[ -x "$bin" ] && [ -x "$load" ] || { echo "first: cargo build --release -p minikv -p s3load" >&2; exit 2; }
command -v perf >/dev/null || { echo "perf is not installed (linux-perf)" >&2; exit 2; }
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
dir=$(mktemp -d "${MINIKV_BENCH_DIR:-/tmp}/minikv-profile.XXXXXX")
server=0
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$dir"' EXIT
for operation in "${operations[@]}"; do
  rm -rf "$dir/store"
  "$bin" server --data-dir "$dir/store" --s3-addr 127.0.0.1:19240 --http-addr 127.0.0.1:19241 --rpc-addr 127.0.0.1:19242 >>"$dir/log" 2>&1 &
  server=$!
  until curl -sf http://127.0.0.1:19241/readyz >/dev/null; do sleep 0.05; done
  case $operation in
    put) args=(--op put --size 4KiB --concurrency 64) ;;
    get) args=(--op get --size 4KiB --concurrency 64) ;;
    large) args=(--op put --size 1MiB --concurrency 16) ;;
    head) args=(--op stat --size 4KiB --concurrency 64) ;;
    delete) args=(--op delete --size 1KiB --concurrency 64 --objects 250000) ;;
    download) args=(--op get --size 1MiB --concurrency 16 --objects 200) ;;
    list) args=(--op list --size 1KiB --concurrency 64 --objects 20000) ;;
    *) echo "no such operation: $operation" >&2; exit 2 ;;
  esac
  # What must be there is there before the measured part begins: the recording starts within it.
  "$load" --endpoint http://127.0.0.1:19240 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
    --warmup 5 --duration 6 --pids $server "${args[@]}" >"$dir/load" &
  loading=$!
  sleep 5
  perf record -q -F 999 -o "$dir/perf" -p $server -- sleep 5 >/dev/null 2>&1
  wait $loading
  python3 -c '
import json, sys
r = [json.loads(line) for line in open(sys.argv[2]) if line.startswith("{")][-1]
print("%s: %.4f ms CPU/op, %.0f op/s" % (sys.argv[1], r["server_cpu_s_per_1000_ops"], r["ops_per_s"]))' "$operation" "$dir/load"
  perf report -i "$dir/perf" --no-children --sort symbol --stdio 2>/dev/null | awk '/^ *[0-9]/ { share = $1; $1 = ""; sub(/^ *\[.\] /, (index($0, "[k]") ? "kernel " : "")); sub(/[ -]*$/, ""); if (n++ < 10) print "  " share " " $0 }'
  kill $server; wait $server 2>/dev/null || true
done
