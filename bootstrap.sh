#!/bin/sh
# From a fresh checkout to a build, on Debian 12 or a system like it. What is
# missing is installed (that needs root or sudo), the rest happens in build/.
#
#   ./bootstrap.sh build   the library and the samples
#   ./bootstrap.sh demo    the same, then samples/crawl-demo.sh
#   ./bootstrap.sh check   the same, then the tests
#
# It is safe to run again: what is done already is not done twice.
set -eu

cd "$(dirname "$0")"

say() {
    echo "bootstrap: $*"
}

die() {
    say "$*" >&2
    exit 1
}

# quietly NAME COMMAND... shows the output only when the command fails; it is
# kept in build/NAME.log.
quietly() {
    log=$PWD/build/$1.log
    shift
    "$@" >"$log" 2>&1 && return
    tail -n 60 "$log" >&2
    die "'$*' failed, see $log"
}

# The packages that the action needs. None of them starts a service.
packages() {
    echo gcc libc6-dev make autoconf automake libtool pkg-config
    echo libuv1-dev librocksdb-dev uthash-dev libjansson-dev \
        libncurses-dev
    case $action in
    demo) echo libcurl4-openssl-dev busybox ;;
    check) echo libcurl4-openssl-dev check g++ busybox faketime ;;
    esac
}

apt_get() {
    # shellcheck disable=SC2086
    quietly "apt-$1" $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 "$@"
}

# Installs those of the packages that are missing. Sets installed to yes or no.
install() {
    installed=no
    command -v dpkg-query >/dev/null || {
        say "this is no Debian, so these have to be here: $*"
        return
    }
    missing=
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>&1) || :
        [ "$status" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0

    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    [ -z "$sudo" ] || command -v sudo >/dev/null ||
        die "root or sudo is needed to install$missing"
    say "installing$missing"
    apt_get update
    # shellcheck disable=SC2086
    apt_get install -y --no-install-recommends $missing
    installed=yes
}

# Once; when an input changes, make does it again.
generate() {
    if [ ! -e configure ] || [ ! -e Makefile.in ]; then
        say "autoreconf"
        quietly autoreconf autoreconf -i
    fi
}

# Whether configure was run, and with all of what is installed now.
configured() {
    [ -e build/Makefile ] && [ $installed = no ] || return 1
    grep -q '^JANSSON_LIBS = .' build/Makefile || return 1
    grep -q '^CURSES_LIBS = .' build/Makefile || return 1
    case $action in
    demo) grep -q '^CURL_LIBS = .' build/Makefile ;;
    check) grep -q '^CHECK_LIBS = .' build/Makefile ;;
    esac
}

configure() {
    if ! configured; then
        say "configure"
        quietly configure env -C build ../configure
    fi
}

build() {
    say "make"
    make -s -C build -j"$jobs"
}

demo() {
    say "samples/crawl-demo.sh"
    samples/crawl-demo.sh "$PWD/build"
}

check() {
    say "make check"
    if make -s -C build -j"$jobs" check; then
        say "all tests passed"
        return
    fi
    # This holds the logs of the tests that failed, and of no others.
    [ ! -e build/test-suite.log ] || cat build/test-suite.log >&2
    die "make check failed"
}

action=${1:-}
case $#$action in
1build | 1demo | 1check) ;;
*)
    echo "usage: $0 build|demo|check" >&2
    exit 2
    ;;
esac

jobs=$(nproc 2>/dev/null || echo 2)
mkdir -p build
# shellcheck disable=SC2046
install $(packages)
generate
configure
build
case $action in
demo) demo ;;
check) check ;;
esac
