#!/usr/bin/env bash
# How cost and memory grow with the number of objects: one store filled with 1 KiB objects to 10k, 100k, 1M (and 10M) of them.
#   bench/growth.sh [--full] [LEVEL...]     10000 100000 1000000 unless given; --full adds 10000000 (about 20 GB, half an hour)
# needs cargo build --release -p minikv -p s3load first. At each level: PUT from the level below up to this one (everything that came
# of it included: the server's CPU until it has been quiet again), then PUT, GET, HEAD, LIST, listings with a delimiter, the first page
# and the last one, RSS, disk, what was written, and the time from exec to the first signed HEAD after kill -9 (as bench/restart.sh).
# Data goes to MINIKV_BENCH_DIR, or a temporary directory. GROWTH_LOCKS may name files that are locked while figures
# are taken, for a machine that is shared with other work; the long fills run without.
set -euo pipefail
cd "$(dirname "$0")/.."
levels=()
for arg in "$@"; do
  case $arg in --full) full=1 ;; *) levels+=("$arg") ;; esac
done
[ ${#levels[@]} -gt 0 ] || levels=(10000 100000 1000000)
[ -z "${full:-}" ] || levels+=(10000000)
target=${CARGO_TARGET_DIR:-target}
bin=$target/release/minikv load=$target/release/s3load
[ -x "$bin" ] && [ -x "$load" ] || { echo "first: cargo build --release -p minikv -p s3load" >&2; exit 2; }
read -ra locks <<<"${GROWTH_LOCKS:-}"
port=${GROWTH_PORT:-19020}
s3=127.0.0.1:$port http=127.0.0.1:$((port + 1))
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
dir=$(mktemp -d "${MINIKV_BENCH_DIR:-/tmp}/minikv-growth.XXXXXX")
server=0
trap 'kill -9 $server 2>/dev/null || true; rm -rf "$dir"' EXIT
folders=10

begin() {
  "$bin" server --data-dir "$dir/store" --s3-addr $s3 --http-addr $http --rpc-addr 127.0.0.1:$((port + 2)) >>"$dir/log" 2>&1 6>&- 7>&- &
  server=$!
}
ready() { until curl -sf http://$http/readyz >/dev/null; do sleep 0.05; done; }
rss() { awk '/VmRSS/ { printf "%.0f", $2 / 1024 }' "/proc/$server/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }
metric() { # NAME [LABELS]: the sum of its series that hold LABELS
  curl -sf http://$http/metrics | awk -v name="$1" -v labels="${2:-}" '{ split($1, part, "{"); if (part[1] == name && index($1, labels)) sum += $2 } END { printf "%.0f", sum }'
}
settle() { # until two seconds took less than 2 % of a core, at most three minutes
  local before now
  for _ in $(seq 90); do
    before=$(ticks); sleep 2; now=$(ticks)
    [ $((now - before)) -gt 4 ] || return 0
  done
}
ask() { curl -sf -o /dev/null -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" --aws-sigv4 aws:amz:us-east-1:s3 --user "$MINIKV_ROOT_ACCESS_KEY:$MINIKV_ROOT_SECRET_KEY" "$@"; }
drive() { # ARGS...: one run over the objects there are
  "$load" --endpoint http://$s3 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket --size 1KiB \
    --folders $folders --prefix growth/ --seed 1 --pids $server "$@"
}
figure() { # NAME JSON
  python3 -c '
import json, sys
r = json.loads(sys.argv[2])
errors = r.get("errors", 0)
print("  %-26s %8.4f ms CPU/op %9.0f op/s  p50 %7.2f  p99 %8.2f ms%s" % (sys.argv[1], r["server_cpu_s_per_1000_ops"], r["ops_per_s"], r["p50_ms"], r["p99_ms"], "  %d ERRORS: %s" % (errors, r.get("first_error")) if errors else ""))' "$1" "$2"
}
written() { # what was written so far: log, rows by checkpoint and merge, places by both, moved
  echo "$(metric minikv_log_written_bytes_total) $(metric minikv_run_written_bytes_total 'rows",by="checkpoint') $(metric minikv_run_written_bytes_total 'rows",by="merge')" \
    "$(metric minikv_run_written_bytes_total 'places",by="checkpoint') $(metric minikv_run_written_bytes_total 'places",by="merge') $(metric minikv_compaction_moved_bytes_total)"
}

measured() { # LEVEL
  local level=$1
  figure "PUT"                      "$(drive --op put --prefix probe/"$level"/ --count 50000 --concurrency 64)"
  figure "GET"                      "$(drive --op get --no-preload --objects "$level" --duration 5 --warmup 1 --concurrency 64)"
  figure "HEAD"                     "$(drive --op stat --no-preload --objects "$level" --duration 5 --warmup 1 --concurrency 64)"
  figure "LIST 1000, anywhere"      "$(drive --op list --list-from random --objects "$level" --no-preload --duration 5 --warmup 1 --concurrency 16)"
  figure "LIST first page, 1 conn"  "$(drive --op list --list-from first --objects "$level" --no-preload --duration 3 --warmup 1 --concurrency 1)"
  figure "LIST last page, 1 conn"   "$(drive --op list --list-from last --objects "$level" --no-preload --duration 3 --warmup 1 --concurrency 1)"
  figure "LIST delimiter, 1 conn"   "$(drive --op list --list-from first --delimiter / --objects "$level" --no-preload --duration 3 --warmup 1 --concurrency 1)"
  echo "  RSS after these: $(rss) MiB"
}

restarts() { # three times: kill -9, start, the object that was written last
  local took=() before round
  for round in 1 2 3; do
    ask -X PUT --data-binary "round $round" "http://$s3/bench/last-$round"
    kill -9 $server; { wait $server; } 2>/dev/null || true
    before=$(date +%s%N)
    begin
    until ask -I "http://$s3/bench/last-$round"; do :; done
    took+=("$((($(date +%s%N) - before) / 1000000)) ($(($(ticks) * 10)))")
  done
  echo "  restart after kill -9 to the first signed HEAD: ${took[*]} ms (of server CPU), RSS $(rss) MiB"
}

begin; ready; sleep 2
echo "commit $(git rev-parse --short HEAD), $(date -u +%F), openssl md5 64 KiB: $(openssl speed -seconds 1 -bytes 65536 md5 2>/dev/null | awk '/^md5/ { print $2 }')"
echo "RSS idle, empty: $(rss) MiB"
hold() { # the files of GROWTH_LOCKS, two at most
  if [ ${#locks[@]} -gt 0 ]; then exec 6>"${locks[0]}"; flock -x 6; fi
  if [ ${#locks[@]} -gt 1 ]; then exec 7>"${locks[1]}"; flock -x 7; fi
}
free() { exec 6>&- 7>&-; }
have=0
for level in "${levels[@]}"; do
  before=($(written)) cpu=$(ticks)
  result=$("$load" --endpoint http://$s3 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket --size 1KiB \
    --folders $folders --prefix growth/ --seed 1 --op put --first "$have" --count $((level - have)) --concurrency 64 --pids $server)
  filled=$(ticks)
  settle
  after=($(written))
  echo "$level objects of 1 KiB"
  python3 - "$have" "$level" "$cpu" "$filled" "$(ticks)" "$result" "${before[*]}" "${after[*]}" <<'PY'
import json, sys
have, level, cpu, filled, quiet = map(int, sys.argv[1:6])
r, n = json.loads(sys.argv[6]), level - have
b, a = [list(map(int, x.split())) for x in sys.argv[7:9]]
d = [y - x for x, y in zip(b, a)]
print("  filled from %d: %.4f ms CPU/op until quiet (%.4f while it ran), %.0f op/s, p99 %.1f ms, errors %d" % (have, (quiet - cpu) * 10.0 / n, (filled - cpu) * 10.0 / n, r["ops_per_s"], r["p99_ms"], r["errors"]))
size = n * 1024.0
print("  written per object byte: log %.2f, rows %.2f checkpoints + %.2f merges, places %.2f + %.2f, compaction %.2f: %.2f in all" % (*[x / size for x in d], sum(d) / size))
PY
  have=$level
  echo "  RSS idle: $(rss) MiB; on disk: $(du -sm "$dir/store" | cut -f1) MiB"
  hold
  measured "$level"
  settle
  echo "  RSS idle again: $(rss) MiB"
  restarts
  free
  settle
done
