#!/usr/bin/env bash
# From exec to the first signed HEAD answered, after kill -9 with 100,000 objects of 1 KiB and, apart, of 64 KiB.
#   bench/restart.sh [OBJECTS] [SIZE...]     100000 1KiB 64KiB unless given; needs cargo build --release (and -p s3load) first
# The HEAD asks for the object that was written last, right before the kill. Five restarts each, with a kill -9 between them;
# a figure holds the ~10 ms that starting curl takes. Data goes to MINIKV_BENCH_DIR, or a temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."
objects=${1:-100000}
[ $# -gt 0 ] && shift
sizes=("$@")
[ ${#sizes[@]} -gt 0 ] || sizes=(1KiB 64KiB)
target=${CARGO_TARGET_DIR:-target}
bin=$target/release/minikv load=$target/release/s3load
[ -x "$bin" ] && [ -x "$load" ] || { echo "first: cargo build --release --workspace" >&2; exit 2; }
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
s3=127.0.0.1:19010
server=0
dir=$(mktemp -d "${MINIKV_BENCH_DIR:-/tmp}/minikv-restart.XXXXXX")
trap 'kill -9 $server 2>/dev/null || true; rm -rf "$dir"' EXIT

begin() {
  MINIKV_LOG=${RESTART_LOG:-info} "$bin" server --data-dir "$dir/store" --s3-addr $s3 --http-addr 127.0.0.1:19011 --rpc-addr 127.0.0.1:19012 >>"$dir/log" 2>&1 &
  server=$!
}
ask() { # METHOD-ARGS... : a signed request
  curl -sf -o /dev/null -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" --aws-sigv4 aws:amz:us-east-1:s3 --user "$MINIKV_ROOT_ACCESS_KEY:$MINIKV_ROOT_SECRET_KEY" "$@"
}
end() { kill -9 $server; { wait $server; } 2>/dev/null || true; }

for size in "${sizes[@]}"; do
  rm -rf "$dir/store"
  begin
  for _ in $(seq 200); do curl -sf http://127.0.0.1:19011/readyz >/dev/null && break; sleep 0.05; done
  "$load" --endpoint http://$s3 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
    --op put --size "$size" --concurrency 64 --count "$objects" --pids $server >"$dir/load"
  took=()
  for round in 1 2 3 4 5; do
    ask -X PUT --data-binary "round $round" "http://$s3/bench/last-$round"
    end
    before=$(date +%s%N)
    begin
    until ask -I "http://$s3/bench/last-$round"; do :; done
    took+=("$((($(date +%s%N) - before) / 1000000)) ($(awk '{ print ($14 + $15) * 10 }' /proc/$server/stat))")
  done
  disk=$(du -sm "$dir/store" | cut -f1)
  rss=$(awk '/VmRSS/ { printf "%.0f", $2 / 1024 }' /proc/$server/status)
  end
  echo "$objects objects of $size: ${took[*]} ms (of server CPU) from exec to the first signed HEAD after kill -9 (RSS $rss MiB, $disk MiB on disk)"
done
if [ -n "${RESTART_LOG:-}" ]; then grep '"DEBUG"' "$dir/log" | tail -40; fi
