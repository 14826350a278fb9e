#!/usr/bin/env bash
# s5cmd: many requests at once, 1000 keys in each DeleteObjects.
set -u
. "$(dirname "$0")/../check.sh"
command -v s5cmd >/dev/null || exit 77
echo "s5cmd $(s5cmd version)"
export S3_ENDPOINT_URL="$ENDPOINT"

check "make bucket" s5cmd mb "s3://$BUCKET"
for f in empty five inline-64k over-64k 5MiB 100MiB; do
  check "cp up $f" s5cmd cp "$DATA/$f" "s3://$BUCKET/files/$f"
  check "cp down $f" s5cmd cp "s3://$BUCKET/files/$f" "$WORK/$f"
  check "same bytes $f" same "$DATA/$f" "$WORK/$f"
done
check "sync up 200 awkward names" s5cmd sync "$DATA/tree/" "s3://$BUCKET/tree/"
check "sync down" s5cmd sync "s3://$BUCKET/tree/*" "$WORK/tree/"
check "same tree" same_tree "$DATA/tree" "$WORK/tree"
check "ls counts 200" bash -c "[ \$(s5cmd ls 's3://$BUCKET/tree/*' | wc -l) -eq 200 ]"
check "cat" bash -c "s5cmd cat s3://$BUCKET/files/5MiB | cmp - '$DATA/5MiB'"
check "pipe" bash -c "s5cmd pipe s3://$BUCKET/piped <'$DATA/5MiB' && s5cmd cat s3://$BUCKET/piped | cmp - '$DATA/5MiB'"
check "copy on the server" bash -c "s5cmd cp s3://$BUCKET/files/5MiB s3://$BUCKET/copied && s5cmd cat s3://$BUCKET/copied | cmp - '$DATA/5MiB'"
check "du" s5cmd du "s3://$BUCKET/*"
check "presign" bash -c "curl -sf \"\$(s5cmd presign s3://$BUCKET/files/five)\" | cmp - '$DATA/five'"
check "rm all" s5cmd rm "s3://$BUCKET/*"
check "remove bucket" s5cmd rb "s3://$BUCKET"
