# Backings that fail, now and then or in a place: what is above says so, and goes on.
# shellcheck disable=SC2154 # tools is common.bash's
# gate: 7.3 (what differs between kernels is in other files)
load common

setup() {
	common_setup
	null_blk a 64 discard=1
	null_blk b 64 discard=1
}

teardown() {
	local status=0
	common_teardown || status=1
	dmsetup remove flakey 2>/dev/null
	[ ! -d /sys/bus/pseudo/drivers/scsi_debug ] || soon rmmod scsi_debug || status=1
	no_background
	return $status
}

io() { "$tools/io" "$@"; }

# Each target, and one on another.
kinds="loop linear stripe stack"

# Device $top of kind $1 over $2 and /dev/b.
add_over() {
	top=0
	case $1 in
	loop) ublk-bpf add loop -n 0 -f "$2" ;;
	linear) ublk-bpf add linear -n 0 -f "$2",length=8M -f /dev/b ;;
	stripe) ublk-bpf add stripe -n 0 -f "$2" -f /dev/b ;;
	stack)
		ublk-bpf add linear -n 0 -f "$2",length=8M -f /dev/b
		ublk-bpf add stripe -n 1 -f /dev/ublkb0,length=16M -f /dev/ublkb0,start=16M,length=16M
		top=1
		;;
	esac
	udevadm settle
}

# Random writes to device $top with "${@:2}": some fail with error number $1, and what does
# not is read back right (else the number is another one). fio would have each block's seed
# by its order, which those that fail change; its number of the write tells old data, too.
fails_and_verifies() {
	fio --name=f --filename=/dev/ublkb$top --direct=1 --ioengine=io_uring --rw=randwrite \
		--iodepth=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
		--verify_header_seed=0 --continue_on_error=io --ignore_error=5:61,5:61 \
		--randseed=$RANDOM --output-format=json --output="$BATS_TEST_TMPDIR/load" "${@:2}" || true
	is "$(reported '.jobs[0].error')" "$1"
	[ "$(reported '.jobs[0].read.total_ios')" -gt 0 ]
	[ "$(stat_of $top failed)" -gt 0 ]
}

@test "backing_that_comes_and_goes" {
	modprobe dm-flakey
	dmsetup create flakey --table "0 131072 flakey /dev/a 0 1 1"
	seeded
	for kind in $kinds; do
		add_over $kind /dev/mapper/flakey
		# slow enough to meet both
		fails_and_verifies 5 --bs=16k --size=8M --rate_iops=256	# EIO
		ublk-bpf del -a
	done
	# it is well again, and so are they
	dmsetup suspend flakey
	dmsetup load flakey --table "0 131072 linear /dev/a 0"
	dmsetup resume flakey
	for kind in $kinds; do
		add_over $kind /dev/mapper/flakey
		"$tools/compare" /dev/ublkb$top seed="$SEED" bytes=4M ops=300 zeroes
		is "$(stat_of $top failed)" 0
		ublk-bpf del -a
	done
}

# The disk of scsi_debug with SETTING=VALUE "$@".
scsi_debug() {
	modprobe scsi_debug dev_size_mb=16 "$@"
	udevadm settle
	disk=/dev/$(scsi_disk)
}

@test "disk_that_finds_out_that_it_cannot_write_zeroes" {
	scsi_debug
	ublk-bpf add loop -n 0 -f "$disk"
	is "$(io /dev/ublkb0 write 1M 256k pattern=1)" "ok 262144"
	is "$(io /dev/ublkb0 zeroes 1M 64k)" "ok 65536"
	[ "$(cat "/sys/block/${disk#/dev/}/queue/write_zeroes_max_bytes")" -gt 0 ]
	echo 1 >/sys/module/scsi_debug/parameters/write_same_length
	is "$(io /dev/ublkb0 zeroes 1088k 64k)" "ok 65536"
	is "$(cat "/sys/block/${disk#/dev/}/queue/write_zeroes_max_bytes")" 0
	is "$(io /dev/ublkb0 read 1M 128k)" "ok 131072"
	is "$(io /dev/ublkb0 read 1152k 128k pattern=1)" "ok 131072"
	is "$(stat_of 0 failed)" 0
}

@test "sectors_that_cannot_be_read" {
	scsi_debug opts=2	# sectors 0x1234 to 0x123d
	at=$((0x1234 * 512 / 4096 * 4096))
	for kind in $kinds; do
		add_over $kind "$disk"
		# chunks of 64 KiB go round two
		case $kind in
		stripe | stack) before=$((at / 65536 * 131072 + at % 65536)) ;;
		*) before=$at ;;
		esac
		has "$(io /dev/ublkb$top read $before 4096)" "ENODATA|EIO"
		has "$(io /dev/ublkb$top read $((before - 4096)) 12288)" "ENODATA|EIO"
		is "$(io /dev/ublkb$top read $((before - 8192)) 8192)" "ok 8192"
		ublk-bpf del -a
	done
}

@test "writes_that_fail_for_a_while" {
	scsi_debug
	seeded
	for kind in $kinds; do
		add_over $kind "$disk"
		# of WRITE(10), 20: by an error of the medium that nobody tries again after
		echo "2 -20 0x2a 0 0 0x2 0x3 0x11 0x0" >/sys/kernel/debug/scsi_debug/*/error
		fails_and_verifies 61 --bs=4k --size=1M	# ENODATA
		ublk-bpf del -a
	done
}
