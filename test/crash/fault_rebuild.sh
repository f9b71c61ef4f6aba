#!/bin/sh
# System calls fail while a store is rebuilt: one that did not sync, and whose
# power was cut. Such stores are made of a recording, see power.sh; then of each
# kind of call the n-th of the opening fails, once, carried out all the same, or
# from then on. The opening may be refused, and says so; the next one, without
# faults, has to find all that a rebuild without a fault would have found: it is
# judged by checker.c and dassie_verify(). QUICK=1 tries fewer points.
#
# A failure leaves the store, and names the commands that show it again.
set -eu

: "${top_builddir:=.}" "${QUICK:=}"
unset FAULT FAULT_BOOT_ID KILL_AT KILL_AT_MARK SUBJECT_PLANT
crash=$(cd "$top_builddir/test/crash" && pwd)

# shellcheck source=test/crash/preload.sh
. "$(dirname "$0")/preload.sh"
can_preload "$crash/.libs/fault_at.so"

top=$(mktemp -d)
top=$(cd "$top" && pwd -P)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
echo 5a5a5a5a-0000-4000-8000-5a5a5a5a5a5a >"$top/boot_id"

kinds='write fdatasync fsync rename open unlink mkdir read'
points=8 cuts='2 3 5'
[ -z "$QUICK" ] || points=2 cuts=3
injected=0 reached=0 refused=0 resolved=0

fail() {
    echo "$1: status $status"
    tail -n 40 "$top/out"
    trap - EXIT
    echo "the store is kept in $top/work; again, in a copy D of $top/cut:"
    echo "  LD_PRELOAD=$crash/.libs/fault_at.so FAULT_BOOT_ID=$top/boot_id" \
        "FAULT_DIR=D/store FAULT='$fault' $crash/subject open D"
    echo "  and, without FAULT, check D"
    exit 1
}

# run MODE [FAULT]: in $top/work. Sets status.
run() {
    mode=$1 fault=${2:-} status=0
    [ -z "$fault" ] || export FAULT="$fault"
    rm -f "$top/count"
    { # a shell may tell of an abort
        LD_PRELOAD=$crash/.libs/fault_at.so FAULT_DIR=$top/work/store \
            FAULT_BOOT_ID=$top/boot_id FAULT_COUNT=$top/count \
            "$crash/subject" "$mode" "$top/work" >"$top/out" 2>&1 || status=$?
    } 2>/dev/null
    unset FAULT
}

begin() {
    rm -rf "$top/work"
    cp -R "$top/cut" "$top/work"
}

# try KIND N HOW
try() {
    injected=$((injected + 1))
    begin
    run open "$1 $2 EIO $3"
    case $status in
    0) ! grep -q "^$1 .* [1-9]" "$top/count" || reached=$((reached + 1)) ;;
    3 | 4) reached=$((reached + 1)) refused=$((refused + 1)) ;;
    *) fail "$fault" ;;
    esac
    run check
    fault="$1 $2 EIO $3"
    [ $status -eq 0 ] || fail "check after $fault"
    resolved=$((resolved + 1))
}

# try_kind KIND CALLS
try_kind() {
    n=$points i=0
    [ "$n" -le "$2" ] || n=$2
    while [ $i -lt "$n" ]; do
        try "$1" $((1 + i * $2 / n)) once
        try "$1" $((1 + i * $2 / n)) late
        try "$1" $((1 + i * $2 / n)) on
        i=$((i + 1))
    done
}

mkdir "$top/run"
fault=
LD_PRELOAD=$crash/.libs/record.so RECORD_DIR=$top/run RECORD_TRACE=$top/trace \
    RECORD_COUNT=$top/count RECORD_MEMTABLES=65536 "$crash/subject" run \
    "$top/run" unsynced >"$top/out" 2>&1 || {
    status=$?
    fail 'the recording'
}
# cut_at POINT: true if such a store has to be rebuilt; one is closed there, now
# and then.
cut_at() {
    rm -rf "$top/cut"
    "$crash/power" make "$top/trace" "$top/cut" "$1" m 1
    begin
    run open
    [ $status -eq 0 ] || fail 'a rebuild without a fault'
    grep -q '^rebuilt [1-9]' "$top/out"
}

total=$("$crash/power" points "$top/trace")
for cut in $cuts; do
    point=$((total * cut / 7 + 1))
    until cut_at $point; do
        point=$((point + total / 50))
        [ $point -lt "$total" ] || fail 'nothing was rebuilt'
    done
    cp "$top/count" "$top/calls"
    for kind in $kinds; do
        try_kind "$kind" \
            "$(sed -n "s/^$kind \([0-9]*\) .*/\1/p" "$top/calls")"
    done
done

# The disk takes a write and forgets it: that is noticed, at one of them.
noticed=0 i=1
while [ $noticed -eq 0 ] && [ $i -le 40 ]; do
    begin
    run open "write $i EIO lie"
    [ $status -ne 0 ] || run check
    [ $status -eq 0 ] || noticed=1
    i=$((i + 1))
done
echo "$injected injected, $reached reached, $refused openings refused," \
    "$resolved resolved; $noticed planted fault noticed"
for n in $reached $refused $resolved $noticed; do
    [ "$n" -gt 0 ] || exit 1
done
