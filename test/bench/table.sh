#!/bin/sh
# table.sh BENCH CSV PAGE puts the figures of CSV, as BENCH --csv printed them,
# into the table that stands in PAGE between its two marks.
set -eu

bench=$1 csv=$2 page=$3

table() {
    echo '| row | what | Dassie | limit | unit | ratio | required |'
    echo '| --- | --- | ---: | ---: | --- | ---: | --- |'
    "$bench" --rows | awk -F, -v csv="$csv" '
        function number(x) {
            return x >= 100 ? sprintf("%.0f", x) : sprintf("%.2f", x)
        }
        {
            required[$1] = $2
            what = $0
            sub(/^[^,]*,[^,]*,/, "", what)
            says[$1] = what
        }
        END {
            while ((getline line < csv) > 0) {
                split(line, f, ",")
                if (!(f[1] in says))
                    continue
                printf "| `%s` | %s | %s | %s | %s | %.2f | %s |\n", f[1],
                    says[f[1]], number(f[2]), number(f[3]), f[5], f[4],
                    required[f[1]]
                n++
            }
            exit n == 0
        }'
}

table >"$page.table"
awk -v table="$page.table" '
    /^<!-- table/ {
        print
        while ((getline line < table) > 0)
            print line
        inside = 1
    }
    /^<!-- end/ { inside = 0 }
    !inside && !/^<!-- table/ { print }
' "$page" >"$page.new"
rm "$page.table"
mv "$page.new" "$page"
