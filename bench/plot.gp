# gnuplot -e "dir=...; format='svg'|'png'; heading=..." bench/plot.gp
# figures.* and bars.* in dir, from the plot-*.tsv that bench/report wrote there.

if (format eq "svg") {
	set terminal svg size 1200, 1200 font "DejaVu Sans,13" background "white"
} else {
	set terminal pngcairo size 1200, 1200 font "DejaVu Sans,10" background "white"
}
set style fill solid 0.85 noborder
set grid xtics linecolor "#dddddd"
set border 3
set tics nomirror
set xtics scale 0.5
set ytics scale 0 noenhanced
unset key
set datafile separator tab

# ours stand out
colour(label) = strstrt(label, "BPF") + strstrt(label, "our") ? 0x2a7f62 : 0x9aa5b1
number(x) = x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x)

set output dir . "/figures." . format
set multiplot layout 4, 2 title heading . "\n{/*0.8 median of each device, lines from min to max}" margins 0.19, 0.95, 0.04, 0.91 spacing 0.25, 0.08
do for [i = 1:8] {
	logarithmic = i == 1 || i == 7
	file = dir . "/plot-" . word("depth1-us depth32-cpu_us depth32-iops jobs2-cpu_us jobs2-iops depth32w-iops volumes1-us volumes32-iops", i) . ".tsv"
	if (i == 1) { set title "depth 1: us an I/O (log scale; less is better)" }
	if (i == 2) { set title "depth 32: us of CPU an I/O (less is better)" }
	if (i == 3) { set title "depth 32: k IOPS (more is better)" }
	if (i == 4) { set title "two jobs: us of CPU an I/O (less is better)" }
	if (i == 5) { set title "two jobs on two queues, depth 32: k IOPS (more is better)" }
	if (i == 6) { set title "depth 32, write: k IOPS (more is better)" }
	if (i == 7) { set title "volumes, depth 1: us an I/O (log scale; less is better)" }
	if (i == 8) { set title "volumes, depth 32: k IOPS (more is better)" }
	unit = i == 3 || i == 5 || i == 6 || i == 8 ? 1000.0 : 1.0
	set xrange [*:*]
	set yrange [*:*]
	stats file using ($5 / unit) nooutput
	from = logarithmic ? 1 : 0
	if (logarithmic) { set logscale x } else { unset logscale x }
	set xrange [from : logarithmic ? STATS_max * 3 : STATS_max * 1.15]
	set yrange [-0.6 : STATS_records - 0.4]
	plot file using (from):1:(from):($3 / unit):($1 - 0.35):($1 + 0.35):(colour(strcol(2))):ytic(2) \
			with boxxyerror linecolor rgb variable, \
		file using ($4 / unit):1:(($5 - $4) / unit):(0) with vectors nohead \
			linecolor "#333333" linewidth 1.5, \
		file using ($5 / unit):1:(number($3 / unit)) with labels left offset 0.6, 0 font ",10"
}
unset multiplot
unset output

set output dir . "/bars." . format
set title heading . "\n{/*0.8 how our ratio to the peer stands to its bar: 1 is at the bar, more is better; median, line from min to max}"
set lmargin at screen 0.45
set rmargin at screen 0.95
set bmargin at screen 0.06
set tmargin at screen 0.90
set logscale x 2
file = dir . "/plot-bars.tsv"
set xrange [*:*]
set yrange [*:*]
stats file using 5 nooutput
set xrange [0.25 : STATS_max > 3 ? STATS_max * 1.3 : 4]
set yrange [-0.6 : STATS_records - 0.4]
set arrow from 1, graph 0 to 1, graph 1 nohead linecolor "#c0392b" linewidth 2 front
plot file using (0.25):1:(0.25):3:($1 - 0.35):($1 + 0.35):($3 >= 1 ? 0x2a7f62 : 0xd35400):ytic(2) \
		with boxxyerror linecolor rgb variable, \
	file using 4:1:($5 - $4):(0) with vectors nohead linecolor "#333333" linewidth 1.5, \
	file using 5:1:(sprintf("%.2f", $3)) with labels left offset 0.6, 0
