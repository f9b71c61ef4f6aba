#!/bin/sh
# dassie.h compiles alone, twice in one file, and with each initialiser, as C99,
# C11, gnu11 and C++, with no warning.
set -eu

: "${srcdir:=.}" "${CC:=cc}" "${CXX:=}" "${UV_CFLAGS:=}"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat >"$dir/header.c" <<'C'
#include <dassie.h>
#include <dassie.h>

int use(void);
int use(void)
{
    dassie_options_t options = DASSIE_OPTIONS_INIT;
    dassie_spec_t spec = DASSIE_SPEC_INIT;
    dassie_process_options_t process = DASSIE_PROCESS_OPTIONS_INIT;
    dassie_list_options_t list = DASSIE_LIST_OPTIONS_INIT;
    return options.size + spec.size + process.size + list.size > 0 &&
           DASSIE_VERSION_MAJOR + DASSIE_VERSION_MINOR >= 0 &&
           sizeof(DASSIE_VERSION_STRING) > 1 ? dassie_version() != NULL : 0;
}
C
cp "$dir/header.c" "$dir/header.cc"

# compile COMPILER FLAG... FILE. uv.h needs what strict ISO C hides, hence
# _GNU_SOURCE; the compilers' commands may hold several words.
compile() {
    echo "$*"
    # shellcheck disable=SC2086
    ${1} -fsyntax-only -D_GNU_SOURCE -I"$srcdir/include" -Iinclude $UV_CFLAGS \
        -Wall -Wextra -Werror -pedantic "$2" "$3"
}

for std in c99 c11 gnu11; do
    compile "$CC -Wstrict-prototypes -Wundef" "-std=$std" "$dir/header.c"
done
if [ -n "$CXX" ]; then
    for std in c++98 c++11 c++17; do
        compile "$CXX -Wno-long-long" "-std=$std" "$dir/header.cc"
    done
fi
