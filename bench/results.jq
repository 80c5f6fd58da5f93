# measured.jsonl -> results.json: medians and spread of each device and workload,
# and of the ratios the bars are about, each taken within one round.
def median: sort | if length % 2 == 1 then .[length / 2 | floor]
	else (.[length / 2 - 1] + .[length / 2]) / 2 end;
def spread: { median: median, min: min, max: max };

$tables[0] as $tables
| [inputs] as $lines
| ($lines | map(select(.kernel))[0]) as $machine
| ($lines | map(select(.device))) as $measured

# what a device took in a round, or each of the further ones of a difference
| def taken($name): $tables.differences[$name] as $d
	| if $d then (.[$d[0]] - .[$d[1]]) / $d[2] else .[$name] end;
def label_of($name): $tables.devices[$name] // $tables.differences[$name][3];

# ours / peer in every round
def ratios($ours; $peer; $workload; $quantity):
	$measured | map(select(.workload == $workload)) | group_by(.round)
	| map((map({ (.device): .[$quantity] }) | add) | taken($ours) / taken($peer));

{
	machine: ($machine + { host_cpus: $cpus, host_cpus_busy_otherwise: $noise }),
	figures: [
		($tables.workloads | keys_unsorted[]) as $workload
		| ($tables.devices | to_entries[]) as { key: $device, value: $label }
		| ($measured | map(select(.workload == $workload and .device == $device))) as $m
		| select($m | length > 0)
		| {
			device: $device, label: $label, workload: $workload,
			us: ($m | map(.us) | spread),
			iops: ($m | map(.iops) | spread),
			cpu_us: ($m | map(.cpu_us) | spread)
		}
	],
	ratios: [
		$tables.bars[] as [$ours, $peer, $workload, $quantity, $op, $bar]
		| ratios($ours; $peer; $workload; $quantity) as $per_round
		| ($per_round | spread) as $ratio
		| {
			ours: $ours, ours_label: label_of($ours),
			peer: $peer, peer_label: label_of($peer),
			workload: $workload, workload_label: $tables.workloads[$workload],
			quantity: $quantity
		} + $ratio + {
			cpu: (ratios($ours; $peer; $workload; "cpu_us") | spread),
			op: $op, bar: $bar,
			# a figure under KVM is none for a bar of software emulation
			met: (if $machine.accel == "kvm" then null
			      elif $op == "<=" then $ratio.median <= $bar
			      else $ratio.median >= $bar end),
			per_round: $per_round
		}
	],
	# of all I/O to an image that was preallocated, what its program did by itself
	hits: ($lines | map(select(.hits)) | { hits: (map(.hits) | add), misses: (map(.misses) | add) }
		| .percent = 100 * .hits / (.hits + .misses)
		| .bar = $tables.hits_percent | .met = (.percent >= .bar)),
	measured: $measured
}
