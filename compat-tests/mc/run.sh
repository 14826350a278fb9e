#!/usr/bin/env bash
# The MinIO client: its users are looking for a home.
set -u
. "$(dirname "$0")/../check.sh"
command -v mc >/dev/null && mc --version 2>/dev/null | grep -qi minio || mc --version 2>&1 | grep -q "^mc version" || exit 77
mc --version | head -n 1
export MC_CONFIG_DIR="$WORK/mc"
if [ "$SCHEME" = https ]; then mkdir -p "$MC_CONFIG_DIR/certs/CAs" && cp "$CA" "$MC_CONFIG_DIR/certs/CAs/minikv.pem"; fi
mc="mc --quiet --no-color"

check "alias set" $mc alias set m "$ENDPOINT" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
check "mb" $mc mb "m/$BUCKET"
for f in empty five inline-64k over-64k 5MiB 100MiB; do
  check "cp up $f" $mc cp "$DATA/$f" "m/$BUCKET/files/$f"
  check "cp down $f" $mc cp "m/$BUCKET/files/$f" "$WORK/$f"
  check "same bytes $f" same "$DATA/$f" "$WORK/$f"
done
check "mirror up 200 awkward names" $mc mirror "$DATA/tree" "m/$BUCKET/tree"
check "mirror down" $mc mirror "m/$BUCKET/tree" "$WORK/tree"
check "same tree" same_tree "$DATA/tree" "$WORK/tree"
check "ls" bash -c "$mc ls m/$BUCKET/ | grep -q tree/"
check "find counts 200" bash -c "[ \$($mc find m/$BUCKET/tree | grep -c bin) -eq 200 ]"
check "stat shows the metadata" bash -c "$mc cp --attr 'colour=blue' '$DATA/five' m/$BUCKET/meta && $mc stat m/$BUCKET/meta | grep -i colour"
check "cat" bash -c "$mc cat m/$BUCKET/files/5MiB | cmp - '$DATA/5MiB'"
check "pipe" bash -c "$mc pipe m/$BUCKET/piped <'$DATA/5MiB' && $mc cat m/$BUCKET/piped | cmp - '$DATA/5MiB'"
check "share download (presigned GET)" bash -c "curl -sf \"\$($mc share download --json m/$BUCKET/files/five | sed -n 's/.*\"share\":\"\([^\"]*\)\".*/\1/p' | sed 's/\\\\u0026/\&/g')\" | cmp - '$DATA/five'"
check "diff finds none" bash -c "[ -z \"\$($mc diff '$DATA/tree' m/$BUCKET/tree)\" ]"
check "ilm rule add" bash -c "$mc ilm rule add --prefix old/ --expire-days 30 m/$BUCKET && $mc ilm rule add --noncurrent-expire-days 7 --noncurrent-expire-newer 2 --tags 'a=b' m/$BUCKET"
check "ilm rule ls" bash -c "[ \$($mc ilm rule ls --json m/$BUCKET | grep -o '\"Status\": *\"Enabled\"' | wc -l) -eq 2 ]"
check "ilm rule export and import" bash -c "$mc ilm rule export m/$BUCKET >'$WORK/ilm.json' && $mc ilm rule import m/$BUCKET <'$WORK/ilm.json'"
check "ilm rule rm" $mc ilm rule rm --all --force "m/$BUCKET"
check "rm" $mc rm "m/$BUCKET/piped"
check "rb --force" $mc rb --force "m/$BUCKET"
