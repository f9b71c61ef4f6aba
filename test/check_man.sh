#!/bin/sh
# The man pages tell what dassie.h says, and their examples work.
#
# Pages. Each exported function has doc/FUNCTION.3: a page that has it in NAME,
# or a line that leads to one. SYNOPSIS has the functions of NAME and their
# callbacks, word for word, and nothing else. A callback is a function's if its
# type stands in the declaration, or in the struct of one of its parameters.
#
# Errors. The list under "Returned" (the whole of ERRORS where no function has
# a status to give) is what the comments above the functions name, the one
# under "Given to the callback" what those above the callbacks' types name. In
# a comment, "as NAME" stands for all that NAME's own comment names, "never
# CODE" takes a code away, and what is in quotes does not count. A function
# that returns int and takes a queue or a processor first has those of the
# comment at the top of the header, too.
#
# Limits. The rows of dassie_limits(7) are the header's limits. The value is in
# the column Minimum if the name ends in _MIN, in Default if its comment begins
# with "default", else in Maximum. The test named below it exists.
#
# Examples. What stands between .EX and .EE in EXAMPLES is a whole program. It
# compiles without a warning and, if the library is built, ends with status 0
# in a directory where the other examples have left their store.
#
# mandoc and man, where installed, have no warning.
set -eu

: "${srcdir:=.}" "${top_builddir:=.}" "${CC:=cc}" "${SANITIZE_FLAGS:=}"
: "${UV_CFLAGS=$(pkg-config --cflags libuv 2>/dev/null || :)}"
: "${UV_LIBS=$(pkg-config --libs libuv 2>/dev/null || echo -luv)}"
srcdir=$(cd "$srcdir" && pwd)
top_builddir=$(cd "$top_builddir" && pwd)
LC_ALL=C
export LC_ALL
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

complain() {
    echo "$*"
    bad=1
}

# ---- The header and the pages ------------------------------------------------

cat >"$dir/pages.awk" <<'AWK'
function complain(text) {
    print text
    bad = 1
}

function squeezed(text) {
    gsub(/["\\[:space:]]/, "", text)
    return text
}

function base(path) {
    sub(/.*\//, "", path)
    return path
}

# ---- dassie.h

FILENAME ~ /\.h$/ && /^\/\* ---- / { limits = / Limits /; next }

FILENAME ~ /\.h$/ && limits && /^#define / {
    value = $3
    gsub(/[()]/, "", value)
    column = $2 ~ /_MIN$/ ? 1 : $5 ~ /^default/ ? 2 : 3
    limit[$2] = column SUBSEP value
}

FILENAME ~ /\.h$/ && /^ *XX\(E/ {
    match($0, /\(E[A-Z0-9]+/)
    own["DASSIE_" substr($0, RSTART + 1, RLENGTH - 1)] = 1
}

FILENAME ~ /\.h$/ && (in_comment || /^\/\*/) {
    if (!in_comment)
        comment = ""
    in_comment = !/\*\//
    line = $0
    sub(/\*\/.*/, "", line)
    sub(/^.\*/, "", line)
    comment = comment " " line
    if (!in_comment && top == "")
        top = comment
    next
}

FILENAME ~ /\.h$/ && /^struct dassie_[a-z_]+_s \{/ {
    type = $2
    sub(/_s$/, "_t", type)
}

FILENAME ~ /\.h$/ && /^\};/ { type = "" }

FILENAME ~ /\.h$/ && type != "" && $1 ~ /_cb$/ {
    member[type] = member[type] " " $1
}

FILENAME ~ /\.h$/ && (/^DASSIE_EXTERN / || /^typedef .*\(\*/) {
    declaration = ""
    declaring = 1
}

FILENAME ~ /\.h$/ && declaring {
    declaration = declaration " " $0
    if (/;/) {
        declaring = 0
        declare(declaration)
    }
}

FILENAME ~ /\.h$/ {
    if (/^$/)
        comment = ""
    next
}

function declare(text,    name) {
    sub(/^ *DASSIE_EXTERN /, "", text)
    match(text, /dassie_[a-z0-9_]+\)?\(/)
    name = substr(text, RSTART, RLENGTH)
    gsub(/[()]/, "", name)
    says[name] = comment
    prototype[name] = text
    if (text !~ /typedef/)
        exported[name] = 1
}

# Adds what a comment names to set[key, code].
function codes(text, set, key,    n, word, i) {
    gsub(/"[^"]*"/, "", text)
    n = split(text, word, /[^A-Za-z0-9_]+/)
    for (i = 1; i <= n; i++) {
        if (word[i] ~ /^UV_E[A-Z0-9]+$/ || word[i] in own) {
            if (word[i - 1] == "never")
                never[word[i]] = 1
            else
                set[key, word[i]] = 1
        } else if (word[i - 1] ~ /^[Aa]s$/ && word[i] in says) {
            codes(says[word[i]], set, key)
        }
    }
}

# What the page must have for this function.
function expect(page, name,    n, word, i, j, m, types, known, part, code) {
    split("", never)
    synopsis[page, squeezed(prototype[name])] = name
    codes(says[name], known, name)
    if (prototype[name] ~ /^ *int [a-z_]*\(dassie_(processor_)?t \*/)
        codes(top, known, name)
    for (code in known) {
        split(code, part, SUBSEP)
        if (!(part[2] in never))
            want[page, "Returned", part[2]] = 1
    }
    n = split(prototype[name], word, /[^A-Za-z0-9_]+/)
    for (i = 1; i <= n; i++) {
        m = split(word[i] member[word[i]], types, " ")
        for (j = 1; j <= m; j++) {
            if (types[j] ~ /_cb$/) {
                synopsis[page, squeezed(prototype[types[j]])] = types[j]
                codes(says[types[j]], want, page SUBSEP "Given to the callback")
            }
        }
    }
}

# ---- Pages

FNR == 1 {
    page = base(FILENAME)
    section = list = ""
}

FNR == 1 && /^\.so / {
    stub[page] = base($2)
    next
}

/^\.SH / {
    section = $0
    gsub(/^\.SH |"/, "", section)
    sections[page] = sections[page] " / " section
    list = section == "ERRORS" ? "Returned" : ""
    next
}

section == "NAME" && page ~ /\.3$/ && !named[page] {
    line = $0
    named[page] = sub(/ \\- .*/, "", line)
    n = split(line, word, /[, ]+/)
    for (i = 1; i <= n; i++) {
        if (word[i] != "")
            home[word[i]] = page
    }
}

section == "SYNOPSIS" && /^\.BI? / && !/#include/ {
    line = $0
    sub(/^\.BI? /, "", line)
    text = text squeezed(line)
    if (text ~ /;$/) {
        shown[page, text] = 1
        text = ""
    }
}

section == "ERRORS" && /^\.SS / {
    list = $0
    gsub(/^\.SS |"/, "", list)
}

section == "EXAMPLES" && /^\.EX/ { example[page] = 1 }

list != "" && last == ".TP" && /^\.B / { have[page, list, $2] = 1 }

page == "dassie_limits.7" && /^DASSIE_.*\t/ {
    gsub(/\\/, "")
    split($0, cell, "\t")
    for (i = 1; i <= 3; i++)
        table[cell[1], i] = cell[i + 1]
    rows[cell[1]] = 1
}

page == "dassie_limits.7" && $1 ~ /test_[a-z_]+:$/ {
    gsub(/\\/, "")
    print $1, $2 >tests
}

{ last = $0 }

# ---- The comparison

END {
    for (name in exported) {
        page = name ".3"
        if (page in stub)
            page = stub[page]
        if (home[name] != page)
            complain("doc/" name ".3: no page, or one without it in NAME")
        else
            expect(page, name)
    }
    for (name in home)
        if (!(name in exported))
            complain("doc/" home[name] ": " name " is not exported")
    for (page in stub)
        if (!(substr(page, 1, length(page) - 2) in exported))
            complain("doc/" page ": not exported")
    wanted = " / NAME / SYNOPSIS / DESCRIPTION / RETURN VALUES / ERRORS" \
        " / AVAILABILITY / EXAMPLES / SEE ALSO"
    for (page in sections)
        if (page ~ /\.3$/ && (sections[page] != wanted || !example[page]))
            complain("doc/" page ": no example, or sections are not" wanted)
    for (key in synopsis)
        if (!(key in shown))
            complain("SYNOPSIS lacks or changes " synopsis[key])
    for (key in shown) {
        split(key, part, SUBSEP)
        if (!(key in synopsis))
            complain("doc/" part[1] ": not its, or not so: " part[2])
    }
    for (key in want)
        if (!(key in have)) {
            split(key, part, SUBSEP)
            complain("doc/" part[1] ": " part[2] ": " part[3] " is missing")
        }
    for (key in have)
        if (!(key in want)) {
            split(key, part, SUBSEP)
            complain("doc/" part[1] ": " part[2] ": " part[3] \
                     " is not in the header's comments")
        }
    for (name in limit) {
        split(limit[name], part, SUBSEP)
        if (table[name, part[1]] != part[2])
            complain("doc/dassie_limits.7: " name " is " part[2])
    }
    for (name in rows)
        if (!(name in limit))
            complain("doc/dassie_limits.7: " name " is no limit")
    exit bad
}
AWK

: >"$dir/tests"
awk -v tests="$dir/tests" -f "$dir/pages.awk" "$srcdir/include/dassie.h" \
    "$srcdir"/doc/*.[37] || bad=1

while read -r file name; do
    find "$srcdir/test" -name "${file%:}.c" -exec grep -qw "$name" {} \; -print |
        grep -q . || complain "doc/dassie_limits.7: no test $file $name"
done <"$dir/tests"

# ---- Examples ----------------------------------------------------------------

cat >"$dir/examples.awk" <<'AWK'
FNR == 1 {
    section = out = ""
    page = FILENAME
    gsub(/.*\/|\.[37]$/, "", page)
}
/^\.SH / { section = $2 }
/^\.EE/ { out = "" }
out != "" {
    gsub(/\\-/, "-")
    gsub(/\\\(aq/, "\047")
    gsub(/\\\(ha/, "^")
    gsub(/\\\(ti/, "~")
    gsub(/\\e/, "\\")
    print >out
}
/^\.EX/ && section == "EXAMPLES" { out = dir "/" page "-" ++n ".c" }
AWK

# The lists of flags may hold several words, or none.
# shellcheck disable=SC2086
compile() {
    $CC $SANITIZE_FLAGS -I"$srcdir/include" -I"$top_builddir/include" \
        $UV_CFLAGS -Wall -Wextra -Werror "$@"
}

# shellcheck disable=SC2086
link_to_library() {
    "$top_builddir/libtool" --quiet --tag=CC --mode=link $CC $SANITIZE_FLAGS \
        -o "$1" "$2" "$top_builddir/libdassie.la" $UV_LIBS
}

# Runs a program, and shows what it says if it fails.
run() {
    (cd "$dir/run" && timeout 60 "$1") >"$dir/log" 2>&1 && return
    cat "$dir/log"
    return 1
}

try() {
    if [ -e "$top_builddir/libdassie.la" ]; then
        compile -c -o "$1.o" "$1.c" && link_to_library "$1" "$1.o" && run "$1"
    else
        compile -fsyntax-only "$1.c"
    fi
}

awk -v dir="$dir" -f "$dir/examples.awk" "$srcdir"/doc/*.[37]
mkdir "$dir/run"
for program in "$dir"/*.c; do
    try "${program%.c}" || complain "doc: example $(basename "$program") fails"
done

# ---- Formatting --------------------------------------------------------------

for page in "$srcdir"/doc/*.[1-8]; do
    ! grep -q '^\.so ' "$page" || continue
    ! command -v mandoc >/dev/null || mandoc -T lint -W warning "$page" || bad=1
    ! command -v groff >/dev/null || ! command -v man >/dev/null || {
        MANWIDTH=80 man --warnings -E UTF-8 -l "$page" >/dev/null 2>"$dir/log"
        ! grep . "$dir/log" || bad=1
    }
done

exit $bad
