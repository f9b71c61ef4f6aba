#!/bin/sh
# Power cuts on real file systems: ext4 and XFS, each on a loop device.
#
# The work of subject.c runs on it. At one of its calls that write (kill_at.c)
# the file system is shut down by the kernel's own ioctl, without its journal
# being flushed, and the process killed. What is there when it is mounted again
# is judged as after a power cut. In every third round the store does not sync:
# then something has to be gone, or the cut would not be one.
#
# It needs root, loop devices and mkfs. QUICK=1 makes fewer rounds, NIGHTLY=1
# more.
set -eu

: "${top_builddir:=.}" "${QUICK:=}" "${NIGHTLY:=}"
crash=$(cd "$top_builddir/test/crash" && pwd)
library=$crash/.libs/kill_at.so
unset KILL_AT KILL_AT_MARK KILL_AT_CUT
IMAGE_BYTES=314572800 # the least that mkfs.xfs takes

skip() {
    echo "skipped: $*"
    exit 77
}

# shellcheck source=test/crash/preload.sh
. "$(dirname "$0")/preload.sh"
can_preload "$library"
[ "$(id -u)" -eq 0 ] || skip 'only root may mount'
[ -e /dev/loop-control ] || skip 'there are no loop devices'

unshare -m true || skip 'only who may mount can try'

# Nobody else's copy of a mount may keep the file system alive.
[ -n "${FS_CUT_APART:-}" ] ||
    FS_CUT_APART=1 exec unshare -m sh "$0"

[ ! -w /dev/shm ] || : "${TMPDIR:=/dev/shm}"
top=$(mktemp -d "${TMPDIR:-/tmp}/fs_cut.XXXXXX")
top=$(cd "$top" && pwd -P)
store=$top/work/store
mounted=

# The store is bound to its place: so it has one path, and the ledger is
# elsewhere.
attach() {
    mount -o loop "$top/image" "$top/fs"
    mounted=$top/fs
    mkdir -p "$top/fs/store"
    sync -f "$top/fs"
    mount --bind "$top/fs/store" "$store"
    mounted="$store $mounted"
}

# The device goes when the kernel has let go of the file system, or the next
# mount would find that, shut down as it is.
detach() {
    for place in $mounted; do
        umount "$place"
    done
    mounted=
    tries=0
    while [ -e "$top/image" ] && [ -n "$(losetup -j "$top/image")" ]; do
        tries=$((tries + 1))
        [ $tries -le 200 ] || {
            echo "the loop device of $top/image does not go"
            exit 1
        }
        sleep 0.05
    done
}

clean_up() {
    detach || :
    rm -rf "$top"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

make_fs() {
    rm -f "$top/image"
    truncate -s $IMAGE_BYTES "$top/image"
    case $1 in
    ext4) mkfs.ext4 -q -F "$top/image" ;;
    xfs) mkfs.xfs -q -f "$top/image" ;;
    esac
}

# can_mount FS
can_mount() {
    mkdir -p "$top/fs"
    make_fs "$1" && mount -o loop "$top/image" "$top/fs" && umount "$top/fs"
}

# fresh FS: a new file system, and nothing in it.
fresh() {
    detach
    rm -rf "$top/work"
    mkdir -p "$store"
    make_fs "$1"
    attach
}

# run [unsynced]: sets status.
run() {
    status=0
    { # a shell may tell of the kill
        LD_PRELOAD=$library KILL_AT_DIR=$store KILL_AT_COUNT=$top/count \
            "$crash/subject" run "$top/work" "$@" >"$top/out" 2>&1 || status=$?
    } 2>/dev/null
}

fail() {
    echo "$*"
    cat "$top/out"
    trap - EXIT
    detach
    echo "the file system is kept in $top/image, the ledger in $top/work"
    exit 1
}

# judge NAME
judge() {
    status=0
    "$crash/power" judge "$top/work" >"$top/out" 2>&1 || status=$?
    [ $status -eq 0 ] || fail "$1: a promise is broken, status $status"
    judged=$((judged + 1))
    n=$(sed -n 's/^acknowledged \([0-9]*\) .*/\1/p' "$top/out")
    acknowledged=$((acknowledged + n))
    n=$(sed -n 's/^acknowledged .* forgotten \([0-9]*\) .*/\1/p' "$top/out")
    forgotten=$((forgotten + n))
}

# cut FS CALL WHEN [unsynced]: KILL_AT_MARK says from which mark on calls count.
cut() {
    name="$*"
    fresh "$1"
    export KILL_AT="$2 $3" KILL_AT_CUT="$store"
    shift 3
    run "$@"
    unset KILL_AT KILL_AT_CUT
    tried=$((tried + 1))
    case $status in
    0) return ;; # there is no such call this time
    137) ;;
    *) fail "$name: status $status" ;;
    esac
    reached=$((reached + 1))
    detach
    attach
    judge "$name"
}

# rounds FS
rounds() {
    tried=0 reached=0 judged=0 acknowledged=0 forgotten=0
    fresh "$1"
    run
    [ $status -eq 0 ] || fail "$1: a run without a cut"
    total=$(cat "$top/count")
    i=0
    while [ $i -lt $rounds ]; do
        call=$((total * (i + 1) / (rounds + 1)))
        case $((i % 3)) in
        0) cut "$1" $call after ;;
        1)
            export KILL_AT_MARK=$((3 + i % 4))
            cut "$1" "$i" before unsynced
            unset KILL_AT_MARK
            ;;
        2) cut "$1" $call middle ;;
        esac
        i=$((i + 1))
    done
    echo "$1: $total calls, $tried cuts, $reached reached, $judged judged;" \
        "$acknowledged jobs acknowledged, $forgotten promises forgotten" \
        'without syncing'
    for n in $reached $acknowledged $forgotten; do
        [ "$n" -gt 0 ] || fail "$1: it shows nothing"
    done
}

rounds=9
[ -z "$QUICK" ] || rounds=3
[ -z "$NIGHTLY" ] || rounds=90
done=
for fs in ext4 xfs; do
    can_mount $fs >"$top/out" 2>&1 || {
        echo "$fs is left out: $(tail -n 1 "$top/out")"
        continue
    }
    rounds $fs
    done="$done $fs"
done
[ -n "$done" ] || skip 'no file system could be mounted'
