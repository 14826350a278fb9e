#!/usr/bin/env bash
# rclone with provider Minio: ListV2 with encoding-type=url, multipart ETags compared, SetModTime by self-copy.
set -u
. "$(dirname "$0")/../check.sh"
command -v rclone >/dev/null || exit 77
rclone version | head -n 1
export RCLONE_CONFIG="$WORK/rclone.conf"
cat >"$RCLONE_CONFIG" <<CONF
[m]
type = s3
provider = Minio
endpoint = $ENDPOINT
access_key_id = $AWS_ACCESS_KEY_ID
secret_access_key = $AWS_SECRET_ACCESS_KEY
region = us-east-1
CONF

check "mkdir" rclone mkdir "m:$BUCKET"
mkdir -p "$WORK/up"
for f in empty five inline-64k over-64k 5MiB 100MiB; do cp "$DATA/$f" "$WORK/up/"; done
check "copy up" rclone copy "$WORK/up" "m:$BUCKET/files"
check "copy down" rclone copy "m:$BUCKET/files" "$WORK/down"
check "same bytes" same_tree "$WORK/up" "$WORK/down"
check "check compares hashes" rclone check "$WORK/up" "m:$BUCKET/files"
check "check --download compares bytes" rclone check --download "$WORK/up" "m:$BUCKET/files"
check "sync up 200 awkward names" rclone sync "$DATA/tree" "m:$BUCKET/tree"
check "sync down" rclone sync "m:$BUCKET/tree" "$WORK/tree"
check "same tree" same_tree "$DATA/tree" "$WORK/tree"
check "lsf counts 200" bash -c "[ \$(rclone lsf -R --files-only m:$BUCKET/tree | wc -l) -eq 200 ]"
check "modification time is set by a self-copy" bash -c "rclone touch -t 2020-01-02T03:04:05 m:$BUCKET/files/five && rclone lsl m:$BUCKET/files/five | grep '2020-01-02 03:04:05'"
check "moveto" bash -c "rclone moveto m:$BUCKET/files/5MiB m:$BUCKET/moved && rclone cat m:$BUCKET/moved | cmp - '$DATA/5MiB'"
check "deletefile" rclone deletefile "m:$BUCKET/moved"
check "purge" rclone purge "m:$BUCKET"
