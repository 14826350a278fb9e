#!/usr/bin/env bash
# s3cmd: begins with GetBucketLocation, lists with version 1, compares MD5 with the ETag, keeps attributes in metadata.
set -u
. "$(dirname "$0")/../check.sh"
command -v s3cmd >/dev/null || exit 77
s3cmd --version
host=${ENDPOINT#*://}
cat >"$WORK/s3cfg" <<CONF
[default]
access_key = $AWS_ACCESS_KEY_ID
secret_key = $AWS_SECRET_ACCESS_KEY
host_base = $host
host_bucket = $host
bucket_location = us-east-1
use_https = $([ "$SCHEME" = https ] && echo True || echo False)
signature_v2 = False
${CA:+ca_certs_file = $CA}
CONF
s3="s3cmd --config=$WORK/s3cfg --no-progress"

check "make bucket" $s3 mb "s3://$BUCKET"
check "info of the bucket" bash -c "$s3 info s3://$BUCKET | grep -i location"
for f in empty five inline-64k over-64k 5MiB 100MiB; do
  check "put $f" $s3 put "$DATA/$f" "s3://$BUCKET/files/$f"
  check "get $f" $s3 get "s3://$BUCKET/files/$f" "$WORK/$f"
  check "same bytes $f" same "$DATA/$f" "$WORK/$f"
done
check "sync up 200 awkward names" $s3 sync "$DATA/tree/" "s3://$BUCKET/tree/"
check "sync down" bash -c "mkdir -p '$WORK/tree' && $s3 sync s3://$BUCKET/tree/ '$WORK/tree/'"
check "same tree" same_tree "$DATA/tree" "$WORK/tree"
check "ls -r counts 200" bash -c "[ \$($s3 ls -r s3://$BUCKET/tree/ | wc -l) -eq 200 ]"
check "copy on the server" bash -c "$s3 cp s3://$BUCKET/files/5MiB s3://$BUCKET/copied && $s3 get s3://$BUCKET/copied '$WORK/copied' && cmp '$WORK/copied' '$DATA/5MiB'"
check "move" bash -c "$s3 mv s3://$BUCKET/copied s3://$BUCKET/moved && $s3 info s3://$BUCKET/moved"
check "info shows the MD5" bash -c "$s3 info s3://$BUCKET/files/five | grep -i \"\$(md5sum < '$DATA/five' | cut -d' ' -f1)\""
check "signurl" bash -c "curl -sf \"\$($s3 signurl s3://$BUCKET/files/five +60)\" | cmp - '$DATA/five' || $s3 signurl s3://$BUCKET/files/five +60 | grep AWSAccessKeyId"
check "missing key" refused "does not exist" $s3 get "s3://$BUCKET/no/such" "$WORK/none"
check "rm -r" $s3 rm -r --force "s3://$BUCKET/"
check "rb" $s3 rb "s3://$BUCKET"
