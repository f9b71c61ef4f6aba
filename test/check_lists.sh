#!/bin/sh
# Makefile.am and doc/pages.am name every source, script and man page there is,
# so that none is left out of the build, the tests or the tarball.
set -eu

: "${srcdir:=.}"
cd "$srcdir"
missing=0

words=" $(cat Makefile.am doc/pages.am | tr -s '\\[:space:]' ' ') "

# Whether $1 is one of their words; a test program stands there without .c.
listed() {
    case $words in
    *" $1 "* | *" ${1%.c} "*) return 0 ;;
    esac
    return 1
}

for file in $(find doc include lib samples test tools \
    -name '*.[ch]' -o -name '*.[1-8]' -o -name '*.sh' -o -name '*.map' |
    LC_ALL=C sort); do
    listed "$file" || {
        echo "$file is not listed"
        missing=1
    }
done
exit $missing
