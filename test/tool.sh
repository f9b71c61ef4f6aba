# For scripts that run the command dassie as a user does: a part of each of
# them. Sets tool, dir (removed at the end, with what pid, tail and stat still
# name) and store.
# shellcheck shell=sh
: "${srcdir:=.}" "${top_builddir:=.}"
# shellcheck source=test/wait.sh
. "$srcdir/test/wait.sh"
LC_ALL=C
export LC_ALL
unset DASSIE_DIR || :

tool=$(cd "$top_builddir" && pwd)/tools/dassie
[ -x "$tool" ] || {
    echo 'the command was not built, as there is no jansson'
    exit 77
}

dir=$(mktemp -d)
mkdir "$dir/scratch"
TMPDIR=$dir/scratch
export TMPDIR
pid=
tail=
stat=
store=$dir/store

cleanup() {
    for each in $pid $tail $stat; do
        kill -KILL "$each" 2>/dev/null || :
    done
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# Ends the test: what is wrong, and the output that shows it.
fail() {
    echo "$1"
    for file in "$dir/out" "$dir/err"; do
        echo "== ${file##*/}"
        head -n 40 "$file" || :
    done
    exit 1
}

# dassie STATUS ARGUMENT...: on the store, with that exit code. After an error
# there is one line on stderr, else none.
dassie() {
    wanted=$1
    shift
    status=0
    "$tool" -d "$store" "$@" >"$dir/out" 2>"$dir/err" || status=$?
    [ "$status" -eq "$wanted" ] || fail "dassie $*: status $status, not $wanted"
    said=$(wc -l <"$dir/err")
    [ "$said" -eq $((wanted != 0)) ] || fail "dassie $*: $said lines on stderr"
}

# prints PATTERN, says PATTERN: a line of stdout, or stderr, is like that.
prints() {
    grep -q -e "$1" "$dir/out" || fail "nothing like '$1' is printed"
}

says() {
    grep -q -e "$1" "$dir/err" || fail "nothing like '$1' is said"
}

# All bytes of the store, but for the lock, which tells who looked last.
digest() {
    (cd "$store" && find . -type f ! -name lock -exec cksum {} + | sort)
}

# at_least N PATTERN FILE
at_least() {
    [ "$(grep -c "$2" "$3")" -ge "$1" ]
}

# start OUT ARGUMENT...: in the background. Sets pid.
start() {
    out=$1
    shift
    "$tool" -d "$store" "$@" >"$out" 2>"$dir/err" &
    pid=$!
}

# end_with SIGNAL: sets status.
end_with() {
    status=0
    kill "-$1" "$pid"
    wait "$pid" 2>/dev/null || status=$?
    pid=
}
