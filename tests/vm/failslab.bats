# Each allocation of ours fails in turn: an error that says so, or a retry, and never
# a lost I/O. The kernel's fault injection picks those that have our code on their
# stack.
# shellcheck disable=SC2154 # tools, progs, object are others'
# kernels: debug
load common
load ops
object=behave
failslab=/sys/kernel/debug/failslab

# Our files are linked behind the kernel's, so that one range has all of them.
setup() {
	common_setup
	below "$(awk '/\[ublk_drv\]/ && $3 ~ /^ublk_bpf_/ && tolower($2) == "t" { print $1 }' /proc/kallsyms | sort)"
	echo 32 >$failslab/stacktrace-depth
	echo N >$failslab/ignore-gfp-wait
	echo N >$failslab/cache-filter
	echo 0 >$failslab/verbose
	echo 0 >$failslab/space
}

teardown() {
	local status=0
	echo 0 >$failslab/probability
	fresh
	log_is_clean || status=1
	return $status
}

# Only what is called from between the first and the last of the addresses $1 fails.
below() {
	echo "0x$(head -n 1 <<<"$1")" >$failslab/require-start
	echo "0x$(tail -n 1 <<<"$1")" >$failslab/require-end
}

# From now on, or until stop_failing, $1 of 100 fail; $2 of them at most, -1: any number.
fail() {
	echo 1 >$failslab/interval
	echo "$2" >$failslab/times
	echo "$1" >$failslab/probability
}

# The $1th from now on fails, that one alone.
fail_nth() {
	echo 0 >$failslab/probability
	echo "$1" >$failslab/interval
	echo 1 >$failslab/times
	echo 100 >$failslab/probability
}

# Return: has anything failed?
stop_failing() {
	echo 0 >$failslab/probability
	[ "$(cat $failslab/times)" = 0 ]
}

# Run "${@:2}" with the first, second, ... allocation failing until none is left to
# fail. Each time it works or says $1, and $undo takes back what it did.
each_fails() {
	local nr
	for nr in $(seq 200); do
		fail_nth "$nr"
		run "${@:2}"
		stop_failing || break
		echo "allocation $nr: status $status, $output"
		[ "$status" -eq 0 ] || has "$output" "$1"
		$undo
	done
	[ "$nr" -gt 1 ]
	[ "$status" -eq 0 ]
	$undo
}

no_device() { [ ! -e /dev/ublkc0 ] || ublk-bpf del -n 0; }

@test "device_is_added_or_enomem" {
	undo=no_device
	each_fails "Cannot allocate memory" ublk-bpf add loop -n 0 -f /dev/a -q 2
	each_fails "Cannot allocate memory" ublk-bpf add loop -n 0 -f /dev/a --recover wait
}

nothing() { :; }
set_slot() { is "$(ctrl set 0 slot=0 fd=9 9<>/dev/b)" ok; }
attach() { is "$(ctrl attach 0 prog_id=4711)" ok; }
detach() { ctrl detach 0; }
register() { background "$tools/loader" "$progs/behave.bpf.o" 42 && kill -KILL "$background"; }

@test "commands_work_or_are_enomem" {
	background "$tools/server" 0 SERVE /dev/a
	background "$tools/loader" "$progs/behave.bpf.o" 4711
	undo=nothing
	each_fails ENOMEM set_slot
	undo=detach
	fail_nth 1
	run attach
	stop_failing || true
	[ "$status" -eq 0 ] || has "$output" ENOMEM
	detach
	undo=nothing
	each_fails ENOMEM register
}

# $1 of 100 allocations fail while what fio writes is verified.
verified() {
	fail "$1" -1
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
		--bs=16k --iodepth=16 --size=16M --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0 "${@:2}"
	echo 0 >$failslab/probability
	is "$(stat_of 0 failed)" 0
}

@test "forwarded_io_does_not_need_memory" {
	ublk-bpf add loop -n 0 -f /dev/a
	verified 30
	verified 100
	ublk-bpf del -n 0
	mkfs.ext4 -q /dev/b
	mkdir -p /mnt/below
	mount /dev/b /mnt/below
	truncate -s 64M /mnt/below/image
	ublk-bpf add loop -n 0 -f /mnt/below/image
	verified 10 --size=8M
	# requests of several bios
	verified 100 --size=4M --rw=write --bs=4k --iodepth_batch_submit=16
	ublk-bpf del -n 0
	umount /mnt/below
}

@test "io_that_cannot_be_held_is_done_at_once" {
	ublk-bpf add null -n 0 -d 256 --delay 100ms
	udevadm settle
	held=$(stat_of 0 held)
	fail 100 -1
	# 64 are kept for that
	fio --name=h --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
		--bs=4k --iodepth=256 --size=4M
	echo 0 >$failslab/probability
	is "$(stat_of 0 failed)" 0
	stat_reaches 0 held $((held + 64))
	[ "$(stat_of 0 held)" -lt $((held + 1024)) ]
}

@test "module_is_loaded_or_enomem" {
	ublk-bpf del -a
	cat /sys/module/ublk_drv/parameters/hooks >>"$HOOKS"
	unload
	below "$(grep -A 1 ' do_one_initcall$' <(sort /proc/kallsyms) | cut -d ' ' -f 1)"
	undo=unload
	each_fails "Cannot allocate memory" insmod "build/driver/$(uname -r)/ublk_drv.ko"
	insmod "build/driver/$(uname -r)/ublk_drv.ko"
}
