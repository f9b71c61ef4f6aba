# What lcov's file of branches tells: for each file how many were taken, and the
# lines with one that was not; then all together.
#
#     awk -v least=PERCENT -f coverage.awk coverage.info
#
# A line with a count behind it has so many. Exit status: 1 if fewer than least
# percent were taken, or there are none.

function file_end() {
    if (of > 0) {
        printf "%6.1f%% of %4d %s%s\n", 100 * hit / of, of, name, missed_text()
    }
    all_hit += hit
    all_of += of
}

function missed_text(    i, text) {
    for (i = 1; i <= lines; i++) {
        text = text " " line[i] (missed[i] > 1 ? "x" missed[i] : "")
    }
    return text == "" ? "" : ":" text
}

BEGIN { FS = "[:,]" }

$1 == "SF" {
    name = $2
    sub(/.*\/lib\//, "lib/", name)
    hit = of = lines = 0
}

$1 == "BRDA" {
    of++
    if ($5 != "-" && $5 > 0) {
        hit++
    } else if (lines > 0 && line[lines] == $2) {
        missed[lines]++
    } else {
        line[++lines] = $2
        missed[lines] = 1
    }
}

$1 == "end_of_record" { file_end() }

END {
    if (all_of == 0) {
        print "there are no branches"
        exit 1
    }
    printf "%.2f%% of %d branches were taken\n", 100 * all_hit / all_of, all_of
    if (100 * all_hit < least * all_of) {
        print "that is less than " least "%"
        exit 1
    }
}
