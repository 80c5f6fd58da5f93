# Every way that a kernel's ublk driver hands I/O to a server, each with a program that
# takes some of it and redirects the rest. The server is the kernel's own, of its ublk
# selftests (tests/selftests), made to ask for UBLK_F_BPF.
# shellcheck disable=SC2154 # tools, progs, background are common.bash's
load common
kublk=build/selftests/tools/testing/selftests/ublk/kublk_bpf

setup() {
	common_setup
	mkdir -p /mnt/below
	mount -t tmpfs none /mnt/below
	truncate -s 64M /mnt/below/image
}

teardown() {
	local status=0
	common_teardown || status=1
	no_background
	pkill -KILL -f "$kublk" || true
	umount /mnt/below
	return $status
}

ctrl() { "$tools/ctrl" "$@"; }

# The kernel has all of these features, or the reason why the test is skipped.
needs() {
	local feature
	for feature; do
		ublk-bpf features | grep -qw "$feature" || skip "Linux ${KERNEL} has no UBLK_F_$feature"
	done
}

# Device 0 of a server with the words "$@" and the program over the same file.
device() {
	"$kublk" add -t loop -n 0 -q 2 -d 32 "$@" /mnt/below/image
	udevadm settle
	background "$tools/loader" "$progs/half.bpf.o" 4711
	is "$(ctrl set 0 slot=0 fd=9 9<>/mnt/below/image)" ok
	is "$(ctrl attach 0 prog_id=4711)" ok
}

# One job after the other: single requests, lists of them, large ones; all verified.
verified() {
	local words
	for words in "--bs=4k --iodepth=1 --io_size=512k" "--bs=4k --iodepth=32" "--bs=64k --iodepth=8"; do
		# shellcheck disable=SC2086
		fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
			--iodepth_batch_submit=16 --size=8M --verify=crc32c --verify_fatal=1 \
			--verify_state_save=0 --randseed="${SEED:=$RANDOM}" $words || {
			echo "seed $SEED"
			return 1
		}
	done
	is "$(stat_of 0 failed)" 0
	[ "$(stat_of 0 redirected)" -gt 0 ]
	[ "$(stat_of 0 fwd_inline)" -gt 0 ]
	[ "$(stat_of 0 fwd_worker)" -gt 0 ]	# of the daemon callback
}

# The server died or was sent away; another one comes.
recovered() {
	for _ in $(seq 100); do
		"$kublk" recover -t loop -n 0 -q 2 -d 32 "$@" /mnt/below/image && return
		sleep 0.1
	done
	return 1
}

@test "requests_one_by_one_and_in_lists" { device; verified; }

@test "user_copy" { needs USER_COPY; device -u; verified; }

@test "zero_copy" { needs SUPPORT_ZERO_COPY AUTO_BUF_REG; device -z; verified; }

@test "automatic_registration_of_buffers" { needs AUTO_BUF_REG; device -z --auto_zc; verified; }

@test "automatic_registration_that_falls_back" {
	needs AUTO_BUF_REG
	device -z --auto_zc --auto_zc_fallback
	verified
}

@test "a_task_for_each_io" { needs PER_IO_DAEMON; device --nthreads 3 --per_io_tasks; verified; }

@test "more_tasks_than_queues" { needs PER_IO_DAEMON BATCH_IO; device --batch --nthreads 4; verified; }

@test "batch_io" { needs BATCH_IO; device --batch; verified; }

@test "batch_io_with_user_copy" { needs BATCH_IO; device --batch -u; verified; }

@test "batch_io_with_registered_buffers" {
	needs BATCH_IO AUTO_BUF_REG
	device --batch -z --auto_zc
	verified
}

@test "larger_descriptors" { needs IO_DESC_SIZE; device --io_desc_size 64; verified; }

@test "no_partition_scan" { needs NO_AUTO_PART_SCAN; device --no_auto_part_scan; verified; }

@test "server_that_wants_to_be_asked_for_data_is_refused" {
	run "$kublk" add -t loop -n 0 -q 2 -g /mnt/below/image
	[ "$status" -ne 0 ]
	[ ! -e /dev/ublkb0 ]
}

@test "device_that_grows" {
	needs UPDATE_SIZE
	device
	truncate -s 96M /mnt/below/image
	"$kublk" update_size -n 0 -s $((96 << 20))
	is "$(blockdev --getsize64 /dev/ublkb0)" $((96 << 20))
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=32 --offset=64M --size=8M --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0
	verified
}

@test "server_that_is_sent_away" {
	needs QUIESCE
	device -r 1
	verified
	"$kublk" quiesce -n 0
	is "$("$tools/io" /dev/ublkb0 read 0 4096 nocheck)" "ok 4096"
	recovered -r 1
	verified
}

@test "server_that_dies" {
	for words in "-r 1" "-r 1 -i 1" "-r 1 -e 1"; do
		case $words in *-e*) ublk-bpf features | grep -q FAIL_IO || continue ;; esac
		# shellcheck disable=SC2086
		device $words
		verified
		pkill -KILL -f "$kublk add"
		is "$("$tools/io" /dev/ublkb0 read 0 4096 nocheck)" "ok 4096"
		# shellcheck disable=SC2086
		recovered $words
		verified
		"$kublk" del -n 0
		no_background
	done
}
