#!/usr/bin/env bash
# restic: a backup that is checked, restored and pruned.
set -u
. "$(dirname "$0")/../check.sh"
command -v restic >/dev/null || exit 77
restic version
export RESTIC_REPOSITORY="s3:$ENDPOINT/$BUCKET/repo" RESTIC_PASSWORD=compat RESTIC_CACHE_DIR="$WORK/cache"
[ "$SCHEME" = https ] || unset RESTIC_CACERT

check "init makes the bucket" restic init
check "backup" restic backup --quiet "$DATA/tree" "$DATA/5MiB" "$DATA/100MiB"
check "backup again" restic backup --quiet "$DATA/tree" "$DATA/five"
check "snapshots" bash -c "[ \$(restic snapshots --json | grep -o '\"short_id\"' | wc -l) -eq 2 ]"
check "check reads all data" restic check --read-data
check "restore" restic restore --quiet latest --target "$WORK/restored"
check "same tree" same_tree "$DATA/tree" "$WORK/restored$DATA/tree"
check "forget and prune" restic forget --keep-last 1 --prune
check "check after prune" restic check
