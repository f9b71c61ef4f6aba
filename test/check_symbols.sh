#!/bin/sh
# What the shared library exports, what dassie.h declares and test/symbols.txt
# are one and the same list.
set -eu

: "${srcdir:=.}" "${NM:=nm}"
lib=.libs/libdassie.so
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
LC_ALL=C
export LC_ALL

tr '\n' ' ' <"$srcdir/include/dassie.h" | grep -o 'DASSIE_EXTERN [^;(]*(' |
    sed -n 's/.*[ *]\(dassie_[a-z0-9_]*\)($/\1/p' | sort >"$dir/declared"
echo "test/symbols.txt against include/dassie.h:"
diff "$srcdir/test/symbols.txt" "$dir/declared"

# A program that links the static library keeps all other names for itself.
if [ -e .libs/libdassie.a ]; then
    echo "names of .libs/libdassie.a without dassie_ in front:"
    $NM --defined-only -g .libs/libdassie.a |
        awk 'NF == 3 && $3 !~ /^dassie_/ { print $3 }' |
        grep -Ev '^_*(odr_)?[almtu]+san[_.]|^__sanitizer_|^__gcov_|^__llvm_' |
        sort -u >"$dir/foreign"
    diff /dev/null "$dir/foreign"
fi

if [ ! -e "$lib" ]; then
    echo "$lib is not built (--disable-shared)"
    exit 77
fi

# A is the version node itself; the other names are a sanitizer's and gcov's.
$NM -D --defined-only "$lib" |
    awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    grep -Ev '^_*(odr_)?[almtu]+san_|^__sanitizer_|^__gcov_|^__llvm_' |
    grep -Ev '^(_init|_fini|__bss_start|_edata|_end)$' |
    sort -u >"$dir/exported"
echo "test/symbols.txt against $lib:"
diff "$srcdir/test/symbols.txt" "$dir/exported"
