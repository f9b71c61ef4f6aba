#!/bin/sh
# A store that a kill left, with all that can be in it, is damaged in all ways,
# one file at a time: see corrupt.c. QUICK=1 tries fewer places, SEED=N others;
# STATES=N takes so many stores, NIGHTLY=1 three.
set -eu

: "${top_builddir:=.}" "${QUICK:=}" "${NIGHTLY:=}" "${SEED:=$(date +%s)}"
unset KILL_AT KILL_AT_MARK
subject=$top_builddir/test/crash/subject
corrupt=$top_builddir/test/crash/corrupt
library=$(cd "$top_builddir" && pwd)/test/crash/.libs/kill_at.so

# shellcheck source=test/crash/preload.sh
. "$(dirname "$0")/preload.sh"
can_preload "$library"

: "${STATES:=${NIGHTLY:+3}}" "${STATES:=1}"
times=12
[ -z "$QUICK" ] || times=2

top=$(mktemp -d)
top=$(cd "$top" && pwd -P)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
echo "seed $SEED"

fail() {
    trap - EXIT
    echo "$1; all is kept in $top"
    exit 1
}

# run [CALL WHEN]: sets status.
run() {
    status=0
    KILL_AT=${1:+$1 $2}
    [ -z "$KILL_AT" ] || export KILL_AT
    { # a shell may tell of the kill
        LD_PRELOAD=$library KILL_AT_DIR=$top/new/store \
            KILL_AT_COUNT=$top/count \
            "$subject" run "$top/new" >"$top/out" 2>&1 || status=$?
    } 2>/dev/null
    unset KILL_AT
}

# Two runs to their end, so that there are tables; then one that is killed.
state=0
while [ "$state" -lt "$STATES" ]; do
    rm -rf "$top/new" "$top/old" "$top/work"
    mkdir "$top/new" "$top/work"
    run
    [ $status -eq 0 ] || fail 'a run without a kill'
    cp -R "$top/new" "$top/old"
    run
    [ $status -eq 0 ] || fail 'a second run'
    calls=$(cat "$top/count")
    run $((calls / 2 + (SEED + state * 77) % (calls / 4))) after
    [ $status -eq 137 ] || fail 'the kill was not reached'
    echo "killed in a run of $calls calls, with $(find "$top/new" \
        -name '*.sst' | wc -l) tables"
    "$corrupt" "$subject" "$top/new" "$top/old" "$top/work" "$SEED" $times ||
        fail 'something was not noticed'
    state=$((state + 1))
done
