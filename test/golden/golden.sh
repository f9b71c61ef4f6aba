#!/bin/sh
# Every golden store opens, holds what it held, and is refused untouched when
# its format is a newer one. A store is an archive, and NAME.list what golden.c
# prints of it.
#
# At a release whose format is new, "make golden" adds the store of this version
# here, and both of its files are committed. Those of released versions stay as
# they are. "golden.sh make NAME" does that.
set -eu

: "${top_builddir:=.}" "${srcdir:=.}"
golden=$top_builddir/test/golden/golden
stores=$srcdir/test/golden

top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM

# unpack ARCHIVE: the store is $top/store.
unpack() {
    rm -rf "$top/store"
    tar -x -z -f "$1" -C "$top"
}

if [ "${1:-}" = make ]; then
    "$golden" make "$top/store" && exit 1
    rm -f "$top/store/db/LOG"* "$top/store/lock"
    tar -c -C "$top" --sort=name --owner=0 --group=0 store |
        gzip -9 -n >"$stores/$2.tar.gz"
    "$golden" list "$top/store" >"$stores/$2.list"
    ls -l "$stores/$2.tar.gz" "$stores/$2.list"
    exit
fi

tried=0
for archive in "$stores"/*.tar.gz; do
    unpack "$archive"
    "$golden" list "$top/store" >"$top/list"
    diff "${archive%.tar.gz}.list" "$top/list"

    unpack "$archive"
    read -r word major <"$top/store/FORMAT"
    echo "$word $((major + 1))" >"$top/store/FORMAT"
    rm -rf "$top/before"
    cp -R "$top/store" "$top/before"
    "$golden" refuse "$top/store"
    diff -r "$top/before" "$top/store"
    tried=$((tried + 1))
done
echo "$tried golden stores"
[ $tried -gt 0 ]
