#!/bin/sh
# System calls fail, one after the other, under a process that lives on, and
# nothing that was promised is broken: see fault_run.c. Of each kind of call the
# n-th fails, with EIO and with ENOSPC: once, not carried out or carried out all
# the same; from then on, until it was told of, or until the queue is closed. So
# too in a store that a killed process has left. Afterwards the store is judged,
# without faults, by checker.c and dassie_verify(). Last, faults that are
# planted have to be noticed. QUICK=1 tries fewer points.
#
# How many calls a run makes depends on what the commits gather: a point beyond
# the end is not reached, which is no failure as long as others are.
#
# A failure leaves the store, and names the commands that show it again.
set -eu

: "${top_builddir:=.}" "${QUICK:=}"
unset FAULT KILL_AT KILL_AT_MARK SUBJECT_PLANT
subject=$top_builddir/test/crash/subject
libs=$(cd "$top_builddir" && pwd)/test/crash/.libs

# shellcheck source=test/crash/preload.sh
. "$(dirname "$0")/preload.sh"
can_preload "$libs/fault_at.so"

top=$(mktemp -d)
top=$(cd "$top" && pwd -P)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM

kinds='write fdatasync fsync ftruncate fallocate rename open unlink mkdir
    sync_file_range read mmap msync'

# ---- One point ---------------------------------------------------------------

# Ends the test, and keeps the store that shows what is wrong.
fail() {
    echo "$1: status $status"
    tail -n 40 "$dir/out"
    trap - EXIT
    echo "the store is kept in $dir; again, in a directory D${start:+ that}" \
        "${start:+begins as $start}:"
    echo "  SUBJECT_LOG=1 LD_PRELOAD=$libs/fault_at.so FAULT_DIR=D/store" \
        "FAULT='$fault' $subject $mode D; $subject check D"
    exit 1
}

# A new store, or what is in $start.
begin() {
    dir=$top/work
    rm -rf "$dir"
    mkdir "$dir"
    [ -z "$start" ] || cp -R "$start/." "$dir"
}

# run MODE [FAULT]: sets status.
run() {
    mode=$1 fault=${2:-} status=0
    [ -z "$fault" ] || export FAULT="$fault"
    { # a shell may tell of an abort
        LD_PRELOAD=$libs/fault_at.so FAULT_DIR=$dir/store \
            FAULT_COUNT=$top/count "$subject" "$mode" "$dir" \
            >"$dir/out" 2>&1 || status=$?
    } 2>/dev/null
    unset FAULT
}

# What is left: sets status.
check() {
    status=0
    "$subject" check "$dir" >>"$dir/out" 2>&1 || status=$?
}

# RocksDB's assertion for what no kernel does. What is left is as after a kill.
is_aborted() {
    [ "$kind" = sync_file_range ] && [ "$status" -eq 134 ] &&
        grep -q IsSyncFileRangeSupported "$dir/out"
}

# The figures that a run has printed.
add() {
    read -r _ h _ a _ r _ u _ d _ m _ o _ l _ c _ k _ b _ p _ s _ g <"$dir/out"
    acknowledged=$((acknowledged + a)) refused=$((refused + r))
    unknown=$((unknown + u)) doubts=$((doubts + d)) mixed=$((mixed + m))
    healed=$((healed + o)) lost=$((lost + l)) unopened=$((unopened + c))
    lookups=$((lookups + k)) unreadable=$((unreadable + b))
    promoting=$((promoting + p)) sweeping=$((sweeping + s))
    changes=$((changes + g))
    [ "$h" -eq 0 ] || hit=$((hit + 1))
}

# try N ERROR HOW MODE
try() {
    injected=$((injected + 1))
    begin
    run "$4" "$kind $1 $2 $3"
    if is_aborted; then
        aborted=$((aborted + 1)) hit=$((hit + 1))
    elif [ $status -eq 0 ]; then
        add
    else
        fail "$fault, $mode"
    fi
    check
    [ $status -eq 0 ] || fail "check after $fault, $mode"
    resolved=$((resolved + 1))
}

# ---- Many points -------------------------------------------------------------

# try_ways N EIO ENOSPC: each way in which it can fail.
try_ways() {
    try "$1" "$2" once heal
    try "$1" "$3" late heal
    try "$1" "$2" on heal
    try "$1" "$3" on lose
}

# try_commits CALLS: commits, in the first half, where most gathers in them.
try_commits() {
    i=0
    while [ $i -lt $((12 * points)) ]; do
        try $(($1 / 10 + i * $1 / 24 / points)) EIO once heal
        i=$((i + 1))
    done
}

# try_kind CALLS: the commits' own kinds more often, and what look-ups do.
try_kind() {
    i=$first hit=0
    n=$points
    case $kind in
    write | fdatasync) n=$((2 * points)) ;;
    read) n=$((3 * points)) ;;
    esac
    [ "$n" -le "$1" ] || n=$1 i=0
    while [ "$i" -lt "$n" ]; do
        try_ways $((1 + i * $1 / n)) EIO ENOSPC
        [ -n "$QUICK" ] || try_ways $((1 + i * $1 / n)) ENOSPC EIO
        i=$((i + 1))
    done
    [ "$kind" != fdatasync ] || try_commits "$1"
    reached=$((reached + hit))
    [ $hit -gt 0 ] || {
        echo "$kind: of $1 calls no point was reached"
        exit 1
    }
}

# campaign WHAT POINTS FIRST: in $start. First the calls are counted.
campaign() {
    injected=0 reached=0 resolved=0 acknowledged=0 refused=0 unknown=0
    doubts=0 mixed=0 healed=0 lost=0 unopened=0 lookups=0 unreadable=0
    promoting=0 sweeping=0 changes=0 aborted=0 points=$2 first=$3
    begin
    run heal
    [ $status -eq 0 ] || fail 'a run without a fault'
    cp "$top/count" "$top/calls"
    for kind in $kinds; do
        try_kind "$(sed -n "s/^$kind \([0-9]*\) .*/\1/p" "$top/calls")"
    done
    echo "$1: $injected injected, $reached reached, $resolved resolved;" \
        "$doubts commits in doubt ($mixed of enqueues, claims and ends," \
        "$promoting with jobs that are due, $sweeping with a sweep)," \
        "$healed healed, $lost given up; $acknowledged jobs acknowledged," \
        "$refused refused, $unknown unknown, $changes changed by operators; $unopened opens, $lookups" \
        "look-ups, $unreadable refills failed; $aborted aborted by RocksDB"
    need "$reached" "$resolved" "$acknowledged" "$doubts" "$healed" "$changes"
}

# None of these may be zero.
need() {
    for n; do
        [ "$n" -gt 0 ] || {
            echo 'something was never reached: see above'
            exit 1
        }
    done
}

start=
if [ -n "$QUICK" ]; then
    campaign 'a new store' 2 1
else
    campaign 'a new store' 8 0
fi
need "$mixed" "$promoting" "$sweeping" "$lost" "$refused" "$unopened" "$lookups"
[ -n "$QUICK" ] || need "$unknown" "$unreadable"

# Killed while jobs were executing, and others claimed.
start=$top/killed
mkdir "$start"
{ # a shell may tell of the kill
    LD_PRELOAD=$libs/kill_at.so KILL_AT_DIR=$start/store KILL_AT='100 before' \
        "$subject" run "$start" >"$top/out" 2>&1 || status=$?
} 2>/dev/null
[ $status -eq 137 ] || {
    echo "not killed: status $status"
    exit 1
}
if [ -n "$QUICK" ]; then
    kinds='write fdatasync read'
    campaign 'a store of a killed process' 1 1
else
    campaign 'a store of a killed process' 2 0
fi

# ---- Planted faults ----------------------------------------------------------

# planted WHAT MODE HOW TEXT: one is made at some write, the first of them that
# makes a difference, and then this is said of it.
planted() {
    for call in 24 27 30 33 36 39 42 45 107 109 113 117 121 125 129 133 137 141; do
        export SUBJECT_PLANT="$1"
        begin
        run "$2" "write $call EIO $3"
        unset SUBJECT_PLANT
        [ $status -ne 0 ] || check
        if [ $status -ne 0 ] && grep -q "$4" "$dir/out"; then
            noticed=$((noticed + 1))
            return
        fi
    done
    fail "planted: $1, not noticed"
}

start=
noticed=0
planted silence heal on '0 answers'
planted refusal heal on 'is there, it was refused'
planted acknowledgement lose on 'is lost, it was acknowledged'
# The disk takes a write to the log and forgets it: acknowledged jobs are lost.
planted '' heal lie 'the log lost its end\|a part of the log is lost'
echo "$noticed planted faults noticed"
