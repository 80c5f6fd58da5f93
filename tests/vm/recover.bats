# The server dies, the device lives: what its program does alone goes on, the rest
# waits for a new server or fails.
# shellcheck disable=SC2154 # tools, progs, object are others'
load common
load ops
object=behave

# Device 0, whatever the words of add, without what is left of the test before.
recoverable() {
	fresh
	ublk-bpf add "$@" -n 0
	udevadm settle
	no_timeout
}

# The same with the program that tests/progs/behave.h describes.
behaving() {
	recoverable prog -o "$progs/behave.bpf.o" --ops behave_ops -f /dev/a -f /dev/b "$@"
}

# An I/O that only the server can do, in the background: $1 its number.
redirected() {
	at REDIRECT_ALL
	io /dev/ublkb0 write $((at + $1 * 4096)) 4096 pattern="$1" >"$BATS_TEST_TMPDIR/io$1" 3>&- &
	pending+=" $!"
}

# Wait until $1 I/Os wait for a server.
waiting() {
	soon stat_reaches 0 waiting "$1"
	is "$(stat_of 0 waiting)" "$1"
}

# Are $1 reads and $2 writes on their way?
in_flight() { [[ $(</sys/block/ublkb0/inflight) =~ ^\ *$1\ *$2$ ]]; }

# An I/O that is with its backing for $1 ns, in the background.
forwarding() {
	null_blk slow 64 irqmode=2 completion_nsec="$1"
	recoverable loop -f /dev/slow --recover wait
	settled /dev/ublkb0
	before=$(stat_of 0 fwd_inline)
	io /dev/ublkb0 write 1M 4096 >"$BATS_TEST_TMPDIR/io" 3>&- &
	pending=$!
	soon stat_reaches 0 fwd_inline $((before + 1))
}

recovers() { is "$(ublk-bpf recover -n 0)" /dev/ublkb0; }

# Servers die and others come while fio verifies what it writes, with "$@".
servers_die_under_load() {
	seeded
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw --bs=4k \
		--iodepth=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0 \
		--time_based --runtime=15 --randseed="$SEED" "$@" >"$BATS_TEST_TMPDIR/fio" 2>&1 3>&- &
	fio=$!
	while kill -0 $fio 2>/dev/null; do
		kill_server
		sleep 0.$((RANDOM % 10))
		recovers
		sleep 0.$((RANDOM % 10))
	done
	wait $fio || { cat "$BATS_TEST_TMPDIR/fio"; false; }
	is "$(stat_of 0 failed)" 0
}

@test "program_goes_on_without_a_server" {
	recoverable null --recover wait
	old=$(server)
	kill_server
	is "$(state)" "quiesced bpf"
	has "$(ublk-bpf list)" "its server died, 0 I/Os wait for another one: ublk-bpf recover -n 0"
	is "$(io /dev/ublkb0 write 1M 8192 stats)" "ok 8192 done=1 done_bytes=8192"
	is "$(io /dev/ublkb0 flush 0 0)" "ok 0"
	recovers
	is "$(state)" "live bpf"
	[ "$(server)" != "$old" ]
	settled /dev/ublkb0
	is "$(io /dev/ublkb0 write 1M 8192 stats)" "ok 8192 done=1 done_bytes=8192"
	ublk-bpf del -n 0
	[ ! -e /run/ublk-bpf/0.json ]
	[ ! -e /sys/fs/bpf/ublk-bpf/0 ]
}

@test "list_of_io_goes_on_without_a_server" {
	recoverable null --recover wait
	kill_server
	fio --name=l --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=write --bs=4k \
		--size=1M --iodepth=16 --iodepth_batch_submit=16 --iodepth_batch_complete_min=16
	recovers
	is "$(stat_of 0 failed)" 0
	stat_reaches 0 done 1
}

@test "program_goes_on_when_its_server_stands_still" {
	behaving
	kill -STOP "$(server)"
	redirected 0
	at COMPLETE
	is "$(io /dev/ublkb0 write "$at" 8192 stats)" "ok 8192 done=1 done_bytes=8192"
	kill -CONT "$(server)"
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io0")" "ok 4096"
}

@test "what_needs_a_server_waits_for_the_next_one" {
	behaving -d 8 --recover wait
	pending=
	kill_server
	for nr in 0 1 2 3; do
		redirected $nr
	done
	waiting 4
	# half of the tags wait: the rest is for the program
	at REDIRECT_ALL
	is "$(io /dev/ublkb0 write $((at + 40960)) 4096 stats)" "EIO failed=1"
	at COMPLETE
	is "$(io /dev/ublkb0 write "$at" 8192 stats)" "ok 8192 done=1 done_bytes=8192"
	has "$(ublk-bpf list)" "its server died, 4 I/Os wait for another one"
	recovers
	# shellcheck disable=SC2086
	wait $pending
	for nr in 0 1 2 3; do
		is "$(cat "$BATS_TEST_TMPDIR/io$nr")" "ok 4096"
		holds 4096 REDIRECT_ALL a $((nr * 4096)) $nr
	done
	is "$(stat_of 0 waiting)" 0
	do_io REDIRECT_ALL write 4096
}

@test "limit_of_what_waits_follows_the_queues_size" {
	behaving -d 8 --recover wait
	echo 4 >/sys/block/ublkb0/queue/nr_requests
	pending=
	kill_server
	redirected 0
	redirected 1
	waiting 2
	at REDIRECT_ALL
	is "$(io /dev/ublkb0 write $((at + 40960)) 4096 stats)" "EIO failed=1"
	recovers
	# shellcheck disable=SC2086
	wait $pending
}

# All of it, however much that is of the depth.
@test "io_that_the_server_had_is_done_by_the_next_one" {
	behaving -d 8 --recover wait
	pending=
	old=$(server)
	kill -STOP "$old"
	for nr in 1 2 3 4 5 6; do
		redirected $nr
	done
	soon in_flight 0 6
	kill -KILL "$old"
	without_server
	waiting 6
	recovers
	# shellcheck disable=SC2086
	wait $pending
	for nr in 1 2 3 4 5 6; do
		is "$(cat "$BATS_TEST_TMPDIR/io$nr")" "ok 4096"
	done
	holds 4096 REDIRECT_ALL a 8192 2
}

@test "what_needs_a_server_can_fail_instead" {
	behaving --recover fail
	pending=
	old=$(server)
	kill -STOP "$old"
	redirected 1
	sleep 0.2
	kill -KILL "$old"
	without_server
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io1")" EIO
	at REDIRECT_ALL
	is "$(io /dev/ublkb0 write "$at" 4096 stats)" "EIO failed=1"
	at COMPLETE
	is "$(io /dev/ublkb0 write "$at" 8192 stats)" "ok 8192 done=1 done_bytes=8192"
	recovers
	is "$(do_io REDIRECT_ALL write 4096)" "ok 4096 redirected=1 order=1323"
}

@test "device_without_a_server_is_deleted" {
	for mode in wait fail; do
		behaving --recover $mode
		pending=
		kill_server
		[ $mode = fail ] || {
			redirected 1
			waiting 1
		}
		ublk-bpf del -n 0
		wait $pending
		[ $mode = fail ] || is "$(cat "$BATS_TEST_TMPDIR/io1")" EIO
		[ ! -e /dev/ublkc0 ]
	done
}

@test "device_is_deleted_in_the_middle_of_recovery" {
	behaving --recover wait
	pending=
	kill_server
	soon recovery_starts
	redirected 1
	waiting 1
	at COMPLETE
	is "$(io /dev/ublkb0 write "$at" 8192 stats)" "ok 8192 done=1 done_bytes=8192"
	ublk-bpf del -n 0
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io1")" EIO
	[ ! -e /dev/ublkc0 ]
}

@test "device_is_deleted_while_it_forwards" {
	forwarding 4000000000
	ublk-bpf del --force -n 0
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io")" "ok 4096"
	no_null_blk slow
}

@test "device_without_a_server_is_deleted_while_it_forwards" {
	forwarding 4000000000
	kill -KILL "$(server)"
	ublk-bpf del --force -n 0
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io")" "ok 4096"
	[ ! -e /dev/ublkc0 ]
	no_null_blk slow
}

@test "new_server_may_die_at_any_step" {
	behaving --recover wait -q 2
	kill_server
	seeded
	for _ in $(seq 12); do
		ublk-bpf recover -n 0 --foreground >/dev/null 2>&1 3>&- &
		sleep 0.$((RANDOM % 10))$((RANDOM % 10))
		kill -KILL $!
		wait $! || true
		at COMPLETE
		is "$(io /dev/ublkb0 write "$at" 8192)" "ok 8192"
	done
	without_server
	recovers
	is "$(do_io REDIRECT_ALL write 4096)" "ok 4096 redirected=1 order=1323"
}

@test "backing_is_kept_for_the_next_server" {
	mkdir -p /mnt/below
	mount -t tmpfs none /mnt/below
	truncate -s 64M /mnt/below/image
	recoverable loop -f /mnt/below/image --recover wait
	is "$(io /dev/ublkb0 write 1M 8192 pattern=7)" "ok 8192"
	kill_server
	# its lock too
	run ublk-bpf add loop -n 1 -f /mnt/below/image
	[ "$status" -eq 1 ]
	has "$output" "the file is locked, so it is in use"
	mv /mnt/below/image /mnt/below/other
	recovers
	is "$(io /dev/ublkb0 read 1M 8192 pattern=7)" "ok 8192"
	is "$(ctrl detach 0)" ok
	is "$(io /dev/ublkb0 read 1M 8192 pattern=7 stats)" "ok 8192 redirected=1"
	ublk-bpf del -n 0
	umount /mnt/below
}

@test "page_cache_is_not_dropped_without_a_server" {
	behaving --recover wait
	kill_server
	is "$(ctrl set 0 slot=1 fd=9 flags=1 9<>/dev/b)" EBUSY
	is "$(ctrl set 0 slot=1 fd=9 9<>/dev/b)" ok
	recovers
	is "$(ctrl set 0 slot=1 fd=9 flags=1 9<>/dev/b)" ok
}

@test "timers_of_a_program_live_on" {
	recoverable null --delay 50ms --recover wait
	is "$(io /dev/ublkb0 write 1M 8192 stats)" "ok 8192 done=1 done_bytes=8192 held=1"
	kill_server
	is "$(io /dev/ublkb0 write 1M 8192 stats)" "ok 8192 done=1 done_bytes=8192 held=1"
	recovers
	is "$(io /dev/ublkb0 write 1M 8192 stats)" "ok 8192 done=1 done_bytes=8192 held=1"
}

@test "data_is_right_while_servers_die" {
	recoverable loop -f /dev/a -q 2 --recover wait
	servers_die_under_load --numjobs=2 --size=32M --offset_increment=32M
}

@test "data_is_right_while_servers_die_that_do_half_of_it" {
	behaving -q 2 --recover wait
	at SPLIT
	# 1 MiB, whose I/Os are forwarded, redirected, or both
	servers_die_under_load --offset=$at --size=1M
	[ "$(stat_of 0 redirected)" -gt 0 ]
}

quiesced() { [[ $(state "$1") = "quiesced "* ]]; }

@test "servers_of_a_stack_die_and_its_io_goes_on" {
	fresh
	ublk-bpf add loop -n 0 -f /dev/a --recover wait
	ublk-bpf add linear -n 1 -f /dev/ublkb0 -f /dev/b --recover wait
	ublk-bpf add stripe -n 2 -f /dev/ublkb1,length=128M -f /dev/ublkb1,start=128M --recover wait
	verify_load /dev/ublkb2 600 --size=1M
	soon stat_reaches 2 fwd_inline 100
	# shellcheck disable=SC2046
	kill -KILL $(ublk-bpf list --json | jq '.[].server_pid')
	for id in 0 1 2; do
		soon quiesced $id
	done
	soon stat_reaches 2 fwd_inline $(($(stat_of 2 fwd_inline) + 1000))
	kill -INT "$load"
	load_is_verified
	for id in 0 1 2; do
		is "$id $(stat_of $id failed)" "$id 0"
		is "$(ublk-bpf recover -n $id)" /dev/ublkb$id
	done
	is "$(io /dev/ublkb2 write 0 4096)" "ok 4096"
}

@test "program_that_is_gone_leaves_the_next_server" {
	behaving --recover wait --fallback
	kill_server
	is "$(ctrl detach 0)" ok
	pending=
	redirected 1
	waiting 1
	recovers
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io1")" "ok 4096"
	is "$(state)" "live server"
}

@test "stock_device_recovers_too" {
	recoverable null --server --recover wait
	kill_server
	io /dev/ublkb0 write 1M 8192 >"$BATS_TEST_TMPDIR/io" 3>&- &
	pending=$!
	recovers
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io")" "ok 8192"
}

@test "wrong_recoveries_are_told" {
	recoverable null --recover wait
	run ublk-bpf recover -n 0
	[ "$status" -eq 1 ]
	has "$output" "cannot recover null: its server is alive \\(process [0-9]+\\)"
	is "$(state)" "live bpf"
	run ublk-bpf recover -n 7
	[ "$status" -eq 1 ]
	has "$output" "nothing noted of a device 7"
	run ublk-bpf recover
	[ "$status" -eq 2 ]
	run ublk-bpf add null --recover perhaps
	[ "$status" -eq 2 ]
	has "$output" "wait or fail is needed"

	recoverable null
	run ublk-bpf recover -n 0
	[ "$status" -eq 1 ]
	has "$output" "not made to live without its server"

	recoverable null --recover wait
	kill_server
	echo '{}' >/run/ublk-bpf/0.json
	run ublk-bpf recover -n 0
	[ "$status" -eq 1 ]
	has "$output" "0.json is not what this ublk-bpf has written"
}

@test "recovery_flags_that_exclude_each_other_are_einval" {
	fresh
	is "$(ctrl add 0 flags=bpf,fail_io)" EINVAL
	is "$(ctrl add 0 flags=bpf,recovery,reissue,fail_io)" EINVAL
	is "$(ctrl add 0 flags=bpf,recovery,fail_io)" "ok bpf"
	is "$(ctrl del 0)" ok
}
