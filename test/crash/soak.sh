#!/bin/sh
# The program of subject.c lives on stores that grow and shrink, and is killed
# at random moments, again and again; so is the check after it now and then.
# Nothing that was promised may be broken: see checker.c. Memory and disk are
# watched. It goes on for SOAK_SECONDS (600; QUICK=1: 60).
set -eu

: "${top_builddir:=.}" "${QUICK:=}"
: "${SOAK_SECONDS:=${QUICK:+50}}" "${SOAK_SECONDS:=600}"
: "${SEED:=$(date +%s)}"
subject=$top_builddir/test/crash/subject
rss_max_kb=262144 disk_max_kb=262144 # what a store of some thousand jobs takes

top=$(mktemp -d)
pid=
trap 'rm -rf "$top"' EXIT
trap '[ -z "$pid" ] || kill -9 "$pid"; exit 1' HUP INT TERM

stores=0 kills=0 checks_killed=0 ends=0 checks=0
acknowledged=0 ended=0 executing=0 suspects=0 rss=0 disk=0
begun=$(date +%s)

fail() {
    echo "$1"
    tail -n 40 "$top/out"
    trap - EXIT
    echo "violations 1: seed $SEED, the store is kept in $top"
    exit 1
}

# Moments are not reproduced by a seed, but what is drawn is.
random() {
    SEED=$(((SEED * 1103515245 + 12345) % 2147483648))
    random=$((SEED / 65536 % $1))
}

# kill_later MODE: true if it was killed, false if it ended by itself before.
kill_later() {
    "$subject" "$1" "$top/work" >"$top/out" 2>&1 &
    pid=$!
    random 1500
    sleep "$((random / 1000)).$(printf %03d $((random % 1000)))"
    now_rss=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || :
    [ "${now_rss:-0}" -le "$rss" ] || rss=$now_rss
    kill -9 "$pid" 2>/dev/null || :
    status=0
    { wait "$pid" || status=$?; } 2>/dev/null
    pid=
    case $status in
    0) return 1 ;;
    137) return 0 ;;
    *) fail "$1: status $status" ;;
    esac
}

check() {
    status=0
    "$subject" check "$top/work" >"$top/out" 2>&1 || status=$?
    [ $status -eq 0 ] || fail "check: status $status"
    read -r _ now_acks _ now_ends _ now_runs _ now_suspects _ <"$top/out"
    checks=$((checks + 1))
    executing=$((executing + now_runs))
    suspects=$((suspects + now_suspects))
    now_disk=$(du -sk "$top/work" | cut -f 1)
    [ "$now_disk" -le "$disk" ] || disk=$now_disk
}

over() {
    [ $(($(date +%s) - begun)) -ge "$SOAK_SECONDS" ]
}

# A store from its first job until the ledger is full.
life() {
    rm -rf "$top/work"
    mkdir "$top/work"
    stores=$((stores + 1))
    until over; do
        full=
        if kill_later soak; then
            kills=$((kills + 1))
        else
            full=1
            ends=$((ends + 1))
        fi
        random 5
        if [ "$random" -eq 0 ] && kill_later check; then
            checks_killed=$((checks_killed + 1))
        fi
        check
        [ -z "$full" ] || break
    done
    acknowledged=$((acknowledged + now_acks))
    ended=$((ended + now_ends))
}

echo "seed $SEED"
until over; do
    life
done
echo "$stores stores, $kills kills, $checks_killed checks killed," \
    "$ends filled the ledger, $checks checked"
echo "$acknowledged jobs acknowledged, $ended ends told, $executing" \
    "executing at the kills, $suspects suspects, violations 0"
echo "at most $rss KiB of memory, $disk KiB of disk"
[ "$rss" -le $rss_max_kb ] && [ "$disk" -le $disk_max_kb ] || exit 1
for n in $kills $checks_killed $acknowledged $ended $executing $suspects \
    $rss $disk; do
    [ "$n" -gt 0 ] || exit 1
done
