#!/usr/bin/env bash
# Compares two builds of minikv by instructions per operation, counted by callgrind: a figure that does not depend on the load of the machine.
#   bench/regress.sh BEFORE [AFTER]     commits; AFTER is the working tree unless given
#   bench/regress.sh --binaries BEFORE AFTER     two binaries that are there already (built with --release)
#   bench/regress.sh --recorded BINARY           one binary against the counts in bench/instructions.txt; what CI does
#   bench/regress.sh --record BINARY             writes these counts: in the commit that changes them, so that a rise is seen
# Exit code 1 when HEAD, GET 4 KiB, PUT 4 KiB or DELETE takes more than REGRESS_LIMIT percent (3) more instructions than before.
# Counts of another compiler or C library are printed and not judged. One connection: more of them share batches, by chance.
# Needs valgrind and curl. Instructions are no time: callgrind has no AVX-512 and no SHA-NI, and counts each step of a `rep movsb`.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=${REGRESS_LIMIT:-3}
command -v valgrind >/dev/null || { echo "valgrind is not installed: apt-get install valgrind" >&2; exit 2; }
[ $# -ge 1 ] || { sed -n '3,6s/^# *//p' "$0" >&2; exit 2; }
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

recorded=bench/instructions.txt
tools="# $(rustc -V), glibc $(ldd --version | awk 'NR == 1 { print $NF }'), $(uname -m) $(grep -m1 '^flags' /proc/cpuinfo | grep -owE 'avx2|bmi2|erms|fsrm' | tr '\n' ' ')"
if [ "$1" = --binaries ]; then
  before=$2 after=$3
elif [ "$1" = --recorded ] || [ "$1" = --record ]; then
  before= after=$2
else
  before=$work/before after=$work/after
  build "$1" "$before"
  build "${2:-}" "$after"
fi
[ -x "$target/release/s3load" ] || cargo build --release --locked --quiet -p s3load
export MINIKV_ROOT_ACCESS_KEY=bench-access-key MINIKV_ROOT_SECRET_KEY=bench-secret-key-for-one-run
load() { "$target/release/s3load" --endpoint http://127.0.0.1:19020 --access "$MINIKV_ROOT_ACCESS_KEY" --secret "$MINIKV_ROOT_SECRET_KEY" --bucket bench --create-bucket \
  --concurrency 1 --seed 7 --size 4KiB "$@"; }

count() { # BINARY: operation and instructions per operation, a line each
  local dir=$work/run operation=0
  rm -rf "$dir" && mkdir "$dir"
  valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$dir/out" "$1" server --data-dir "$dir/store" \
    --s3-addr 127.0.0.1:19020 --http-addr 127.0.0.1:19021 --rpc-addr 127.0.0.1:19022 >"$dir/log" 2>&1 &
  server=$!
  for _ in $(seq 400); do curl -sf http://127.0.0.1:19021/readyz >/dev/null && break; sleep 0.3; done
  for round in 1 2 3 4; do load --op put --count 300 --prefix "$round/" >/dev/null; done
  one() { # NAME COUNT ARGS...: the least of four, since what runs beside (timers, on a slow machine more of them) only adds
    local name=$1 times=$2 least=
    shift 2
    for round in 1 2 3 4; do
      operation=$((operation + 1))
      callgrind_control -i on $server >/dev/null 2>&1
      load --count "$times" "$@" --prefix "$round/" >/dev/null
      callgrind_control -i off $server >/dev/null 2>&1
      callgrind_control -d $server >/dev/null 2>&1
      least=$(awk -v times="$times" -v least="$least" '/^(totals|summary):/ { sum = $2 / times } END { printf "%.0f", least == "" || sum < least ? sum : least }' "$dir/out.$operation")
    done
    echo "$name $least"
  }
  one HEAD 300 --op stat --no-preload --objects 300
  one GET 300 --op get --no-preload --objects 300
  one DELETE 300 --op delete --no-preload --objects 300
  one PUT 300 --op put
  kill $server
  wait $server || true
}

if [ "$1" = --recorded ]; then
  grep -v '^#' $recorded >"$work/before.txt"
  if ! grep -qxF "$tools" $recorded; then
    echo "$recorded was counted with other tools: not judged"
    limit=1000
  fi
elif [ "$1" != --record ]; then
  count "$before" >"$work/before.txt"
fi

compare() {
  paste -d' ' "$work/before.txt" "$work/after.txt" | awk -v limit="$limit" '
    BEGIN { printf "%-8s %12s %12s\n", "", "before", "after" }
    { more = ($4 / $2 - 1) * 100; note = ""
      if (more > limit) { note = "  more than the limit"; bad = 1 }
      printf "%-8s %12d %12d  %+.1f %%%s\n", $1, $2, $4, more, note }
    END { if (NR != 4) { print "not all operations were counted" > "/dev/stderr"; bad = 1 } exit bad }'
}

count "$after" >"$work/after.txt"
# A disturbed count only adds: what is too much is counted again before it is believed, and what is recorded is, too.
for again in 1 2; do
  [ "$1" != --record ] && compare >/dev/null && break
  count "$after" >"$work/again.txt"
  paste -d' ' "$work/after.txt" "$work/again.txt" | awk '{ print $1, ($4 < $2 ? $4 : $2) }' >"$work/least.txt"
  mv "$work/least.txt" "$work/after.txt"
done
if [ "$1" = --record ]; then
  { echo "$tools"; cat "$work/after.txt"; } >$recorded
  cat $recorded
else
  compare
fi
