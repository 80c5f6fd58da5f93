# Devices on devices: any target on any other, and who uses them.
# shellcheck disable=SC2154 # tools is common.bash's
# gate: 7.3 (what differs between kernels is in other files)
load common

setup() {
	common_setup
	for name in a b; do
		null_blk $name 64 discard=1
	done
}

teardown() {
	local status=0
	umount /mnt/above 2>/dev/null
	dmsetup remove held 2>/dev/null
	common_teardown || status=1
	no_background
	return $status
}

io() { "$tools/io" "$@"; }

# The random list on the device on top, in memory, and by programs alone on each level.
compared() {
	local id
	seeded
	"$tools/compare" "/dev/ublkb$1" seed="$SEED" bytes=4M zeroes
	for id in $(seq 0 "$1"); do
		is "$(stat_of "$id" failed) $(stat_of "$id" redirected)" "0 0"
	done
}

@test "linear_on_stripe_on_loop_does_random_operations" {
	ublk-bpf add loop -n 0 -f /dev/a,start=1M,length=8M
	ublk-bpf add stripe -n 1 --chunk 16k -f /dev/ublkb0 -f /dev/b,length=8M
	ublk-bpf add linear -n 2 -f /dev/ublkb1,start=1M,length=2M -f /dev/ublkb1,start=4M,length=4M
	compared 2
}

@test "stripe_on_linear_on_ram_does_random_operations" {
	ublk-bpf add ram -n 0 -s 8M
	ublk-bpf add linear -n 1 -f /dev/ublkb0,start=512k,length=2M -f /dev/b,length=2M
	ublk-bpf add stripe -n 2 --chunk 8k -f /dev/ublkb1 -f /dev/a,length=8M
	compared 2
}

@test "loop_on_a_file_on_stripe_on_loop_does_random_operations" {
	ublk-bpf add loop -n 0 -f /dev/a
	ublk-bpf add stripe -n 1 -f /dev/ublkb0 -f /dev/b
	mkfs.ext4 -q /dev/ublkb1
	mkdir -p /mnt/above
	mount /dev/ublkb1 /mnt/above
	truncate -s 16M /mnt/above/image
	ublk-bpf add loop -n 2 -f /mnt/above/image
	compared 2
	ublk-bpf del -n 2
	umount /mnt/above
	fsck.ext4 -fn /dev/ublkb1
}

@test "io_of_a_list_does_not_wait_for_a_lower_device_that_sleeps" {
	null_blk fast 64 memory_backed=0
	null_blk slow 64 memory_backed=0 no_sched=1 hw_queue_depth=1 irqmode=2 completion_nsec=4000000000
	null_blk end 64
	# where nobody looks for a file system
	ublk-bpf add linear -n 1 -f /dev/fast -f /dev/slow,length=1M -f /dev/end
	background "$tools/loader" "$progs/mixed.bpf.o" 4711
	background "$tools/server" 0 SERVE /dev/ublkb1
	settled /dev/ublkb0
	is "$("$tools/ctrl" attach 0 prog_id=4711)" ok
	# two go to the slow one, the others are done by the program
	fio --name=l --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --rw=read:508k --bs=4k \
		--iodepth=4 --iodepth_batch_submit=4 --offset=64M --size=2M --io_size=16k 3>&- &
	soon reads_reach 2
	sleep 1
	is "$(reads_in_flight)" 2
	wait $!
	is "$(stat_of 0 "done")" 2
	is "$(stat_of 0 fwd_inline)" 2
}

@test "who_uses_a_device_is_named" {
	ublk-bpf add loop -n 0 -f /dev/a
	ublk-bpf add linear -n 1 -r -f /dev/ublkb0
	run ublk-bpf del -n 0
	is "$status" 1
	has "$output" "/dev/ublkb0 is in use: /dev/ublkb1 is on it; end that, or delete it all the same: ublk-bpf del -n 0 --force"
	ublk-bpf del -n 1
	mkfs.ext4 -q /dev/ublkb0
	mkdir -p /mnt/above
	mount /dev/ublkb0 /mnt/above
	run ublk-bpf del -n 0
	is "$status" 1
	has "$output" "is in use: it is mounted on /mnt/above;"
	umount /mnt/above
	dmsetup create held --table "0 8192 linear /dev/ublkb0 0"
	run ublk-bpf del -n 0
	is "$status" 1
	has "$output" "is in use: /dev/dm-[0-9]+ is on it;"
	dmsetup remove held
	ublk-bpf del -n 0
}

@test "disk_below_that_is_gone_is_enodev" {
	ublk-bpf add loop -n 0 -f /dev/a
	ublk-bpf add linear -n 1 -f /dev/ublkb0
	ublk-bpf del -n 0 --force 2>/dev/null || true	# its number is taken while device 1 has it
	is "$("$tools/io" /dev/ublkb1 read 0 4096)" ENODEV
	is "$("$tools/io" /dev/ublkb1 write 4096 4096)" ENODEV
	ublk-bpf del -n 1
}

has_open() { readlink "/proc/$1/fd/"* | grep -qx "$2"; }

@test "who_lets_go_of_a_device_soon_is_waited_for" {
	ublk-bpf add loop -n 0 -f /dev/a
	"$tools/compare" /dev/ublkb0 seed=1 ops=2000 bytes=4M 3>&- &	# O_EXCL, no name
	soon has_open $! /dev/ublkb0
	ublk-bpf del -n 0
	wait $!
}
