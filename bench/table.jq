# results.json -> the table people read.
def left($n): . + (" " * $n) | .[:$n];
def right($n): " " * $n + . | .[-([$n, length - $n] | max):];
def unpadded: sub(" +$"; "");

# a number with $n digits after the point
def fixed($n): pow(10; $n) as $p | (. * $p | round) as $i
	| "\($i / $p | floor)" + if $n == 0 then "" else "." + ("\($p + $i % $p)" | .[1:]) end;
def digits: if . >= 99.95 then fixed(0) elif . >= 9.995 then fixed(1) else fixed(2) end;
def range_of(f): "\(.min | f)-\(.max | f)";
def figure(f): (.median | f | right(6)) + "  " + (range_of(f) | left(13));

# how far beside its bar a ratio is, in per cent
def off: .median / .bar - 1 | fabs * 100 | fixed(1);
def verdict: if .met == null then "" elif .met then "met" else "missed by \(off) %" end;

def panels: [
	["depth1", "us", "depth 1, one job, read"],
	["depth32", "iops", "depth 32, one job, read"],
	["jobs2", "iops", "depth 32, two jobs on two queues, read"],
	["depth1w", "us", "depth 1, one job, write"],
	["depth32w", "iops", "depth 32, one job, write"],
	["volumes1", "us", "volumes, depth 1, one job, read"],
	["volumes32", "iops", "volumes, depth 32, one job, read"],
	["volumes2", "iops", "volumes, depth 32, two jobs on two queues, read"],
	["image1", "us", "an image on ext4, depth 1, one job, read"],
	["image32", "iops", "an image on ext4, depth 32, one job, read"],
	["image1w", "us", "an image on ext4, depth 1, one job, write"],
	["image32w", "iops", "an image on ext4, depth 32, one job, write"],
	["cold1", "us", "an image of 64 GiB, just opened, depth 1, read"],
	["cold32", "iops", "an image of 64 GiB, just opened, depth 32, read"],
	["new1", "us", "an empty image, depth 1, write"],
	["new32", "iops", "an empty image, depth 32, write"]
][];

. as $all | .machine as $m
| "",
"ublk-bpf beside its peers: Linux \($m.kernel), \(
	if $m.accel == "kvm" then "KVM (bars are not judged)" else "software emulation, no KVM" end), \($m.cpus) CPUs",
"\($m.rounds) rounds of \($m.seconds) s in one boot; 4 KiB random direct I/O by io_uring; medians, then min-max.",
"No I/O scheduler on any device, iostats on. CPU is that of the whole machine.",
(if $m.host_cpus_busy_otherwise >= 0.1 then
	"Other work took \($m.host_cpus_busy_otherwise) of the \($m.host_cpus) CPUs of the host meanwhile: figures are low and spread."
else empty end),
"",
( panels as [$workload, $quantity, $title]
| ($title | left(50)) + (if $quantity == "us" then "us an I/O" else "k IOPS" end | left(20)) + "us of CPU an I/O",
	( $all.figures[] | select(.workload == $workload)
	| ("  " + .label | left(44))
		+ if $quantity == "us" then .us | figure(digits)
		  else .iops | map_values(. / 1000) | figure(digits) end
		+ " " + (.cpu_us | figure(digits)) | unpadded ),
	"" ),
("ratio, ours / peer" | left(84)) + "median  min-max        CPU   bar",
( $all.ratios[]
| ("  \(.ours_label) / \(.peer_label): \(.workload_label) \(if .quantity == "us" then "time" else "IOPS" end)" | left(84))
	+ (.median | fixed(3) | right(6)) + "  " + (range_of(fixed(3)) | left(13))
	+ (.cpu.median | fixed(2) | right(5)) + "   " + ("\(.op) \(.bar)" | left(10)) + verdict | unpadded ),
( .hits
| ("  an image: I/Os that its program did by itself, of \(.hits + .misses), in per cent" | left(84))
	+ (.percent | fixed(3) | right(7)) + (" " * 22) + (">= \(.bar)" | left(10))
	+ if .met then "met" else "missed by \((.bar - .percent) | fixed(1)) %" end ),
""
