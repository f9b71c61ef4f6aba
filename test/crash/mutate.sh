#!/bin/sh
# Golden stores with several files damaged at a time, at random: see mutate.c.
# It needs no library of its own and so serves builds with sanitizers. QUICK=1
# tries fewer, SEED=N others, CASES=N so many.
set -eu

: "${top_builddir:=.}" "${srcdir:=.}" "${QUICK:=}" "${SEED:=$(date +%s)}"
: "${CASES:=${QUICK:+60}}" "${CASES:=1000}"

top=$(mktemp -d)
top=$(cd "$top" && pwd -P)
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
echo "seed $SEED"

for archive in "$srcdir"/test/golden/*.tar.gz; do
    rm -rf "$top/store" "$top/work"
    tar -x -z -f "$archive" -C "$top"
    mkdir "$top/work"
    "$top_builddir/test/crash/mutate" "$top_builddir/test/golden/golden" \
        "$top/store" "$top/work" "$SEED" 0 "$CASES" || {
        cat "$top/work/out"
        trap - EXIT
        echo "all is kept in $top"
        exit 1
    }
done
