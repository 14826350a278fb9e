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
check "rm" $mc rm "m/$BUCKET/piped"
check "rb --force" $mc rb --force "m/$BUCKET"

locked="m/$BUCKET-locked"
check "mb --with-lock" $mc mb --with-lock "$locked"
check "retention set --default" $mc retention set --default governance 30d "$locked"
check "retention info --default" bash -c "$mc retention info --default $locked | grep -i governance | grep -qi 30DAYS"
check "cp into a locked bucket" $mc cp "$DATA/five" "$locked/five"
check "retention info" bash -c "$mc retention info $locked/five | grep -qi governance"
check "rm hides, and takes no version" bash -c "$mc rm $locked/five && [ \$($mc ls --versions $locked | grep -c five) -eq 2 ]"
check "undo brings it back" bash -c "$mc undo --force $locked/five && $mc cat $locked/five | cmp - '$DATA/five'"
check "rm --versions is refused" refused "protected by object lock" $mc rm --versions --force "$locked/five"
check "retention set compliance is refused" refused "protected by object lock" $mc retention set compliance 40d "$locked/five"
check "retention set longer" $mc retention set governance 40d "$locked/five"
check "retention clear --bypass is not needed for the default" $mc retention clear --default "$locked"
check "legalhold set" $mc legalhold set "$locked/five"
check "legalhold info" bash -c "$mc legalhold info $locked/five | grep -q ON"
check "rm --bypass does not lift a legal hold" refused "protected by object lock" $mc rm --versions --force --bypass "$locked/five"
check "legalhold clear" $mc legalhold clear "$locked/five"
check "rm --bypass lifts governance" $mc rm --versions --force --bypass "$locked/five"
check "cp --retention-mode" $mc cp --retention-mode governance --retention-duration 1d --legal-hold on "$DATA/over-64k" "$locked/kept"
check "stat shows the lock" bash -c "$mc stat $locked/kept | grep -qi governance"
check "legalhold clear again" $mc legalhold clear "$locked/kept"
check "retention clear" $mc retention clear "$locked/kept"
check "rb --force of a bucket that keeps nothing" $mc rb --force "$locked"
