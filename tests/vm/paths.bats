# Every way that a kernel's ublk driver hands I/O to a server, each with a program that
# takes some of it and redirects the rest. The server is the kernel's own, of its ublk
# selftests (tests/selftests), made to ask for UBLK_F_BPF.
# shellcheck disable=SC2154 # tools, progs, background are common.bash's
load common
kublk=build/selftests/tree/tools/testing/selftests/ublk/kublk_bpf

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
	BEFORE_START="$PWD/$tools/ctrl set 0 slot=0 fd=9 9<>/mnt/below/image" \
		"$kublk" add -t loop -n 0 -q 2 -d 32 "$@" /mnt/below/image
	udevadm settle
	background "$tools/loader" "$progs/half.bpf.o" 4711
	is "$(ctrl attach 0 prog_id=4711)" ok
}

# One job after the other: single requests, lists of them, large ones; all verified.
verified() {
	local words
	seeded
	for words in "--bs=4k --iodepth=1 --io_size=256k" "--bs=4k --iodepth=32" "--bs=64k --iodepth=8"; do
		# shellcheck disable=SC2086
		fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
			--iodepth_batch_submit=16 --size="${size:-8M}" --verify=crc32c --verify_fatal=1 \
			--verify_state_save=0 --randseed="$SEED" $words
	done
	is "$(stat_of 0 failed)" 0
	[ "$(stat_of 0 redirected)" -gt 0 ]
	[ "$(stat_of 0 fwd_bytes)" -gt 0 ]
}

# Not by kublk: where its server is quick it waits for 10 s, and begins anew with each file
# of /dev that anybody closes meanwhile.
gone() {
	ublk-bpf del -n 0
	no_background
}

# The server died or was sent away; another one comes. One that is sent away may wait for
# a command that it gave back after the driver had cancelled the others, with stock
# devices, too: that one has to be killed.
recovered() {
	for try in $(seq 100); do
		"$kublk" recover -t loop -n 0 -q 2 -d 32 "$@" /mnt/below/image && return
		[ "$try" != 30 ] || pkill -KILL -f "$kublk add|$kublk recover" || true
		sleep 0.1
	done
	return 1
}

@test "requests_one_by_one_and_in_lists" { device; verified; }

@test "user_copy" { needs USER_COPY; device -u; verified; }

# 6.12 has the first feature's name, and not what kublk does with it
@test "zero_copy" { needs SUPPORT_ZERO_COPY AUTO_BUF_REG; device -z; verified; }

@test "buffers_registered_by_the_driver" { needs AUTO_BUF_REG; device --auto_zc; verified; }

@test "shared_memory_of_the_submitter" {
	needs SHMEM_ZC
	device --shmem_zc
	verified
}

@test "larger_descriptors" { needs IO_DESC_SIZE; device --io_desc_size 64; verified; }

@test "no_partition_scan" { needs NO_AUTO_PART_SCAN; device --no_auto_part_scan; verified; }

@test "a_task_for_each_io" {
	needs PER_IO_DAEMON
	size=2M
	for words in "" -u -z --auto_zc; do
		# shellcheck disable=SC2086
		device --nthreads 3 --per_io_tasks $words
		verified
		gone
	done
}

@test "batch_io" {
	needs BATCH_IO
	size=2M
	for words in "" "--nthreads 4" -z --auto_zc "--auto_zc --rotate_auto_buf"; do
		# shellcheck disable=SC2086
		device --batch $words
		verified
		gone
	done
}

@test "device_that_grows" {
	needs UPDATE_SIZE
	device
	truncate -s 80M /mnt/below/image
	"$kublk" update_size -n 0 -s $((80 << 20))
	is "$(blockdev --getsize64 /dev/ublkb0)" $((80 << 20))
	before=$(stat_of 0 fwd_bytes)
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=write --bs=64k \
		--iodepth=8 --offset=64M --size=16M --verify=crc32c --verify_fatal=1 --verify_state_save=0
	is "$(stat_of 0 failed)" 0
	[ "$(stat_of 0 fwd_bytes)" -gt "$before" ]
	[ "$(stat_of 0 redirected)" -gt 0 ]
}

@test "server_that_is_sent_away_and_comes_again" {
	needs QUIESCE
	# what it still has then is done again by the next one
	device -r 1 -i 1
	verified
	fio --name=l --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw --bs=4k \
		--iodepth=16 --size=8M --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
		--time_based --runtime=5 --randseed="$SEED" >"$BATS_TEST_TMPDIR/load" 3>&- &
	load=$!
	for _ in 1 2 3; do
		"$kublk" quiesce -n 0
		recovered -r 1 -i 1
	done
	wait $load || { cat "$BATS_TEST_TMPDIR/load"; false; }
	verified
}

@test "only_an_idle_device_is_stopped_safely" {
	needs SAFE_STOP_DEV
	device
	exec 9</dev/ublkb0
	run "$kublk" stop -n 0 --safe
	[ "$status" -ne 0 ]
	verified
	exec 9>&-
	udevadm settle		# it reads what was written
	"$kublk" stop -n 0 --safe
	[ ! -e /dev/ublkb0 ]
}

@test "server_that_wants_to_be_asked_for_data_is_refused" {
	run "$kublk" add -t loop -n 0 -q 2 -g /mnt/below/image
	[ "$status" -ne 0 ]
	[ ! -e /dev/ublkb0 ]
}

@test "server_that_dies" {
	size=2M
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
		gone
	done
}
