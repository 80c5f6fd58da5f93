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
	for words in "--bs=4k --iodepth=1 --io_size=512k" "--bs=4k --iodepth=32" "--bs=64k --iodepth=8"; do
		# shellcheck disable=SC2086
		fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
			--iodepth_batch_submit=16 --size=8M --verify=crc32c --verify_fatal=1 \
			--verify_state_save=0 --randseed="$SEED" $words
	done
	is "$(stat_of 0 failed)" 0
	[ "$(stat_of 0 redirected)" -gt 0 ]
	[ "$(stat_of 0 fwd_bytes)" -gt 0 ]
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

@test "a_task_for_each_io" { needs PER_IO_DAEMON; device --nthreads 3 --per_io_tasks; verified; }

@test "more_tasks_than_queues" { needs PER_IO_DAEMON BATCH_IO; device --batch --nthreads 4; verified; }

@test "batch_io" { needs BATCH_IO; device --batch; verified; }

@test "server_that_wants_to_be_asked_for_data_is_refused" {
	run "$kublk" add -t loop -n 0 -q 2 -g /mnt/below/image
	[ "$status" -ne 0 ]
	[ ! -e /dev/ublkb0 ]
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
