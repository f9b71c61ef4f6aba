#!/bin/sh
# The wall clock two hours back, two hours forward, racing and crawling, within
# a run and across restarts, with and without a close: see clocks.c. The clock
# is libfaketime's; the monotonic one is left alone.
set -eu

: "${top_builddir:=.}"
lib=
for path in /usr/lib/*/faketime/libfaketimeMT.so.1 \
    /usr/lib/faketime/libfaketimeMT.so.1 \
    /usr/local/lib/faketime/libfaketimeMT.so.1; do
    [ ! -e "$path" ] || lib=$path
done
if [ -z "$lib" ]; then
    echo "libfaketime is not installed"
    exit 77
fi
case ${SANITIZE_FLAGS-} in
*address* | *thread*)
    echo "a sanitizer must be loaded first, so libfaketime cannot be"
    exit 77
    ;;
esac

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# What follows: close or kill, and the clock's steps.
run() {
    echo "clocks: $*"
    echo "+0" >"$dir/clock"
    env LD_PRELOAD="$lib" FAKETIME_TIMESTAMP_FILE="$dir/clock" \
        FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
        FAKETIME_DONT_RESET=1 \
        timeout 60 "$top_builddir/test/api/clocks" "$dir/store" "$dir/clock" \
        "$@"
}

run close -2h +2h -2h +2h
run kill -2h
run kill +2h
run kill -4h
run close +4h
run kill "+4h x600"
run close "+8h x0.1" +9h
