#!/usr/bin/env bash
# What a server does under loads that wear others down; each figure beside its bound. Clients are other processes on this machine.
#   bench/load.sh [PART...]     uploads idle overload metadata unless given; needs cargo build --release -p minikv -p s3load first
#   uploads    200 parallel uploads of 100 MiB at full speed; cut after LOAD_UPLOAD_SECONDS (25), so that they need no 20 GB of disk
#   idle       10,000 idle connections and 1,000 uploads of 64 KiB at 1 KiB/s beside a fast client; the uploads finish
#   overload   3,000 connections that all write: some are served, the others hear SlowDown, nobody waits in vain
#   metadata   HEAD and PUT 1 KiB at a steady rate, alone and beside two uploads at full speed
# Data goes to MINIKV_BENCH_DIR, or a temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(uploads idle overload metadata)
target=${CARGO_TARGET_DIR:-target}
bin=${MINIKV_BENCH_BIN:-$target/release/minikv} load=$target/release/s3load
[ -x "$bin" ] && [ -x "$load" ] || { echo "first: cargo build --release -p minikv -p s3load" >&2; exit 2; }
ulimit -n "$(ulimit -Hn)"
port=${LOAD_PORT:-19040}
s3=127.0.0.1:$port http=127.0.0.1:$((port + 1))
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
dir=$(mktemp -d "${MINIKV_BENCH_DIR:-/tmp}/minikv-load.XXXXXX")
server=0 others=()
trap 'kill -9 $server "${others[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT

begin() {
  "$bin" server --data-dir "$dir/store" --s3-addr $s3 --http-addr $http --rpc-addr 127.0.0.1:$((port + 2)) >>"$dir/log" 2>&1 &
  server=$!
  until curl -sf http://$http/readyz >/dev/null; do sleep 0.05; done
  sleep 1
}
end() { kill $server; wait $server 2>/dev/null || true; rm -rf "$dir/store"; others=(); }
mib() { awk -v name="$1:" '$1 == name { printf "%.0f", $2 / 1024 }' "/proc/$server/status"; }
drive() { "$load" --endpoint http://$s3 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket "$@"; }
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2], 0))' "$1" "$2"; }
verdict() { # TEXT VALUE BOUND: "<=" decides
  awk -v text="$1" -v value="$2" -v bound="$3" 'BEGIN { printf "%-4s %s: %.2f (at most %.2f)\n", value <= bound ? "ok" : "OVER", text, value, bound }'
}

uploads() {
  begin
  local idle seconds=${LOAD_UPLOAD_SECONDS:-25}
  idle=$(mib VmRSS)
  timeout "$seconds" "$load" --endpoint http://$s3 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
    --op put --size 100MiB --concurrency 200 --count 200 >/dev/null || true
  echo "200 uploads of 100 MiB side by side: $(curl -s http://$http/metrics | awk '/^minikv_log_written_bytes_total\{stream="blob"/ { printf "%.0f", $2 / 1048576 }') MiB came in $seconds s; idle before: $idle MiB"
  verdict "MiB of memory above idle at the peak" $(($(mib VmHWM) - idle)) 256
  sleep 5
  echo "     $(($(mib VmRSS) - idle)) MiB above idle 5 s later"
  end
}

steady() { # FILE ARGS...: a client that asks at a steady rate
  local file=$1; shift
  drive --threads 1 "$@" >"$file"
}

idle() {
  begin
  drive --op put --size 4KiB --count 5000 --concurrency 32 --prefix fast/ --seed 7 >/dev/null
  local fast=(--op get --size 4KiB --no-preload --objects 5000 --prefix fast/ --seed 7 --concurrency 8 --rate 1000 --duration 15 --warmup 2)
  steady "$dir/alone" "${fast[@]}"
  local before; before=$(mib VmRSS)
  drive --op idle --concurrency 10000 --duration 65 >"$dir/idle" & others+=($!)
  sleep 8
  echo "10,000 idle connections: $(($(mib VmRSS) - before)) MiB of memory"
  drive --op put --size 64KiB --body-rate 1KiB --count 1000 --concurrency 1000 --timeout 600 --prefix slow/ >"$dir/slow" & others+=($!)
  sleep 10
  steady "$dir/beside" "${fast[@]}"
  echo "with 1,000 uploads at 1 KiB/s: $(($(mib VmRSS) - before)) MiB of memory"
  wait "${others[@]}" || true
  echo "fast client, GET 4 KiB, 1,000 a second: p99 $(field "$dir/alone" p99_ms) ms alone, $(field "$dir/beside" p99_ms) ms beside them (p50 $(field "$dir/alone" p50_ms), $(field "$dir/beside" p50_ms)); errors $(field "$dir/beside" errors)"
  verdict "p99 beside them, times" "$(python3 -c 'import json,sys; a,b=[json.load(open(x))["p99_ms"] for x in sys.argv[1:]]; print(b/a)' "$dir/alone" "$dir/beside")" 2
  verdict "idle connections that were closed" "$(field "$dir/idle" errors)" 0
  verdict "slow uploads that did not finish" "$((1000 - $(field "$dir/slow" ops)))" 0
  end
}

overload() {
  begin
  drive --op put --size 4KiB --concurrency 64 --duration 5 --warmup 1 --prefix calm/ >"$dir/calm"
  drive --op put --size 4KiB --concurrency 3000 --duration 8 --warmup 2 --timeout 10 --prefix storm/ >"$dir/storm" || true
  echo "3,000 connections write at once: $(field "$dir/storm" ops_per_s) PUT/s (64 connections: $(field "$dir/calm" ops_per_s)), $(field "$dir/storm" errors_throttled) SlowDown; served p99 $(field "$dir/storm" p99_ms) ms, SlowDown after p50 $(field "$dir/storm" turned_away_p50_ms), p99 $(field "$dir/storm" turned_away_p99_ms) ms"
  verdict "time-outs and broken connections" "$(field "$dir/storm" errors_transport)" 0
  verdict "other errors" "$(($(field "$dir/storm" errors_status) + $(field "$dir/storm" errors_content)))" 0
  verdict "ms until SlowDown, p99" "$(field "$dir/storm" turned_away_p99_ms)" 1000
  end
}

metadata() {
  begin
  drive --op put --size 1KiB --count 5000 --concurrency 32 --prefix meta/ --seed 7 >/dev/null
  local head=(--op stat --size 1KiB --no-preload --objects 5000 --prefix meta/ --seed 7 --concurrency 4 --rate 200 --duration 12 --warmup 1)
  local put=(--op put --size 1KiB --concurrency 4 --rate 100 --duration 12 --warmup 1)
  steady "$dir/head" "${head[@]}"; steady "$dir/put" "${put[@]}"
  drive --op put --size 64MiB --concurrency 2 --duration 32 --prefix bulk/ >"$dir/bulk" & others+=($!)
  sleep 2
  steady "$dir/head-beside" "${head[@]}"; steady "$dir/put-beside" "${put[@]}"
  wait "${others[@]}" || true
  echo "two uploads at full speed: $(field "$dir/bulk" mb_per_s) MB/s"
  local what
  for what in head put; do
    echo "$what: p50 $(field "$dir/$what" p50_ms), p99 $(field "$dir/$what" p99_ms) ms alone; p50 $(field "$dir/$what-beside" p50_ms), p99 $(field "$dir/$what-beside" p99_ms) ms beside them"
    verdict "p99 of $what beside two uploads, times" "$(python3 -c 'import json,sys; a,b=[json.load(open(x))["p99_ms"] for x in sys.argv[1:]]; print(b/a)' "$dir/$what" "$dir/$what-beside")" 3
  done
  end
}

echo "commit $(git rev-parse --short HEAD), $(date -u +%F)"
for part in "${parts[@]}"; do $part; done
