#!/usr/bin/env bash
# Prints the table of docs/performance.md: server CPU per operation, medians of three runs, measured with bench/s3load.
#   bench/run.sh [SECONDS]     seconds per run, 10 unless given; needs cargo build --release -p minikv -p s3load -p null-s3 first
# Starts servers of its own on fresh data directories (in MINIKV_BENCH_DIR or a temporary one) and removes them afterwards.
# The large objects get a store each: with 10 seconds a run the largest takes about 25 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
target=${CARGO_TARGET_DIR:-target}
bin=$target/release/minikv load=$target/release/s3load null=$target/release/null-s3
[ -x "$bin" ] && [ -x "$load" ] && [ -x "$null" ] || { echo "first: cargo build --release -p minikv -p s3load -p null-s3" >&2; exit 2; }
dir=$(mktemp -d "${MINIKV_BENCH_DIR:-/tmp}/minikv-bench.XXXXXX")
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
server=0 nothing=0 port=19000
trap 'kill $server $nothing 2>/dev/null; wait $server 2>/dev/null; rm -rf "$dir"' EXIT
begin() {
  "$bin" server --data-dir "$dir/store" --s3-addr 127.0.0.1:19000 --http-addr 127.0.0.1:19001 --rpc-addr 127.0.0.1:19002 >>"$dir/log" 2>&1 &
  server=$!
  for _ in $(seq 100); do curl -sf http://127.0.0.1:19001/readyz >/dev/null && break; sleep 0.1; done
  accounted=$server
}
afresh() { kill $server; wait $server 2>/dev/null || true; rm -rf "$dir/store"; begin; }
begin
sleep 1
rss() { awk '/VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$server/status"; }
echo "RSS idle, empty: $(rss) MiB"
echo "openssl md5, 64 KiB blocks: $(openssl speed -seconds 1 -bytes 65536 md5 2>/dev/null | awk '/^md5/ { print $2 }')"

fill() { # COUNT SIZE PREFIX
  "$load" --endpoint http://127.0.0.1:19000 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
    --op put --size "$2" --count "$1" --concurrency 64 --prefix "$3" --label fill >/dev/null
}
fill 100000 1KiB fill/
sleep 10
echo "RSS idle, 100k objects of 1 KiB: $(rss) MiB"

metric() { # NAME: the sum of its series
  curl -sf http://127.0.0.1:19001/metrics | awk -v name="$1" '{ split($1, part, "{"); if (part[1] == name) sum += $2 } END { printf "%.0f", sum }'
}
written() { # COUNT SIZE BYTES CONCURRENCY: what the log was given for so many PUTs
  local fsyncs records batches bytes
  fsyncs=$(metric minikv_fsync_duration_seconds_count) records=$(metric minikv_log_records_total) batches=$(metric minikv_log_batches_total) bytes=$(metric minikv_log_written_bytes_total)
  "$load" --endpoint http://127.0.0.1:19000 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --op put --size "$2" --count "$1" --concurrency "$4" --prefix "written/$2/" >/dev/null
  awk -v n="$1" -v size="$2" -v each="$3" -v f=$(($(metric minikv_fsync_duration_seconds_count) - fsyncs)) -v r=$(($(metric minikv_log_records_total) - records)) \
    -v b=$(($(metric minikv_log_batches_total) - batches)) -v w=$(($(metric minikv_log_written_bytes_total) - bytes)) \
    'BEGIN { printf "%d PUTs of %s: %.3f fsyncs each, %.1f records a batch, %.3f bytes in the log per byte\n", n, size, f / n, r / b, w / (n * each) }'
}

one() { # NAME ARGS...: three runs, the median by CPU per operation
  local name=$1; shift
  for run in 1 2 3; do
    "$load" --endpoint http://127.0.0.1:$port --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
      --duration "$seconds" --warmup 2 --pids "$accounted" --label "$name" "$@" || true
  done | python3 -c '
import json, sys
runs = [json.loads(line) for line in sys.stdin if line.startswith("{")]
runs.sort(key=lambda r: r.get("server_cpu_s_per_1000_ops", 0))
if not runs: raise SystemExit(sys.argv[1] + ": no result")
r = runs[len(runs) // 2]
errors = sum(sum(x.get("errors", {}).values()) if isinstance(x.get("errors"), dict) else x.get("errors", 0) for x in runs)
print("%-22s %9.4f ms CPU/op  %7.3f CPU-s/GB  %9.0f op/s  p50 %7.2f ms  p99 %8.2f ms  errors %d" % (
    sys.argv[1], r.get("server_cpu_s_per_1000_ops", 0), r.get("server_cpu_s_per_gb", 0) or 0, r["ops_per_s"], r["p50_ms"], r["p99_ms"], errors))
' "$name"
}
one "HEAD"               --op stat --concurrency 64
one "GET 4 KiB"          --op get --size 4KiB --concurrency 64
one "GET 4 KiB, 1 conn"  --op get --size 4KiB --concurrency 1
one "PUT 4 KiB"          --op put --size 4KiB --concurrency 64
one "DELETE"             --op delete --size 4KiB --concurrency 64 --objects 200000
one "LIST 1000"          --op list --size 1KiB --concurrency 64 --objects 20000
written 20000 4KiB 4096 64
written 1000 1MiB 1048576 16
echo "RSS after all these: $(rss) MiB"
afresh
one "GET 1 MiB"          --op get --size 1MiB --concurrency 16 --objects 200
one "PUT 1 MiB"          --op put --size 1MiB --concurrency 16
afresh
one "PUT 64 MiB"         --op put --size 64MiB --concurrency 4
afresh
# One large object from one connection, against what bounds it: MD5 on one core, and the same bytes written through the page cache and fsynced.
for run in 1 2 3; do
  md5=$(openssl speed -seconds 1 -bytes 65536 md5 2>/dev/null | awk '/^md5/ { sub("k", "", $2); printf "%.0f", $2 / 1000 }')
  disk=$(dd if=/dev/zero of="$dir/gigabyte" bs=1M count=1024 conv=fdatasync 2>&1 | awk -F, '/copied/ { split($(NF - 1), s, " "); printf "%.0f", 1073.741824 / s[1] }')
  rm "$dir/gigabyte"
  "$load" --endpoint http://127.0.0.1:$port --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket --op put --size 1GiB --count 1 --concurrency 1 --pids "$accounted" |
    python3 -c '
import json, sys
md5, disk = map(float, sys.argv[1:])
r = [json.loads(line) for line in sys.stdin if line.startswith("{")][0]
speed = 1073.741824 / (r["p50_ms"] / 1000)
print("PUT 1 GiB: %.0f MB/s, %.2f CPU-s/GB; MD5 %.0f MB/s, write and fsync %.0f MB/s: %.0f %% of the slower" % (speed, r["server_cpu_s_per_gb"], md5, disk, 100 * speed / min(md5, disk)))' "$md5" "$disk"
done
echo "RSS after that: $(rss) MiB"

"$null" 127.0.0.1:19003 "$MINIKV_ROOT_ACCESS_KEY" "$MINIKV_ROOT_SECRET_KEY" --md5 &
nothing=$! accounted=$! port=19003
sleep 0.5
echo "the idealised server, which keeps nothing:"
one "PUT 4 KiB"          --op put --size 4KiB --concurrency 64
one "HEAD"               --op stat --size 4KiB --concurrency 64
one "GET 4 KiB"          --op get --size 4KiB --concurrency 64
one "PUT 1 MiB"          --op put --size 1MiB --concurrency 16
one "GET 1 MiB"          --op get --size 1MiB --concurrency 16 --objects 200
