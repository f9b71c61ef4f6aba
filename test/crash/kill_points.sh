#!/bin/sh
# The program of subject.c is killed at many points, before, in the middle of
# and after its calls that write, and nothing that was promised is broken: see
# checker.c. Some points are where claimed jobs go back. Then it is killed once
# more while it recovers, and again after that. QUICK=1 tries fewer points,
# NIGHTLY=1 each of them; PARTS=N PART=I (from 0) only one part of them.
#
# How many calls a run makes depends on what the commits gather: a point beyond
# the end is not reached, which is no failure as long as others are.
set -eu

: "${top_builddir:=.}" "${QUICK:=}" "${NIGHTLY:=}"
: "${PARTS:=1}" "${PART:=0}"
unset KILL_AT KILL_AT_MARK
subject=$top_builddir/test/crash/subject
library=$(cd "$top_builddir" && pwd)/test/crash/.libs/kill_at.so

# shellcheck source=test/crash/preload.sh
. "$(dirname "$0")/preload.sh"
can_preload "$library"

top=$(mktemp -d)
top=$(cd "$top" && pwd -P)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM

points=48 marks='2 3 6 8' marked=1 states=3 again=3
[ -z "$QUICK" ] || points=12 marks=2 states=1
[ -z "$NIGHTLY" ] || marks='1 2 3 4 5 6 7 8' marked=6
turn=0 tried=0 reached=0 checked=0 acknowledged=0 executing=0
changed=0 saved=0 swept=0 held=0 expired=0

# Ends the test, and keeps the store that shows what is wrong.
fail() {
    echo "$1: status $status"
    tail -n 40 "$top/out"
    trap - EXIT
    echo "the store is kept in $dir"
    exit 1
}

# when N: one after the other.
when() {
    case $(($1 % 3)) in
    0) echo before ;;
    1) echo middle ;;
    2) echo after ;;
    esac
}

# run MODE [CALL WHEN]: sets status. Without a point it counts the calls.
run() {
    status=0
    KILL_AT=${2:+$2 $3}
    [ -z "$KILL_AT" ] || export KILL_AT
    { # a shell may tell of the kill
        LD_PRELOAD=$library KILL_AT_DIR=$dir/store KILL_AT_COUNT=$top/count \
            "$subject" "$1" "$dir" >"$top/out" 2>&1 || status=$?
    } 2>/dev/null
    unset KILL_AT
}

# calls MODE: how many there are, at the least 1.
calls() {
    run "$1"
    [ $status -eq 0 ] || fail "$1 without a kill"
    calls=$(cat "$top/count")
    [ "$calls" -ge 1 ] || fail "$1 makes no call that writes"
}

# kill_at MODE CALL WHEN: true if that point was reached.
kill_at() {
    run "$@"
    case $status in
    0) return 1 ;;
    137) return 0 ;;
    *) fail "$*" ;;
    esac
}

# check POINT: what the kills have left.
check() {
    status=0
    "$subject" check "$dir" >"$top/out" 2>&1 || status=$?
    [ $status -eq 0 ] || fail "check after $*"
    read -r _ acks _ _ _ runs _ _ _ _ _ _ _ changes _ saves _ sweeps _ holds \
        _ ends <"$top/out"
    checked=$((checked + 1))
    acknowledged=$((acknowledged + acks))
    executing=$((executing + runs))
    changed=$((changed + changes)) saved=$((saved + saves))
    swept=$((swept + sweeps)) held=$((held + holds))
    expired=$((expired + ends))
}

begin() {
    dir=$top/work
    rm -rf "$dir"
    mkdir "$dir"
}

# Whether the next point is one of this part.
my_turn() {
    turn=$((turn + 1))
    [ $((turn % PARTS)) -eq "$PART" ]
}

# try CALL WHEN
try() {
    my_turn || return 0
    tried=$((tried + 1))
    begin
    if kill_at run "$@"; then
        reached=$((reached + 1))
        check "run $*${KILL_AT_MARK:+ after mark $KILL_AT_MARK}"
    fi
}

# try_again CALL WHEN: the store in $top/killed, killed in its recovery, then
# in the work after it.
try_again() {
    my_turn || return 0
    tried=$((tried + 1))
    begin
    cp -R "$top/killed/." "$dir"
    if kill_at open "$@"; then
        reached=$((reached + 1))
        history="$killed, open $*"
        kill_at run $(($1 * 3)) "$2" || :
        check "$history, run $(($1 * 3)) $2"
    fi
}

# ---- Points of a run ---------------------------------------------------------

begin
calls run
check 'a run without a kill'
acknowledged=0 executing=0 checked=0 changed=0 saved=0 swept=0 held=0 expired=0
total=$calls
i=0
if [ -n "$NIGHTLY" ]; then
    while [ $i -lt $((total * 3)) ]; do
        try $((i / 3 + 1)) "$(when $i)"
        i=$((i + 1))
    done
else
    while [ $i -lt $points ]; do
        try $((total * i / points + 1)) "$(when $i)"
        i=$((i + 1))
    done
fi

# One after the other, around the commit in which claimed jobs go back.
for KILL_AT_MARK in $marks; do
    export KILL_AT_MARK
    i=0
    while [ $i -lt $((marked * 3)) ]; do
        try $((i / 3 + 1)) "$(when $i)"
        i=$((i + 1))
    done
done
unset KILL_AT_MARK

echo "$total calls: $tried points, $reached reached, $checked checked;" \
    "$acknowledged jobs acknowledged, $executing executing at the kills;" \
    "$changed changed by operators, $saved with a checkpoint, $swept swept," \
    "$held refused for their key, $expired expired"
for n in $reached $acknowledged $executing $changed $saved $swept $held \
    $expired; do
    [ "$n" -gt 0 ] || exit 1
done

# ---- Killed again ------------------------------------------------------------

# Spread over all calls, then those near the end, where it is not RocksDB that
# recovers; the last three only close.
last=6
tried=0 reached=0 checked=0
i=0
while [ $i -lt $states ]; do
    killed="run $((total * (i + 1) / (states + 1))) $(when $i)"
    begin
    # shellcheck disable=SC2086 # three words
    kill_at $killed || fail "$killed ends"
    rm -rf "$top/killed"
    cp -R "$dir" "$top/killed"
    calls open
    [ -z "$NIGHTLY" ] || again=$calls
    j=0
    while [ $j -lt $((again + last)) ]; do
        call=$((calls * j / again + 1))
        [ $j -lt "$again" ] || call=$((calls - 3 - j + again))
        try_again $call "$(when $((i + j)))"
        j=$((j + 1))
    done
    i=$((i + 1))
done
echo "killed again: $tried points, $reached reached, $checked checked"
[ $reached -gt 0 ] || exit 1

# ---- Lies --------------------------------------------------------------------

# lie WHAT TEXT: it is noted, but not done; so the run or the check says TEXT.
lie() {
    begin
    export SUBJECT_LIE="$1"
    run run
    unset SUBJECT_LIE
    [ $status -ne 0 ] || "$subject" check "$dir" >>"$top/out" 2>&1 ||
        status=$?
    if [ $status -ne 1 ] || ! grep -q "$2" "$top/out"; then
        fail "lie $1: not noticed"
    fi
    lies=$((lies + 1))
}

lies=0
lie cancel 'is not cancelled, it was told to be'
lie retry 'is failed, it was told to be tried again'
lie delete 'is there, it was deleted'
lie run-now 'waits for its time, it was told not to'
lie pause 'runs, its queue is paused'
lie keep 'a queue keeps other jobs than it was told to'
lie save 'is handed an older checkpoint'
echo "$lies lies noticed"
