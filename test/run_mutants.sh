#!/bin/sh
# Planted bugs that the tests have to notice: each test/mutants/NAME.patch is
# one, a small change of lib/. Its head says what it breaks and who should notice:
#
#     A sentence or two.
#     Transition: EVENT ...       those of lib/state.h that it gets wrong, if any
#     Test: PROGRAM [ARGUMENT...] from the build directory; the cheapest first
#
# "make check-mutants" makes one copy of the sources and one build, and takes
# each patch in turn: applied, compiled, the tests of its head run until one of
# them notices, taken back. QUICK=1: some of them; MUTANT='NAME...': these.
# "make mutant MUTANT=NAME" only builds the library with it, for another test
# to be tried: in mutants/build, until the next run.
#
# To notice is to tell of wrong behaviour: a failed assertion of Check's, or a
# campaign's own verdict with status 1. Not to compile, a signal, a time-out or
# a patch that does not apply is not, and fails as a mutant that survives does.
# All tests have to pass without a patch first (one that fails is not asked), and
# each event of lib/state.h has to have a mutant, when all are run.
#
# Possible failure modes are: as above; 2: it could not be done.
set -eu

: "${MAKE:=make}" "${QUICK:=}" "${MUTANT:=}" "${CC:=cc}"
sample='ack-before-commit batch-in-two due-early heal-writes-twice
    priority-reversed stale-finish'
seconds=120 # for one test
jobs=2

top=$PWD/mutants
patches=$top/src/test/mutants
[ -w /dev/shm ] && : "${TMPDIR:=/dev/shm}"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/mutants.XXXXXX")
applied=
trap 'take_back; rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

give_up() {
    echo "$*" >&2
    exit 2
}

# ---- The copy and its build --------------------------------------------------

# Brings mutants/src to what is in mutants/new, and leaves all else as it is, so
# that only what has changed is compiled again.
refresh() {
    mkdir -p "$top/src"
    rm -rf "$patches"
    (cd "$top/new" && find . -type f) | while read -r file; do
        cmp -s "$top/new/$file" "$top/src/$file" && continue
        mkdir -p "$(dirname "$top/src/$file")"
        cp -p "$top/new/$file" "$top/src/$file"
        chmod u+w "$top/src/$file"
        case $file in # older than what was made of a mutant
        *.[ch]) touch "$top/src/$file" ;;
        esac
    done
    rm -rf "$top/new"
}

prepare() {
    refresh
    mkdir -p "$top/build"
    cd "$top/build"
    [ -e Makefile ] ||
        ../src/configure CC="$CC" CFLAGS='-O1 -g' >"$top/configure.log" 2>&1 ||
        give_up "configure failed: $top/configure.log"
}

# target PROGRAM: what a test is made of.
target() {
    case $1 in
    test/crash/power.sh)
        echo test/crash/power test/crash/subject test/crash/record.la
        ;;
    test/crash/kill_points.sh)
        echo test/crash/subject test/crash/kill_at.la
        ;;
    *) echo "$1" ;;
    esac
}

# compile TARGET...: true if that can be done.
compile() {
    $MAKE -j$jobs "$@" >"$tmp/make" 2>&1
}

# ---- One mutant --------------------------------------------------------------

# names: those to be tried.
names() {
    if [ -n "$MUTANT" ]; then
        echo "$MUTANT"
    elif [ -n "$QUICK" ]; then
        echo "$sample"
    else
        (cd "$patches" && ls) | sed -n 's/\.patch$//p'
    fi
}

# of NAME WORD: what its head says.
of() {
    sed -n -e '/^--- /q' -e "s/^$2: //p" "$patches/$1.patch"
}

# files NAME: those that it changes.
files() {
    sed -n 's,^+++ b/,,p' "$patches/$1.patch"
}

apply() {
    applied=$1
    for file in $(files "$1"); do
        mkdir -p "$(dirname "$tmp/kept/$file")"
        cp "$top/src/$file" "$tmp/kept/$file"
    done
    (cd "$top/src" && patch -s -N -p1 -F0) <"$patches/$1.patch" >"$tmp/patch" 2>&1
}

# The files are as they were, and newer than what was made of the others.
take_back() {
    [ -n "$applied" ] || return 0
    for file in $(files "$applied"); do
        cp "$tmp/kept/$file" "$top/src/$file"
        rm -f "$top/src/$file.orig" "$top/src/$file.rej"
    done
    applied=
}

# run TEST: sets status, and evidence if it tells of wrong behaviour.
run() {
    evidence='' status=0
    # shellcheck disable=SC2086 # words
    set -- $1
    program=$1
    shift
    case $program in
    *.sh) set -- "${SHELL:-/bin/sh}" "$top/src/$program" "$@" ;;
    test/sim/sim) set -- "./$program" --jobs=$jobs "$@" ;;
    *) set -- "./$program" "$@" ;;
    esac
    srcdir=../src top_builddir=. TMPDIR=$tmp CK_DEFAULT_TIMEOUT=$((seconds / 2)) QUICK=1 \
        timeout -k 5 $seconds "$@" >"$tmp/out" 2>&1 || status=$?
    [ $status -eq 1 ] || return 0
    case $program in
    test/model/test_model) evidence=$(grep '^seed ' "$tmp/out") || : ;;
    test/sim/sim) evidence=$(grep -B 1 '^to see it: ' "$tmp/out") || : ;;
    *.sh) evidence=$(grep -v '^one: ' "$tmp/out") || : ;;
    *) evidence=$(grep ':F:' "$tmp/out") || : ;;
    esac
    evidence=$(echo "$evidence" | head -n 1)
}

# why STATUS: in words.
why() {
    case $1 in
    0) echo passes ;;
    124 | 137) echo "does not end in $seconds s" ;;
    *) echo "status $1: $(tail -n 1 "$tmp/out")" ;;
    esac
}

# try NAME: true if it is noticed.
try() {
    of "$1" Test | grep -vxFf "$tmp/failing" >"$tmp/tests" || {
        echo "$1: NO TEST"
        return 1
    }
    apply "$1" || {
        echo "$1: DOES NOT APPLY: $(head -n 1 "$tmp/patch")"
        return 1
    }
    said=
    while read -r test; do
        # shellcheck disable=SC2046 # words
        compile $(target "${test%% *}") || {
            echo "$1: DOES NOT COMPILE: $(grep -m 1 error "$tmp/make")"
            return 1
        }
        run "$test"
        [ -z "$evidence" ] || {
            echo "$1: noticed by $test: $evidence"
            return 0
        }
        said="$said; $test $(why $status)"
    done <"$tmp/tests"
    echo "$1: SURVIVED$said"
    return 1
}

# Without a patch all tests pass. Sets failing.
pass() {
    for name in $names; do
        of "$name" Test
    done | sort -u >"$tmp/all"
    # shellcheck disable=SC2046 # words
    compile $(while read -r program _; do target "$program"; done <"$tmp/all" |
        sort -u) || {
        tail -n 20 "$tmp/make"
        give_up 'it does not compile'
    }
    : >"$tmp/failing"
    while read -r test; do
        run "$test"
        [ $status -eq 0 ] || {
            echo "without a mutant $test fails: $(why $status)"
            echo "$test" >>"$tmp/failing"
            cp "$tmp/out" "$top/failing.log"
        }
    done <"$tmp/all"
    failing=$(wc -l <"$tmp/failing")
    echo "without a mutant: $(wc -l <"$tmp/all") tests, $failing fail"
}

# Each event has a mutant.
events() {
    events=$(sed -n 's/^    EVENT_\([A-Z_]*\),.*/\1/p' "$top/src/lib/state.h")
    for event in $events; do
        for name in $names; do
            of "$name" Transition
        done | tr ' ' '\n' | grep -qx "$event" || {
            echo "no mutant of the transition $event"
            missing=$((missing + 1))
        }
    done
}

# ---- All of them -------------------------------------------------------------

prepare
names=$(names)
for name in $names; do
    [ -e "$patches/$name.patch" ] || give_up "no mutant $name"
done
missing=0
[ -n "$QUICK$MUTANT" ] || events

if [ "${1:-}" = build ]; then
    [ -n "$MUTANT" ] || give_up 'MUTANT=NAME is missing'
    apply "$MUTANT" || give_up "it does not apply: $(cat "$tmp/patch")"
    applied=
    compile all || give_up "it does not compile: $(cat "$tmp/make")"
    echo "$top/build is built with $MUTANT"
    exit
fi

pass
tried=0 noticed=0
for name in $names; do
    tried=$((tried + 1))
    if try "$name"; then
        noticed=$((noticed + 1))
    fi
    take_back
done
echo "$tried mutants: $noticed noticed"
[ $tried -gt 0 ] && [ $noticed -eq $tried ] && [ $((missing + failing)) -eq 0 ]
