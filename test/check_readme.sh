#!/bin/sh
# The README's first program is samples/hello.c, to the letter.
set -eu
: "${srcdir:=.}"

awk '/^```/ { on = $0 == "```c"; next } on' "$srcdir/README.md" |
    diff - "$srcdir/samples/hello.c"
