# gnuplot -e "csv='bench.csv'; dir='doc'" plot.gp: two pictures of the figures
# that bench --csv printed: jobs a second, and every ratio to its limit.
set datafile separator ','
set terminal svg size 760,380 dynamic background rgb 'white' font 'sans,11'
set style fill solid 0.9 border -1
set grid ytics lc rgb '#dddddd'
set xtics rotate by -35 noenhanced
set key top right

rates = "< awk -F, '$5 == \"jobs/s\"' " . csv
ratios = "< awk -F, '$5 == \"jobs/s\" || $5 == \"MB/s\" || " . \
    "($5 == \"us\" && $1 ~ /latency/) || $1 == \"reopen\"' " . csv

set output dir . '/performance-rates.svg'
set title 'Jobs a second, everything fsynced'
set style data histograms
set style histogram clustered gap 1
set yrange [0:*]
set format y '%.0s%c'
plot rates using 2:xtic(1) title 'Dassie' lc rgb '#c8642d', \
    '' using 3 title 'bare loop' lc rgb '#9aa5b1'

set output dir . '/performance-ratios.svg'
set title 'Dassie beside its limit (of rates more is better, of times less)'
set format y '%.1f'
set key off
plot ratios using 4:xtic(1) lc rgb '#c8642d', 1 with lines lc rgb '#555555'
