#!/bin/sh
# dassie_metrics(3) names each family of test/metrics.txt, and nothing else.
# (.ci/run has promtool look at that text.)
set -eu

: "${srcdir:=.}"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
LC_ALL=C
export LC_ALL

sed -n 's/^# TYPE \([a-z_]*\) \([a-z]*\)$/\1 \2/p' "$srcdir/test/metrics.txt" |
    sort >"$dir/told"
sed -n 's/^\.BR* \(dassie_[a-z_]*\) " *(\([a-z]*\).*/\1 \2/p' \
    "$srcdir/doc/dassie_metrics.3" | sort >"$dir/documented"
test -s "$dir/told"
echo 'test/metrics.txt against doc/dassie_metrics.3:'
diff "$dir/told" "$dir/documented"
