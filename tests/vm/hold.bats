# Held I/O: kept in a map, finished from elsewhere, or taken away from the program.
# The program is tests/progs/hold.bpf.c; order: see do_io.
# gate: 7.3 (what is done with a hold is the same on all; who dies on which is deaths.bats')
# shellcheck disable=SC2154 # tools, progs, background are common.bash's
load common
load ops
object=hold

# What is counted as held may not be in the map yet; what a map that is freed lets go
# of is only held again after a grace period of RCU.
act() {
	local said
	for _ in $(seq 100); do
		said=$("$tools/act" "$@")
		[ "$said" = ENOENT ] || break
		sleep 0.1
	done
	echo "$said"
}

# do_io in the background, and wait until the program holds it.
held_io() {
	at "$1"
	key=$((at >> 20))
	before=$(stat_of 0 held)
	do_io "$@" >"$BATS_TEST_TMPDIR/io" 3>&- &
	pending=$!
	soon stat_reaches 0 held $((before + 1)) || {
		echo "the I/O is not held: $(cat "$BATS_TEST_TMPDIR/io")"
		return 1
	}
}

# What HOLD_KEEP holds is in the map.
is_kept() { [ "$(noted HOLD_KEEP 1)" = 1 ]; }

ejected() { [[ $(ctrl stats 0) == *state=3* ]]; }

# What came of it: $1
it_is() {
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io")" "$1"
}

@test "timer_completes_an_io_that_is_held" {
	device
	is "$(do_io HOLD_TIMER write 8192)" "ok 8192 done=1 done_bytes=8192 held=1 order=13"
	is "$(do_io HOLD_TIMER read 8192 nocheck)" "ok 8192 done=1 done_bytes=8192 held=1 order=13"
	is "$(do_io HOLD_TIMER_ENOSPC write 8192)" "ENOSPC failed=1 held=1 order=13"
}

@test "short_completion_of_a_hold_asks_again_for_the_rest" {
	device
	is "$(do_io HOLD_TIMER_HALF write 16384)" \
		"ok 16384 done=3 done_bytes=16384 held=3 order=131313"
}

@test "another_io_completes_an_io_that_is_held" {
	device
	held_io HOLD_KEEP write 8192
	soon is_kept
	has "$(do_io HOLD_FINISH write 4096)" "^ok 4096"
	wait $pending
	# it may have its end before the one that ends it is done too
	has "$(cat "$BATS_TEST_TMPDIR/io")" \
		"^ok 8192 done=(1 done_bytes=8192|2 done_bytes=12288) held=1 order=13$"
	is "$(noted HOLD_FINISH 0)" 1
}

@test "server_completes_an_io_that_is_held" {
	device
	held_io HOLD_KEEP write 8192
	is "$(act complete $key 8192)" ok
	it_is "ok 8192 done=1 done_bytes=8192 held=1 order=13"
	held_io HOLD_KEEP write 8192
	is "$(act complete $key -5)" ok
	it_is "EIO failed=1 held=1 order=13"
	# nothing is there any more
	is "$("$tools/act" complete $key 0)" ENOENT
}

@test "completion_of_a_hold_with_wrong_bytes" {
	device
	held_io HOLD_KEEP read 8192
	is "$(act complete $key 0)" ok
	it_is "EIO failed=1 held=1 order=13"
	held_io HOLD_KEEP read 8192
	is "$(act complete $key 511)" ok
	it_is "EIO failed=1 held=1 order=13"
	held_io HOLD_KEEP write 8192
	is "$(act complete $key 1000000)" ok
	it_is "ok 8192 done=1 done_bytes=8192 held=1 order=13"
	held_io HOLD_KEEP write 8192
	is "$(act complete $key -70000)" ok
	it_is "EIO failed=1 held=1 order=13"
}

@test "errno_of_a_program_is_the_ios_when_the_block_layer_has_it" {
	device
	for words in "28 ENOSPC" "12 ENOMEM" "16 EBUSY" "19 ENODEV" "22 EINVAL" "1 EIO" "9 EIO" "11 EIO"; do
		held_io HOLD_KEEP write 8192
		is "$(act complete $key "-${words% *}")" ok
		it_is "${words#* } failed=1 held=1 order=13"
	done
}

@test "io_is_held_and_completed_in_one_call" {
	device
	is "$(do_io HOLD_NOW write 8192)" "ok 8192 done=1 done_bytes=8192 held=1 order=13"
}

@test "second_hold_is_none" {
	device
	is "$(do_io HOLD_TWICE write 8192)" "ok 8192 done=1 done_bytes=8192 misused=1 held=1 order=13"
	is "$(noted HOLD_TWICE 0)" 0
	logged "held an I/O that it cannot hold"
	is "$(do_io HOLD_COMPLETED write 8192)" "ok 8192 done=1 done_bytes=8192 misused=1 order=13"
	is "$(noted HOLD_COMPLETED 0)" 0
	is "$(do_io HOLD_IN_RELEASE write 8192)" "ok 8192 done=1 done_bytes=8192 misused=1 order=13"
	is "$(noted HOLD_IN_RELEASE 0)" 0
}

@test "io_that_is_held_is_only_finished_by_its_hold" {
	device
	is "$(do_io HOLD_BOTH write 8192)" "ok 8192 done=1 done_bytes=8192 misused=2 held=1 order=13"
	is "$(noted HOLD_BOTH 0)" -22
	logged "completed an I/O that it holds, not by the hold"
	logged "forwarded an I/O that it had completed or held"
}

@test "hold_that_is_let_go_asks_again" {
	device
	is "$(do_io HOLD_LET_GO write 8192)" "ok 8192 done=1 done_bytes=8192 held=3 order=13131313"
	held_io HOLD_KEEP write 8192
	is "$(act release $key)" ok
	is "$(act complete $key 8192)" ok
	it_is "ok 8192 done=1 done_bytes=8192 held=2 order=1313"
}

@test "map_that_is_freed_lets_go_of_its_holds" {
	device
	held_io HOLD_KEEP write 8192
	is "$(act drop $key)" ok
	is "$(act complete $key 8192)" ok
	it_is "ok 8192 done=1 done_bytes=8192 held=2 order=1313"
}

@test "second_redirect_after_eagain_is_eio_also_when_it_was_held_between" {
	apart ONCE 0 hold_only_ops
	held_io HOLD_AGAIN write 8192
	is "$(act release $key)" ok
	it_is "EIO redirected=1 rerun=1 failed=1 held=1 order=111"
}

@test "time_of_a_hold_begins_anew_when_bytes_have_completed" {
	local times=1
	[ "$KERNEL" != debug ] || times=3	# what is between the two takes seconds there
	apart SERVE 0 hold_only_ops
	echo $((12000 * times)) >/sys/block/ublkb0/queue/io_timeout
	held_io HOLD_KEEP write 16384
	sleep $((7 * times))
	is "$(act release $key)" ok
	is "$(act complete $key 8192)" ok
	sleep $((7 * times))
	is "$(act release $key)" ok
	is "$(act complete $key 8192)" ok
	it_is "ok 16384 done=2 done_bytes=16384 held=4 order=1111"
	has "$(ctrl stats 0)" state=1
}

@test "hold_can_be_let_go_and_the_io_redirected" {
	device
	is "$(do_io HOLD_LET_GO_REDIRECT write 8192 pattern=3)" "ok 8192 redirected=1 held=1 order=1323"
	holds 8192 HOLD_LET_GO_REDIRECT a 0 3
}

@test "redirect_takes_a_hold_back" {
	device
	is "$(do_io HOLD_KEEP_REDIRECT write 8192 pattern=4)" "ok 8192 redirected=1 held=1 order=1323"
	holds 8192 HOLD_KEEP_REDIRECT a 0 4
	at HOLD_KEEP_REDIRECT
	before=$(stat_of 0 stale)
	is "$(act complete $((at >> 20)) 8192)" ok
	is "$(stat_of 0 stale)" $((before + 1))
}

@test "bytes_that_only_a_hold_had_taken_are_redirected_too" {
	device
	is "$(do_io HOLD_STEP_REDIRECT write 8192 pattern=12)" \
		"ok 8192 redirected=1 held=1 order=11323"
	holds 8192 HOLD_STEP_REDIRECT a 0 12
	is "$(do_io HOLD_STEP_REDIRECT read 8192 pattern=12)" "ok 8192 redirected=1 held=1 order=11323"
}

# What was done of it does not count without the leg that went with the hold; that is back at
# once, or later.
@test "redirected_io_whose_second_leg_is_lost_is_the_servers" {
	null_blk c 128 irqmode=2 completion_nsec=10000000
	for disk in a c; do
		fresh
		ublk-bpf add prog -n 0 -o "$progs/hold.bpf.o" --ops hold_ops -f /dev/$disk -f /dev/b
		udevadm settle
		is "$(do_io HOLD_LEG_REDIRECT write 8192 pattern=14)" \
			"ok 8192 fwd_inline=1 fwd_bytes=4096 redirected=1 held=1 order=113"
		holds 8192 HOLD_LEG_REDIRECT $disk 0 14
	done
	fresh
	no_null_blk c
}

@test "io_that_a_hold_has_forwarded_and_is_redirected_is_eio" {
	device
	is "$(do_io HOLD_SENT_REDIRECT write 8192 pattern=13)" \
		"EIO fwd_worker=1 fwd_bytes=8192 failed=1 misused=1 held=1 order=13"
}

@test "wrong_return_takes_a_hold_back" {
	device
	is "$(do_io HOLD_KEEP_WRONG write 8192)" "EREMOTEIO failed=1 misused=1 held=1 order=13"
	at HOLD_KEEP_WRONG
	is "$(act complete $((at >> 20)) 8192)" ok
}

@test "completed_hold_is_not_redirected" {
	device
	is "$(do_io HOLD_NOW_REDIRECT write 8192)" \
		"ok 8192 done=1 done_bytes=8192 misused=1 held=1 order=13"
}

@test "daemon_callback_holds" {
	device
	held_io HOLD_DAEMON write 8192
	is "$(act complete $key 8192)" ok
	it_is "ok 8192 done=1 done_bytes=8192 held=1 order=1323"
}

@test "ranges_of_a_hold_are_sent_when_it_is_let_go" {
	device
	held_io HOLD_KEEP write 16384 pattern=5
	is "$(act forward-keep $key 0 8192 0 $at)" ok
	is "$(act forward $key 8192 8192 0 $((at + 8192)))" ok
	it_is "ok 16384 fwd_worker=2 fwd_bytes=16384 held=1 order=13"
	holds 16384 HOLD_KEEP a 0 5
	held_io HOLD_KEEP read 16384 pattern=5
	is "$(act forward $key 0 16384 0 $at)" ok
	it_is "ok 16384 fwd_worker=1 fwd_bytes=16384 held=1 order=13"
}

@test "ranges_of_a_hold_have_the_same_errors" {
	device
	held_io HOLD_KEEP write 8192
	is "$(act forward-keep $key 0 16384 0 0)" EINVAL
	is "$(act forward-keep $key 512 512 0 0)" EINVAL
	is "$(act forward-keep $key 0 100 0 0)" EINVAL
	is "$("$tools/act" forward-keep $key 0 512 9 0)" ENOENT	# act() would try again
	is "$(act forward-keep $key 0 512 0 $((128 << 20)))" EINVAL
	is "$(ctrl set 0 slot=2 fd=9 9</dev/b)" ok
	is "$(act forward-keep $key 0 512 2 0)" EBADF
	is "$(ctrl clear 0 slot=2)" ok
	is "$(act complete $key 8192)" ok
	it_is "ok 8192 done=1 done_bytes=8192 held=1 order=13"
}

@test "range_of_a_held_discard_that_the_backing_has_not_is_eopnotsupp" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_KEEP discard 8192
	is "$(act forward-keep $key 0 8192 0 "$at")" EOPNOTSUPP
	is "$(act complete $key 8192)" ok
	it_is "ok 8192 done=1 done_bytes=8192 held=1 order=1"
}

@test "range_of_a_hold_that_was_taken_away_is_estale" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_KEEP write 8192
	is "$(ctrl detach 0)" ok
	it_is "ok 8192 redirected=1 held=1 order=1"
	is "$(act forward-keep $key 0 8192 0 "$at")" ESTALE
	is "$(stat_of 0 stale)" 1
	is "$(act complete $key 8192)" ok
	is "$(stat_of 0 stale)" 2
}

@test "seventeenth_range_of_a_hold_is_enospc" {
	device
	held_io HOLD_KEEP write 16384 pattern=6
	for i in $(seq 0 15); do
		is "$(act forward-keep $key $((i * 512)) 512 0 $((at + i * 512)))" ok
	done
	is "$(act forward-keep $key 8192 8192 0 $((at + 8192)))" ENOSPC
	# what is not covered is asked about again, as an I/O of its own
	is "$(act release $key)" ok
	is "$(act forward $key 0 8192 0 $((at + 8192)))" ok
	it_is "ok 16384 fwd_worker=17 fwd_bytes=16384 held=2 order=1313"
	holds 16384 HOLD_KEEP a 0 6
}

@test "completion_of_a_hold_that_has_ranges_is_ignored" {
	device
	held_io HOLD_KEEP write 8192 pattern=7
	is "$(act forward-complete $key 0 8192 0 $at 4096)" ok
	it_is "ok 8192 fwd_worker=1 fwd_bytes=8192 misused=1 held=1 order=13"
	holds 8192 HOLD_KEEP a 0 7
	# an error counts
	held_io HOLD_KEEP write 8192 pattern=7
	is "$(act forward-complete $key 0 8192 0 $at -5)" ok
	it_is "EIO fwd_worker=1 fwd_bytes=8192 failed=1 held=1 order=13"
}

@test "part_is_forwarded_and_the_rest_held" {
	device
	held_io HOLD_PART write 16384 pattern=8
	is "$(act forward $key 4096 12288 0 $((at + 4096)))" ok
	it_is "ok 16384 fwd_inline=1 fwd_worker=1 fwd_bytes=16384 held=1 order=113"
	holds 16384 HOLD_PART a 0 8
	# let go: the rest is an I/O of its own
	held_io HOLD_PART write 16384 pattern=9
	is "$(act release $key)" ok
	it_is "ok 16384 fwd_inline=2 fwd_bytes=16384 held=1 order=11313"
	is "$(noted HOLD_PART 1)" 1
	holds 16384 HOLD_PART a 0 9
}

@test "flush_is_held" {
	apart SERVE 0 hold_only_ops
	is "$(io /dev/ublkb0 flush 0 0)" "ok 0"
	is "$(stat_of 0 held)" 1
	is "$(stat_of 0 "done")" 1
}

@test "chain_of_releases_does_not_fill_the_stack" {
	device
	at HOLD_CHAIN
	echo 2 >/sys/block/ublkb0/queue/nomerges
	before=$(stat_of 0 held)
	fio --name=c --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=write --bs=4k \
		--offset="$at" --size=256k --iodepth=64 --iodepth_batch_submit=64 3>&- &
	pending=$!
	soon stat_reaches 0 held $((before + 64))
	is "$(act complete 64 4096)" ok
	wait $pending
}

@test "hold_that_is_kept_for_too_long_is_etimedout_and_its_program_ejected" {
	apart SERVE 0 hold_only_ops
	echo 1000 >/sys/block/ublkb0/queue/io_timeout
	held_io HOLD_KEEP write 8192
	it_is "ETIMEDOUT failed=1 held=1 order=1"
	soon ejected
	logged "ejected: held an I/O for more than 1000 ms \(operation 1, sector 38912\)"
	has "$(ublk-bpf list -n 0)" "its program was ejected: it held an I/O for more than 1000 ms"
	has "$(ublk-bpf list -n 0 --json)" '"ejected":"held an I/O for more than 1000 ms'
	is "$(ublk-bpf list -n 0 --json | jq -r '.[0].served')" nobody
	# the late completion touches nothing
	is "$(act complete $key 8192)" ok
	is "$(stat_of 0 stale)" 1
	is "$(io /dev/ublkb0 write "$at" 4096)" EOPNOTSUPP
	# detach gives the device to the server, attach to the program, as ever
	is "$(ctrl detach 0)" ok
	is "$(io /dev/ublkb0 write "$at" 4096)" "ok 4096"
	is "$(ctrl attach 0 prog_id=4711)" ok
	is "$(io /dev/ublkb0 write 0 4096)" "ok 4096"
	has "$(ctrl stats 0)" "state=1"
}

@test "with_fallback_an_ejected_program_leaves_the_server" {
	apart SERVE 1 hold_only_ops
	echo 1000 >/sys/block/ublkb0/queue/io_timeout
	held_io HOLD_KEEP write 8192
	it_is "ETIMEDOUT failed=1 held=1 order=1"
	soon ejected
	is "$(ublk-bpf list -n 0 --json | jq -r '.[0].served')" server
	is "$(io /dev/ublkb0 write "$at" 4096 pattern=2)" "ok 4096"
	is "$(io /dev/a read "$at" 4096 pattern=2)" "ok 4096"
}

@test "other_held_io_of_an_ejected_program_is_given_back" {
	apart SERVE 1 hold_only_ops
	# until the second one is held, too
	echo "$([ "$KERNEL" = debug ] && echo 60000 || echo 10000)" >/sys/block/ublkb0/queue/io_timeout
	held_io HOLD_KEEP write 8192
	local first=$pending
	mv "$BATS_TEST_TMPDIR/io" "$BATS_TEST_TMPDIR/first"
	sleep 5		# so that its own time is not over with the other's
	held_io HOLD_PART write 8192 pattern=3
	wait $first
	has "$(cat "$BATS_TEST_TMPDIR/first")" ETIMEDOUT
	wait $pending
	has "$(cat "$BATS_TEST_TMPDIR/io")" "^ok 8192"
	holds 8192 HOLD_PART a 0 3
}

@test "letting_go_for_ever_is_etimedout_too" {
	apart SERVE 0 hold_only_ops
	echo 500 >/sys/block/ublkb0/queue/io_timeout
	at HOLD_LET_GO_EVER
	is "$(io /dev/ublkb0 write "$at" 8192)" ETIMEDOUT
	has "$(klog)" "ejected: held an I/O for more than 500 ms"
}

@test "detach_gives_held_io_to_the_server" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_KEEP write 8192 pattern=10
	is "$(ctrl detach 0)" ok
	it_is "ok 8192 redirected=1 held=1 order=1"
	holds 8192 HOLD_KEEP a 0 10
	is "$(act complete $key 8192)" ok
	is "$(stat_of 0 stale)" 1
}

@test "hold_whose_io_was_taken_away_takes_no_range" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_KEEP write 8192 pattern=14
	is "$(act forward-keep $key 0 4096 1 $at)" ok
	is "$(ctrl detach 0)" ok
	it_is "ok 8192 redirected=1 held=1 order=1"
	holds 8192 HOLD_KEEP a 0 14
	holds 8192 HOLD_KEEP b 0 0
	is "$(act forward-keep $key 4096 4096 1 $at)" ESTALE
	is "$(stat_of 0 stale)" 1
	# what it had taken is given back
	is "$(ctrl clear 0 slot=1)" ok
	is "$(act complete $key 8192)" ok
	is "$(stat_of 0 stale)" 2
}

@test "io_whose_second_leg_is_lost_with_its_hold_is_not_done" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_LEGS write 8192 pattern=15
	is "$(ctrl detach 0)" ok
	it_is "ok 8192 fwd_inline=1 fwd_bytes=8192 redirected=1 held=1 order=1"
	holds 8192 HOLD_LEGS b 0 0
}

@test "held_io_of_a_program_that_is_gone_is_eopnotsupp" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_KEEP write 8192
	kill_loader
	wait $pending
	has "$(cat "$BATS_TEST_TMPDIR/io")" "^EOPNOTSUPP"
}

@test "with_fallback_held_io_of_a_program_that_is_gone_is_the_servers" {
	apart SERVE 1 hold_only_ops
	held_io HOLD_KEEP write 8192 pattern=11
	kill_loader
	wait $pending
	has "$(cat "$BATS_TEST_TMPDIR/io")" "^ok 8192"
	holds 8192 HOLD_KEEP a 0 11
}

@test "device_with_held_io_is_deleted" {
	device
	held_io HOLD_KEEP write 8192
	timeout 20 ublk-bpf del --force -n 0
	rm -f "$BATS_FILE_TMPDIR/kind"
	wait $pending
	# asked again, and there was no hold
	has "$(cat "$BATS_TEST_TMPDIR/io")" "^ENOSPC"
}

@test "server_that_is_killed_leaves_no_held_io" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_KEEP write 8192
	kill -KILL "$background"
	wait $pending
	has "$(cat "$BATS_TEST_TMPDIR/io")" "^(EIO|ENODEV)"
	wait "$background" || true
}

@test "device_is_deleted_while_a_hold_of_it_is_kept" {
	apart SERVE 0 hold_only_ops
	held_io HOLD_KEEP write 8192
	ublk-bpf del --force -n 0
	wait $pending
	# the map has it still
	is "$(act complete $key 8192)" ok
	ublk-bpf list
}
