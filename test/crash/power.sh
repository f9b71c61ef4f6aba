#!/bin/sh
# Power cuts, at each point of recorded runs: see record.c, image.c and power.c.
#
# The work of subject.c is recorded while it changes a store; at each point of
# the record the directories are made that a kill or a power cut might have left
# there, and checker.c judges each of them by the ledger of that moment. So are
# a run that was killed and went on, one that does not sync, some in which a
# write or a sync failed and the store healed, and the recovery after a power
# cut, which is cut again.
#
# First come recordings that lie, in which faults have to be found: or nobody
# would know what finding none means.
#
# With arguments it is one recording only, one with an error at the N-th call if
# they begin so, and its images made with these options of power.c; close: one
# that does not sync, and whose first close cannot either.
#
#     power.sh [write|sync N ERRNO|close] OPTION...
#
# QUICK=1 takes each 100th point or so. A violation keeps the trace and the
# image, and prints the command that makes and judges this one image again.
set -eu

: "${top_builddir:=.}" "${QUICK:=}"
crash=$(cd "$top_builddir/test/crash" && pwd)
library=$crash/.libs/record.so
EIO=5 ENOSPC=28

# shellcheck source=test/crash/preload.sh
. "$(dirname "$0")/preload.sh"
can_preload "$library"

# Tens of thousands of small stores: in memory, if there is room.
[ ! -w /dev/shm ] || : "${TMPDIR:=/dev/shm}"
top=$(mktemp -d "${TMPDIR:-/tmp}/power.XXXXXX")
top=$(cd "$top" && pwd -P)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
echo 5a5a5a5a-0000-4000-8000-5a5a5a5a5a5a >"$top/boot_id"
: >"$top/reports"

# How many points are passed over, and places tried; for QUICK less of all.
if [ -z "$QUICK" ]; then
    few=1 some=3 many=12 twice=6 lie=10 late=3 seeds=3 places='1 2 3' cuts='1 2 3 4 5 6'
else
    few=120 some=240 many=200 twice=120 lie=140 late=33 seeds=1 places=2 cuts=3
fi

# Ends the test, and keeps all that shows what is wrong.
fail() {
    echo "$*"
    trap - EXIT
    echo "all of it is kept in $top"
    exit 1
}

# record NAME MODE [VARIABLE=VALUE ...]: one process more of a recording. Sets
# status.
record() {
    name=$1 mode=$2
    shift 2
    mkdir -p "$top/$name/work"
    status=0
    { # a shell may tell of the kill
        env RECORD_DIR="$top/$name/work" RECORD_TRACE="$top/$name/trace" \
            RECORD_COUNT="$top/$name/count" RECORD_MEMTABLES=65536 \
            LD_PRELOAD="$library" "$@" "$crash/subject" "$mode" \
            "$top/$name/work" ${unsynced:+unsynced} >"$top/$name/out" 2>&1 || status=$?
    } 2>/dev/null
}

# ends NAME: the process has ended well, and all that it did was seen.
ends() {
    [ $status -eq 0 ] || {
        cat "$top/$1/out"
        fail "$1: status $status"
    }
    "$crash/power" compare "$top/$1/trace" "$top/$1/work" ||
        fail "$1: not all was recorded"
    read -r calls writes syncs injected <"$top/$1/count"
    [ $((writes * syncs)) -gt 0 ] || fail "$1: no log was used"
}

# points NAME: how many records its trace has.
points() {
    "$crash/power" points "$top/$1/trace"
}

# images NAME OPTION...: sets status and report.
images() {
    name=$1
    shift
    status=0
    LD_BIND_NOW=1 MALLOC_ARENA_MAX=1 "$crash/power" images "$top/$name/trace" "$top/$name/image" "$@" \
        >"$top/$name/report" 2>&1 || status=$?
    report=$(tail -n 1 "$top/$name/report")
}

# clean NAME OPTION...: no image breaks a promise.
clean() {
    images "$@"
    echo "$1: $report"
    [ $status -eq 0 ] || {
        cat "$top/$1/report"
        fail "$1: status $status"
    }
    echo "$report" >>"$top/reports"
    rm -rf "$top/$1"/image.*
}

# count VARIANT PART: of the report; images are part 1, violations part 2.
count() {
    echo "$report" | tr ' ' '\n' | grep -A 1 "^$1\$" | tail -n 1 | cut -d / -f "$2"
}

# What is told of a commit that is gone: the first thing that is wrong in an
# image, so with few images not always of a job that was enqueued by it.
gone='is lost, it was acknowledged\|would run again, its end was told'

# found NAME VARIANTS OTHERS TEXT: the lie was found in each of the VARIANTS and
# in none of the OTHERS.
found() {
    echo "lie $1: $report"
    for variant in $2; do
        [ "$(count "$variant" 2)" -gt 0 ] || fail "$1: not found by $variant"
    done
    for variant in $3; do
        [ "$(count "$variant" 1)" -gt 0 ] || fail "$1: no images $variant"
        [ "$(count "$variant" 2)" -eq 0 ] ||
            fail "$1: found by $variant, but there is nothing"
    done
    grep -q "$4" "$top/$1/report" || {
        cat "$top/$1/report"
        fail "$1: nobody says '$4'"
    }
    rm -rf "${top:?}/$1"
}

# ---- One recording -----------------------------------------------------------

unsynced=

case ${1:-} in
write | sync)
    record one run RECORD_ERROR="$1 $2 $3"
    shift 3
    ends one
    [ "$injected" -eq 1 ] || fail 'no error was injected'
    clean one "$@"
    exit
    ;;
close)
    shift
    unsynced=1
    record one run RECORD_MARK=4 RECORD_ERROR="sync 1 $EIO" \
        RECORD_MEMTABLES=8388608
    ends one
    [ "$injected" -eq 1 ] || fail 'no error was injected'
    clean one "$@"
    exit
    ;;
-*)
    record one run
    ends one
    clean one "$@"
    exit
    ;;
esac

# ---- Lies --------------------------------------------------------------------

record nosync run RECORD_FAULT=nosync
ends nosync
images nosync -s 1 -n $lie
found nosync 's m z t r' k "$gone"

record latesync run RECORD_FAULT=latesync
ends latesync
images latesync -v ks -n $late
found latesync s k "$gone"

record nodirsync run RECORD_FAULT=nodirsync
ends nodirsync
images nodirsync -s 1 -n $lie
found nodirsync s 'k m z t' 'cannot be verified'

record run run
ends run
mkdir "$top/memory"
cp "$top/run/trace" "$top/memory"
images memory -v ib -n $lie
found memory 'i b' '' 'are suspects\|never began'

# ---- A run -------------------------------------------------------------------

clean run -s $seeds -n $few

# ---- Killed, gone on, killed again, and judged -------------------------------

record killed run RECORD_KILL=$((calls / 2))
[ $status -eq 137 ] || fail "killed: status $status"
record killed run RECORD_KILL=$((calls / 3))
[ $status -eq 137 ] || fail "killed: status $status"
record killed check
ends killed
clean killed -s 2 -n $some

# ---- Without syncing ---------------------------------------------------------

unsynced=1
record unsynced run
ends unsynced
clean unsynced -s 2 -n $some

# The first session's last sync fails, which is that of its close.
record error-close run RECORD_MARK=4 RECORD_ERROR="sync 1 $EIO" \
    RECORD_MEMTABLES=8388608
ends error-close
[ "$injected" -eq 1 ] || fail 'error-close: no error was injected'
clean error-close -v smzr -s 1 -n $many -e
unsynced=

# ---- An error, and then a cut ------------------------------------------------

reached=0
for place in $places; do
    for what in write sync; do
        for error in $EIO $ENOSPC; do
            name=error-$what-$error-$place
            record "$name" run \
                RECORD_ERROR="$what $((writes * place / 4)) $error"
            ends "$name"
            reached=$((reached + injected))
            clean "$name" -s 1 -n $many -e
        done
    done
done
echo "errors injected: $reached"
[ $reached -gt 0 ] || fail 'no error was injected'

# ---- Cut again in the recovery -----------------------------------------------

# again NAME POINT VARIANT: a recording that begins with an image of NAME's.
again() {
    again=$1-$2$3
    mkdir -p "$top/$again"
    "$crash/power" make "$top/$1/trace" "$top/$again/work" "$2" "$3" 1
    "$crash/power" base "$top/$again/work" "$top/$again/trace"
    record "$again" check RECORD_BOOT_ID="$top/boot_id"
    ends "$again"
    clean "$again" -s 2 -n $twice
}

for from in run unsynced; do
    total=$(points $from)
    for i in $cuts; do
        again "$from" $((total * i / 7 + 1)) m
        [ -n "$QUICK" ] || again "$from" $((total * i / 7 + 2)) r
    done
done

# ---- All of them -------------------------------------------------------------

awk '{ for (i = 1; $i != "images"; i += 2) {
           split($(i + 1), n, "/"); images[$i] += n[1]; bad[$i] += n[2] } }
     END { for (v in images) {
               print "variant " v ": images " images[v] " violations " bad[v]
               all += images[v] }
           print "all: images " all
           exit all == 0 }' "$top/reports"
