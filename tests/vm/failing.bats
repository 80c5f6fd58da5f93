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
	[ ! -d /sys/bus/pseudo/drivers/scsi_debug ] || rmmod scsi_debug
	no_background
	return $status
}

io() { "$tools/io" "$@"; }

# The words of add for each target, over $1 and /dev/b.
targets_over() {
	printf '%s\n' "loop -f $1" "linear -f $1,length=8M -f /dev/b" "stripe -f $1 -f /dev/b"
}

@test "backing_that_comes_and_goes" {
	modprobe dm-flakey
	dmsetup create flakey --table "0 131072 flakey /dev/a 0 1 1"
	targets_over /dev/mapper/flakey | while read -r words; do
		# shellcheck disable=SC2086
		ublk-bpf add $words -n 0
		seeded
		fio --name=f --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw \
			--bs=16k --iodepth=16 --size=8M --continue_on_error=all --time_based \
			--runtime=5 --randseed="$SEED" >"$BATS_TEST_TMPDIR/fio" 2>&1 || true
		has "$(cat "$BATS_TEST_TMPDIR/fio")" "Input/output error"
		[ "$(stat_of 0 failed)" -gt 0 ]
		ublk-bpf del -n 0
	done
	# it is well again, and so are they
	dmsetup suspend flakey
	dmsetup load flakey --table "0 131072 linear /dev/a 0"
	dmsetup resume flakey
	targets_over /dev/mapper/flakey | while read -r words; do
		# shellcheck disable=SC2086
		ublk-bpf add $words -n 0
		seeded
		"$tools/compare" /dev/ublkb0 seed="$SEED" bytes=4M ops=300 zeroes
		is "$(stat_of 0 failed)" 0
		ublk-bpf del -n 0
	done
}

# The disk of scsi_debug with SETTING=VALUE "$@".
scsi_disk() {
	modprobe scsi_debug dev_size_mb=16 "$@"
	udevadm settle
	disk=/dev/$(basename /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/sd*)
}

@test "disk_that_finds_out_that_it_cannot_write_zeroes" {
	scsi_disk
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
	scsi_disk opts=2	# sectors 0x1234 to 0x123d
	at=$((0x1234 * 512 / 4096 * 4096))
	targets_over "$disk" | while read -r words; do
		# shellcheck disable=SC2086
		ublk-bpf add $words -n 0
		udevadm settle
		before=$at
		# chunks of 64 KiB go round two
		[[ $words != stripe* ]] || before=$((at / 65536 * 131072 + at % 65536))
		has "$(io /dev/ublkb0 read $before 4096)" "ENODATA|EIO"
		has "$(io /dev/ublkb0 read $((before - 4096)) 12288)" "ENODATA|EIO"
		is "$(io /dev/ublkb0 read $((before - 8192)) 8192)" "ok 8192"
		ublk-bpf del -n 0
	done
}
