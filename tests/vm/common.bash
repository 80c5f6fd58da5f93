# shellcheck shell=bash
# Loaded by every file of tests/vm. Brackets each test: the kernel's log since
# its start must be clean, and no device may be left.
# shellcheck source=tests/machine.bash
. tests/machine.bash

tools=build/tests-tools
progs=build/tests-progs

common_setup() {
	echo "$FILE $BATS_TEST_DESCRIPTION" >>"$BEGUN"
	sync "$BEGUN"
	mark="ublk_bpf test $BATS_TEST_DESCRIPTION $$"
	echo "$mark" >/dev/kmsg
	cd "$BATS_TEST_TMPDIR/../../.." 2>/dev/null || true
	cd "$CHECKOUT" || return
}

# The kernel's log since the test began.
klog() { dmesg | sed -n "/$mark/,\$p"; }

common_teardown() {
	local ids
	# the higher numbers may lie on the lower ones
	ids=$(ublk-bpf list --json 2>/dev/null | jq -r 'reverse | .[].id' 2>/dev/null)
	for id in $ids; do
		ublk-bpf del --force -n "$id" || echo "# cannot delete device $id"
	done
	log_is_clean
}

# What of the log is no complaint in a suite that has its own version of this.
suspect() { cat; }

log_is_clean() {
	local bad
	echo "ublk_bpf: end of a test" >/dev/kmsg	# what comes until the next one: see in-vm
	[[ $(klog) = *"$mark"* ]] || { echo "the kernel's log has lost this test's beginning"; return 1; }
	bad=$(klog | suspect | grep -E "$complaint" || true)
	if [ -n "$bad" ]; then
		echo "the kernel complained:"
		klog | tail -n 60
		return 1
	fi
}

setup() { common_setup; }
teardown() { common_teardown; }

# The one word of statistics $2 of device $1.
stat_of() { "$tools/ctrl" stats "$1" print="$2"; }

# Is that $3 or more? Not if there is no device.
stat_reaches() { [ "$(stat_of "$1" "$2" 2>/dev/null || echo 0)" -ge "$3" ]; }

# The reads of device 0 that have not ended.
reads_in_flight() { awk '{ print $1 }' /sys/block/ublkb0/inflight; }
reads_reach() { [ "$(reads_in_flight)" -ge "$1" ]; }

# Later kernels start reading the partitions some time after START_DEV.
is_scanned() { [ "$(<"/sys/block/${1#/dev/}/partscan")" = 1 ]; }

# Nobody reads device $1 any more: neither udev, nor the kernel its partitions, which it
# may do at the first opening only.
settled() {
	soon is_scanned "$1"
	udevadm settle
	dd if="$1" of=/dev/null bs=4k count=1 iflag=direct status=none
}

# Wait until "$@" succeeds, for 10 s at most.
soon() {
	for _ in $(seq 200); do
		! "$@" || return 0
		sleep 0.05
	done
	echo "not after 10 s: $*"
	return 1
}

# What is chosen at random is the same with the same SEED.
seeded() {
	RANDOM=${SEED:=$RANDOM}
	echo "seed $SEED"
}

# A memory-backed null_blk of $2 MB named $1, with further SETTING=VALUE.
null_blk() {
	local dir=/sys/kernel/config/nullb/$1 setting
	modprobe null_blk nr_devices=0 2>/dev/null
	mkdir "$dir"
	for setting in size="$2" memory_backed=1 completion_nsec=0 "${@:3}"; do
		echo "${setting#*=}" >"$dir/${setting%%=*}"
	done
	echo 1 >"$dir/power"
	udevadm settle
}

# The name of scsi_debug's disk.
scsi_disk() { basename /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/sd*; }

no_null_blk() {
	echo 0 >"/sys/kernel/config/nullb/$1/power"
	rmdir "/sys/kernel/config/nullb/$1"
}

# Fail, and say what there is, unless $1 is $2.
is() {
	[ "$1" = "$2" ] || { echo "there is '$1', not '$2'"; return 1; }
}

# Fail, and show it, unless text $1 has what matches the regular expression $2.
has() {
	grep -qE -- "$2" <<<"$1" || { printf "no '%s' in:\n%s\n" "$2" "$1"; return 1; }
}

# Run "$@" in the background, until it says "ready"; $background is its id.
background() {
	local said=$BATS_TEST_TMPDIR/said.$RANDOM
	"$@" >"$said" 2>&1 3>&- &
	background=$!
	all_background+=" $background"
	for _ in $(seq 400); do
		grep -q '^ready' "$said" && return
		kill -0 "$background" 2>/dev/null || break
		sleep 0.05
	done
	echo "'$*' is not ready:"
	cat "$said"
	return 1
}

# End what background() started, and all null_blk.
no_background() {
	local name
	# shellcheck disable=SC2086
	[ -z "$all_background" ] || kill -KILL $all_background 2>/dev/null || true
	for name in /sys/kernel/config/nullb/*/; do
		[ ! -d "$name" ] || no_null_blk "$(basename "$name")" || true
	done
}

# Random writes to $1 for $2 s, in the background, which are all read back; "$@": more for fio.
verify_load() {
	seeded
	fio --name=v --filename="$1" --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --time_based \
		--runtime="$2" --randseed="$SEED" --output-format=json \
		--output="$BATS_TEST_TMPDIR/load" "${@:3}" >"$BATS_TEST_TMPDIR/fio" 2>&1 3>&- &
	load=$!
}

# Value $1 of fio's report; notes may stand before it.
reported() { sed -n '/^{/,$p' "$BATS_TEST_TMPDIR/load" | jq "$1"; }

# The load met no error until its end, and has read something back.
load_is_verified() {
	wait "$load" || true	# its report has the errors, also when it was told to end
	cat "$BATS_TEST_TMPDIR/fio"
	is "$(reported '[.jobs[].error] | max')" 0
	[ "$(reported '[.jobs[].read.total_ios] | add')" -gt 0 ]
}

# The process that serves device $1, or 0.
server() { ublk-bpf list -n "${1:-0}" --json | jq -r '.[0].server_pid'; }

# Number $1 of the map that the programs of tests/progs count in.
count_of() { "$tools/map" counts "$1"; }
