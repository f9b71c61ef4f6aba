#!/bin/sh
# A job that kills its process is found: started again and again, the program
# of suspects.c lives at last, with this job failed and no other one blamed.
set -eu

: "${top_builddir:=.}"
deaths=4 # one that makes suspects, then max_crashes alone
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

# try HOW [async]
try() {
    rm -rf "$dir/store"
    n=0
    status=1
    while [ $status -ne 0 ]; do
        status=0
        { # a shell may tell of the death
            "$top_builddir/test/crash/suspects" "$dir/store" "$@" \
                >"$dir/out" 2>&1 || status=$?
        } 2>/dev/null
        case $status in
        0) ;;
        3 | 142) # its own failure, SIGALRM
            echo "$*: status $status after $n deaths"
            cat "$dir/out"
            exit 1
            ;;
        *)
            n=$((n + 1))
            [ $n -le $deaths ] || {
                echo "$*: it dies too often"
                exit 1
            }
            ;;
        esac
    done
    echo "$*: $n deaths"
    [ $n -eq $deaths ] || exit 1
}

try abort
try segv
try kill
try kill async
