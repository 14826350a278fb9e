# Sourced by every client's run.sh. One check is one promise: `check NAME COMMAND...` runs the command and records
# the outcome in $RESULTS as "client<TAB>scheme<TAB>name<TAB>ok|FAIL<TAB>reason".
# Given by run.sh: CLIENT, SCHEME, ENDPOINT, BUCKET (made and emptied by the client itself), DATA (files), WORK (scratch), RESULTS.

record() { # NAME ok|FAIL REASON
  printf '%s\t%s\t%s\t%s\t%s\n' "$CLIENT" "$SCHEME" "$1" "$2" "$3" >>"$RESULTS"
  if [ "$2" = ok ]; then echo "  ok    $CLIENT/$SCHEME $1"; else echo "  FAIL  $CLIENT/$SCHEME $1: $3"; fi
}

check() {
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then record "$name" ok ""; else
    record "$name" FAIL "$(printf '%s' "$out" | tail -n 3 | tr '\n\t' '  ' | cut -c1-300)"
  fi
}

# The command must fail, and say this word.
refused() {
  local word=$1 out
  shift
  if out=$("$@" 2>&1); then echo "it succeeded"; return 1; fi
  printf '%s' "$out" | grep -q -- "$word" && return 0
  printf '%s' "$out"
  return 1
}

same() { cmp -- "$1" "$2"; }
same_tree() { diff -r -- "$1" "$2"; }

# The version of a crate that minikv-compat was built with.
rust_version() { # CRATE
  echo "$1 $(sed -n "/^name = \"$1\"$/{n;s/^version = \"\(.*\)\"/\1/p}" "$(dirname "$0")/../rust/Cargo.lock")"
}
