#!/usr/bin/env bash
# The engines on the same work: server CPU per PUT, GET and HEAD, memory, disk, and the restart after kill -9.
#   bench/engines.sh [OBJECTS] [ENGINE...]    100000, native memory sled unless given; needs cargo build --release --workspace first
# For rocksdb: cargo build --release -p minikv --features rocksdb, then name it. Objects are of 1 KiB; a restart is counted
# from exec to the first signed HEAD, three times, each after kill -9 (the median; starting curl is ~10 ms of it).
# RSS is taken 10 s after the PUTs, and after the reads. Data goes to MINIKV_BENCH_DIR, or a temporary directory.
set -euo pipefail
cd "$(dirname "$0")/.."
objects=${1:-100000}
[ $# -gt 0 ] && shift
engines=("$@")
[ ${#engines[@]} -gt 0 ] || engines=(native memory sled)
target=${CARGO_TARGET_DIR:-target}
bin=${MINIKV_BINARY:-$target/release/minikv} load=$target/release/s3load
[ -x "$bin" ] && [ -x "$load" ] || { echo "first: cargo build --release --workspace" >&2; exit 2; }
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
s3=127.0.0.1:19220
server=0
dir=$(mktemp -d "${MINIKV_BENCH_DIR:-/tmp}/minikv-engines.XXXXXX")
trap 'kill -9 $server 2>/dev/null || true; rm -rf "$dir"' EXIT

begin() { # ENGINE
  "$bin" server --engine "$1" --data-dir "$dir/store" --s3-addr $s3 --http-addr 127.0.0.1:19221 --rpc-addr 127.0.0.1:19222 >>"$dir/log" 2>&1 &
  server=$!
}
end() { # until nobody listens any more: a process of many threads is a zombie before all of them are gone
  kill -9 $server
  wait $server 2>/dev/null || true
  while (exec 3<>"/dev/tcp/${s3/:/\/}") 2>/dev/null; do sleep 0.01; done
}
head_of() { # KEY: a signed request
  curl -sf -o /dev/null -I -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" --aws-sigv4 aws:amz:us-east-1:s3 --user "$MINIKV_ROOT_ACCESS_KEY:$MINIKV_ROOT_SECRET_KEY" "http://$s3/bench/$1"
}
rss() { awk '/VmRSS/ { printf "%.0f", $2 / 1024 }' /proc/$server/status; }
mib() { du -sm "$@" 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'; }
cpu() { # ARGS...: ms of server CPU per operation
  "$load" --endpoint http://$s3 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
    --size 1KiB --concurrency 64 --seed 1 --pids $server "$@" | python3 -c '
import json, sys
r = [json.loads(line) for line in sys.stdin if line.startswith("{")][-1]
errors = r.get("errors", 0)
errors = sum(errors.values()) if isinstance(errors, dict) else errors
print("%.4f%s" % (r["server_cpu_s_per_1000_ops"], " (%d errors)" % errors if errors else ""))'
}

echo "| engine, objects | PUT ms | GET ms | HEAD ms | RSS after PUTs, reads | its disk, all | restart ms (CPU ms) |"
echo "|---|---|---|---|---|---|---|"
for engine in "${engines[@]}"; do
  rm -rf "$dir/store"
  begin "$engine"
  for _ in $(seq 200); do curl -sf http://127.0.0.1:19221/readyz >/dev/null && break; sleep 0.05; done
  put=$(cpu --op put --count "$objects" --prefix o/)
  sleep 10
  filled=$(rss)
  get=$(cpu --op get --count 100000 --objects "$objects" --prefix o/ --no-preload)
  stat=$(cpu --op stat --count 100000 --objects "$objects" --prefix o/ --no-preload)
  read=$(rss)
  # What the engine reads: its database, or else the runs, once (their twins are there for healing).
  case $engine in
    sled | rocksdb) own=$(mib "$dir/store/$engine") ;;
    memory) own=0 ;;
    *) own=$(find "$dir/store/groups" -name '*.run' -printf '%s\n' | awk '{ sum += $1 } END { printf "%.0f", sum / 1048576 }') ;;
  esac
  all=$(mib "$dir/store")
  restarts=$(for _ in 1 2 3; do
    end
    before=$(date +%s%N)
    begin "$engine"
    until head_of "$(printf "o/%010d" $((objects - 1)))"; do :; done
    echo "$((($(date +%s%N) - before) / 1000000)) ($(awk '{ print ($14 + $15) * 10 }' /proc/$server/stat))"
    echo $server >"$dir/pid"
  done | sort -n | sed -n 2p)
  server=$(cat "$dir/pid")
  end
  echo "| $engine, $objects | $put | $get | $stat | $filled, $read MiB | $own, $all MiB | $restarts |"
done
