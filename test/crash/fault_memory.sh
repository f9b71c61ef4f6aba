#!/bin/sh
# RocksDB runs out of memory: the n-th operator new of a process throws, which
# nobody catches. The process is aborted, as if it was killed, and what it has
# left is sound: see checker.c. QUICK=1 tries fewer points.
#
# A failure leaves the store, and names the command that shows it again.
set -eu

: "${top_builddir:=.}" "${QUICK:=}"
subject=$top_builddir/test/crash/subject
library=$(cd "$top_builddir" && pwd)/test/crash/.libs/fault_new.so

# shellcheck source=test/crash/preload.sh
. "$(dirname "$0")/preload.sh"
can_preload "$library"

top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
dir=$top/work

points=80
[ -z "$QUICK" ] || points=8

fail() {
    echo "new $i: $1: status $status"
    tail -n 20 "$dir/out"
    trap - EXIT
    echo "the store is kept in $dir; again, in a new directory D:"
    echo "  NEW_AT=$i LD_PRELOAD=$library $subject run D; $subject check D"
    exit 1
}

# run N: sets status.
run() {
    rm -rf "$dir"
    mkdir "$dir"
    status=0
    { # a shell may tell of an abort
        NEW_AT=$1 NEW_COUNT=$top/count LD_PRELOAD=$library "$subject" run \
            "$dir" >"$dir/out" 2>&1 || status=$?
    } 2>/dev/null
}

i=0
run 0
[ $status -eq 0 ] || fail 'a run without a fault'
calls=$(cat "$top/count")
injected=0 aborted=0 ended=0 sound=0
while [ $injected -lt $points ]; do
    i=$((1 + injected * calls / points))
    injected=$((injected + 1))
    run $i
    case $status in
    0) ended=$((ended + 1)) ;; # it makes fewer calls, or does without
    134) aborted=$((aborted + 1)) ;;
    *) fail 'neither aborted nor well' ;;
    esac
    status=0
    "$subject" check "$dir" >>"$dir/out" 2>&1 || status=$?
    [ $status -eq 0 ] || fail 'the check'
    sound=$((sound + 1))
done
echo "$calls calls of operator new: $injected injected, $aborted aborted," \
    "$ended ended; $sound stores sound"
[ $aborted -gt 0 ] && [ $sound -gt 0 ]
