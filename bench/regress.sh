#!/usr/bin/env bash
# Compares two builds of minikv by instructions per operation, counted by callgrind: a figure that does not depend on the load of the machine.
#   bench/regress.sh BEFORE [AFTER]     commits; AFTER is the working tree unless given
#   bench/regress.sh --binaries BEFORE AFTER     two binaries that are there already (built with --release)
# Exit code 1 when HEAD, GET 4 KiB, PUT 4 KiB or DELETE takes more than REGRESS_LIMIT percent (3) more instructions than before.
# Needs valgrind and curl. Instructions are no time: callgrind has no AVX-512 and no SHA-NI, and counts each step of a `rep movsb`.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${REGRESS_LIMIT:-3}
command -v valgrind >/dev/null || { echo "valgrind is not installed: apt-get install valgrind" >&2; exit 2; }
[ $# -ge 1 ] || { sed -n '3,4s/^# *//p' "$0" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$(mktemp -d)
server=0
trap 'kill -9 $server 2>/dev/null || true; git worktree remove --force "$work/tree" 2>/dev/null || true; rm -rf "$work"' EXIT

build() { # COMMIT-or-empty DESTINATION
  if [ -z "$1" ]; then
    cargo build --release --locked --quiet -p minikv
    cp "$target/release/minikv" "$2"
  else
    git worktree add --quiet --force --detach "$work/tree" "$1"
    (cd "$work/tree" && CARGO_TARGET_DIR="$target" cargo build --release --locked --quiet -p minikv)
    cp "$target/release/minikv" "$2"
    git worktree remove --force "$work/tree"
  fi
}

if [ "$1" = --binaries ]; then
  before=$2 after=$3
else
  before=$work/before after=$work/after
  build "$1" "$before"
  build "${2:-}" "$after"
fi
[ -x "$target/release/s3load" ] || cargo build --release --locked --quiet -p s3load
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
load() { "$target/release/s3load" --endpoint http://127.0.0.1:19020 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
  --concurrency 16 --seed 7 --size 4KiB "$@"; }

count() { # BINARY: operation and instructions per operation, a line each
  local dir=$work/run operation=0
  rm -rf "$dir" && mkdir "$dir"
  valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$dir/out" "$1" server --data-dir "$dir/store" \
    --s3-addr 127.0.0.1:19020 --http-addr 127.0.0.1:19021 --rpc-addr 127.0.0.1:19022 >"$dir/log" 2>&1 &
  server=$!
  for _ in $(seq 400); do curl -sf http://127.0.0.1:19021/readyz >/dev/null && break; sleep 0.3; done
  load --op put --count 500 --prefix there/ >/dev/null
  one() { # NAME COUNT ARGS...
    local name=$1 times=$2
    shift 2
    operation=$((operation + 1))
    callgrind_control -i on $server >/dev/null 2>&1
    load --count "$times" "$@" >/dev/null
    callgrind_control -i off $server >/dev/null 2>&1
    callgrind_control -d $server >/dev/null 2>&1
    awk -v name="$name" -v times="$times" '/^(totals|summary):/ { sum = $2 } END { printf "%s %.0f\n", name, sum / times }' "$dir/out.$operation"
  }
  one PUT 1000 --op put --prefix new/
  one HEAD 1000 --op stat --no-preload --objects 500 --prefix there/
  one GET 1000 --op get --no-preload --objects 500 --prefix there/
  one DELETE 500 --op delete --no-preload --objects 500 --prefix there/
  kill $server
  wait $server || true
}

count "$before" >"$work/before.txt"
count "$after" >"$work/after.txt"
paste -d' ' "$work/before.txt" "$work/after.txt" | awk -v limit="$limit" '
  BEGIN { printf "%-8s %12s %12s\n", "", "before", "after" }
  { more = ($4 / $2 - 1) * 100; note = ""
    if (more > limit) { note = "  more than the limit"; bad = 1 }
    printf "%-8s %12d %12d  %+.1f %%%s\n", $1, $2, $4, more, note }
  END { if (NR != 4) { print "not all operations were counted" > "/dev/stderr"; bad = 1 } exit bad }'
