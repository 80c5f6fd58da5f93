# measured.jsonl of a machine whose time is what it executes, 1 ns an instruction, to a
# table: what the whole machine executes for an I/O, the load's own part included.
def left($n): . + (" " * $n) | .[:$n];
def right($n): " " * $n + . | .[-([$n, length - $n] | max):];

$tables[0] as $tables
| [inputs] as $lines
| ($lines | map(select(.kernel))[0]) as $machine
| "", "Instructions an I/O, on one CPU: Linux \($machine.kernel)",
"",
( $lines | map(select(.device)) | group_by(.workload)[]
| ($tables.workloads[.[0].workload] | left(42)),
	(.[] | "  " + ($tables.devices[.device] | left(40)) + (1e9 / .iops | round | tostring | right(8))),
	"" )
