#!/bin/sh
# Disks that get bad under a process that lives on, for real, and get good
# again: see fault_run.c and trouble.h. A disk that is full, with and without a
# floor of free space, a quota that is used up, a file system that becomes
# read-only, a limit on the size of files. Afterwards the store is judged by
# checker.c and dassie_verify(). All but the last need root, and say why where
# they are skipped. QUICK=1 changes nothing: it takes seconds.
#
# A failure leaves the store, or a copy of it.
set -eu

: "${top_builddir:=.}"
unset FAULT SUBJECT_PLANT
subject=$top_builddir/test/crash/subject

top=$(mktemp -d)
top=$(cd "$top" && pwd -P)
mnt=$top/mnt
mkdir "$mnt"
unmount() {
    ! mountpoint -q "$mnt" || umount "$mnt" || umount -l "$mnt"
}
trap 'unmount; rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
export SUBJECT_TROUBLE SUBJECT_RELIEF SUBJECT_ERROR SUBJECT_LOG=1

ran=0 doubts=0 healed=0 lost=0 refused=0

fail() {
    echo "$name, $mode: $1: status $status"
    tail -n 40 "$dir/out"
    cp -R "$home/." "$dir/kept"
    unmount
    trap - EXIT
    echo "the store is kept in $dir/kept"
    exit 1
}

# try MODE: the store is in $home.
try() {
    mode=$1 status=0
    dir=$top/ledger
    rm -rf "$dir" "$home"
    mkdir -p "$dir" "$home"
    ln -s "$home" "$dir/store"
    "$subject" "$mode" "$dir" >"$dir/out" 2>&1 || status=$?
    [ $status -eq 0 ] || fail 'the run'
    line=$(tail -n 1 "$dir/out")
    "$subject" check "$dir" >>"$dir/out" 2>&1 || status=$?
    [ $status -eq 0 ] || fail 'the check'
    echo "$name, $mode: $line"
    # shellcheck disable=SC2086 # words
    set -- $line
    shift 5
    refused=$((refused + $1)) doubts=$((doubts + $5)) healed=$((healed + $9))
    shift 10
    lost=$((lost + $1)) ran=$((ran + 1))
    [ "$mode" = floor ] || need_doubt "$line"
}

# Trouble that nobody has noticed proves nothing.
need_doubt() {
    case $1 in
    *' doubts 0 '*) status=0 && fail 'no commit was in doubt' ;;
    esac
}

skipped() {
    echo "skipped: $name: $1"
}

# image BYTES MKFS [OPTION ...]: mounts a file system of its own.
image() {
    rm -f "$top/image"
    truncate -s "$1" "$top/image"
    shift
    "$@" "$top/image" >"$top/mkfs" 2>&1 &&
        mount -o "loop$options" "$top/image" "$mnt" 2>"$top/mount"
}

# ---- Files that may not grow -------------------------------------------------

name='file size limit'
home=$top/store
# shellcheck disable=SC2016 # the program's own shell asks
SUBJECT_TROUBLE='prlimit --pid $PPID --fsize=1:unlimited'
# shellcheck disable=SC2016
SUBJECT_RELIEF='prlimit --pid $PPID --fsize=unlimited:unlimited'
SUBJECT_ERROR=EFBIG
if command -v prlimit >/dev/null; then
    try heal
    try lose
else
    skipped 'no prlimit (util-linux)'
fi

# ---- A full disk -------------------------------------------------------------

home=$mnt/store
SUBJECT_ERROR=ENOSPC
SUBJECT_RELIEF="rm -f $top/hog; sleep 0.1; rm -f $mnt/ballast*"

name='full disk'
if mount -t tmpfs -o size=8m none "$mnt" 2>/dev/null; then
    fill="dd if=/dev/zero of=$mnt/ballast bs=4k 2>/dev/null || :"
    SUBJECT_TROUBLE=$fill
    try heal
    # What the store itself frees is taken as well.
    name='disk kept full'
    SUBJECT_TROUBLE="$fill
        touch $top/hog
        while [ -e $top/hog ]; do
            cat /dev/zero >>$mnt/ballast; sleep 0.01
        done 2>/dev/null &"
    try heal
    try lose
    name='disk below the floor'
    mount -o remount,size=96m "$mnt"
    SUBJECT_TROUBLE="head -c \$((\$(df --output=avail -B1 $mnt | tail -n 1) -
        25165824)) /dev/zero >$mnt/ballast"
    try floor
    unmount
else
    skipped 'tmpfs cannot be mounted (no root?)'
fi

# ---- A quota -----------------------------------------------------------------

name=quota options=
SUBJECT_ERROR=EDQUOT
SUBJECT_TROUBLE="btrfs qgroup limit 1 0/256 $mnt"
SUBJECT_RELIEF="btrfs qgroup limit none 0/256 $mnt"
home=$mnt/sub/store
if ! command -v btrfs >/dev/null; then
    skipped 'no btrfs (btrfs-progs)'
elif ! image 128M mkfs.btrfs -q; then
    skipped 'no loop device for btrfs'
else
    btrfs quota enable "$mnt"
    btrfs subvolume create "$mnt/sub" >/dev/null # it is 0/256
    try heal
    try lose
    unmount
fi

# ---- Read-only ---------------------------------------------------------------

# ext4 turns read-only when it finds an error, which it can be told to find. A
# remount does not help as long as files are open: only "lose".
name=read-only options=,errors=remount-ro
SUBJECT_ERROR=EROFS
home=$mnt/store
if ! image 32M mkfs.ext4 -q -O '^has_journal'; then
    skipped 'no loop device for ext4'
else
    device=$(findmnt -n -o SOURCE "$mnt")
    error=/sys/fs/ext4/${device#/dev/}/trigger_fs_error
    SUBJECT_TROUBLE="echo 1 >$error"
    SUBJECT_RELIEF="umount $mnt && mount -o loop$options $top/image $mnt"
    if [ -w "$error" ]; then
        try lose
    else
        skipped "no $error"
    fi
    unmount
fi

echo "$ran runs: $doubts commits in doubt, $healed healed, $lost given up," \
    "$refused jobs refused"
[ $ran -gt 0 ] && [ $doubts -gt 0 ]
