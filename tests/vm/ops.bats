# What a program can do to an I/O, right and wrong, and what becomes of the I/O:
# exact errors, counters, data. The program is tests/progs/behave.bpf.c.
# gate: 7.3 (what a program says means the same on all; the ways of an I/O are paths.bats')
load common
load ops
object=behave

@test "completed_io_is_done" {
	device
	is "$(do_io COMPLETE write 8192)" "ok 8192 done=1 done_bytes=8192 order=13"
	is "$(do_io COMPLETE read 512 nocheck)" "ok 512 done=1 done_bytes=512 order=13"
}

@test "short_completion_asks_again_for_the_rest" {
	device
	# 16384, 8192, 4096, 4096
	is "$(do_io COMPLETE_HALF write 32768)" "ok 32768 done=4 done_bytes=32768 order=13131313"
}

@test "short_completion_counts_whole_blocks_only" {
	device
	# 1000 bytes are one block
	is "$(do_io COMPLETE_ODD write 2048)" "ok 2048 done=4 done_bytes=2048 order=13131313"
}

@test "completion_with_0_bytes_is_eio" {
	device
	is "$(do_io COMPLETE_ZERO read 8192)" "EIO failed=1 order=13"
}

@test "completion_with_more_bytes_is_all_of_it" {
	device
	is "$(do_io COMPLETE_MORE write 8192)" "ok 8192 done=1 done_bytes=8192 order=13"
}

@test "completion_with_an_error_ends_in_it" {
	device
	is "$(do_io COMPLETE_ENOSPC write 8192)" "ENOSPC failed=1 order=13"
	is "$(do_io COMPLETE_EIO read 8192)" "EIO failed=1 order=13"
}

@test "completion_with_no_errno_is_eio" {
	device
	is "$(do_io COMPLETE_LOWEST read 8192)" "EIO failed=1 order=13"
}

@test "completion_with_eagain_is_eio" {
	device
	# io_uring would send it again, and for ever
	is "$(do_io COMPLETE_EAGAIN read 8192)" "EIO failed=1 order=13"
}

@test "second_completion_is_ignored_and_logged" {
	device
	is "$(do_io COMPLETE_TWICE write 8192)" "ok 8192 done=1 done_bytes=8192 misused=1 order=13"
	logged "completed an I/O twice"
}

@test "completed_io_is_not_redirected" {
	device
	is "$(do_io COMPLETE_REDIRECT write 8192)" "ok 8192 done=1 done_bytes=8192 misused=1 order=13"
	logged "redirected an I/O that it had completed"
}

@test "completed_io_is_done_whatever_is_returned" {
	device
	is "$(do_io COMPLETE_CONTINUE_0 write 8192)" "ok 8192 done=1 done_bytes=8192 order=13"
}

@test "completed_io_is_not_forwarded" {
	device
	is "$(do_io COMPLETE_FORWARD write 8192 pattern=1)" "ok 8192 done=1 done_bytes=8192 misused=1 order=13"
	is "$(noted COMPLETE_FORWARD 0)" -22
	holds 8192 COMPLETE_FORWARD a 0 0
	logged "forwarded an I/O that it had completed"
}

@test "io_that_nobody_finishes_is_eio_at_once" {
	device
	is "$(do_io NEVER read 8192)" "EIO failed=1 unfinished=1 misused=1 order=13"
	logged "took an I/O and never finished it"
}

@test "io_taken_in_steps_that_nobody_finishes_is_eio" {
	device
	is "$(do_io CONTINUE_512 read 2048)" "EIO failed=1 unfinished=1 misused=1 order=11113"
}

@test "continue_with_0_bytes_is_eremoteio" {
	device
	is "$(do_io CONTINUE_0 read 8192)" "EREMOTEIO failed=1 misused=1 order=13"
	logged "said CONTINUE with a wrong number of bytes"
}

@test "continue_with_unaligned_bytes_is_eremoteio" {
	device
	is "$(do_io CONTINUE_513 read 8192)" "EREMOTEIO failed=1 misused=1 order=13"
}

@test "continue_with_more_bytes_than_remain_is_enospc" {
	device
	is "$(do_io CONTINUE_MORE read 8192)" "ENOSPC failed=1 misused=1 order=13"
}

@test "continue_reads_64_bits_of_bytes" {
	device
	# 2^32 + 512 bytes; as 32 bits they would be right
	is "$(do_io CONTINUE_64BIT read 512)" "ENOSPC failed=1 misused=1 order=13"
}

@test "unknown_disposition_is_einval_and_logged" {
	device
	is "$(do_io UNKNOWN read 8192)" "EINVAL failed=1 misused=1 order=13"
	is "$(do_io NEGATIVE read 8192)" "EINVAL failed=1 misused=1 order=13"
	logged "returned an unknown disposition"
}

@test "log_of_wrong_returns_is_rate_limited" {
	device
	at NEVER
	# each fails: fio goes on, and fails in the end
	fio --name=u --filename=/dev/ublkb0 --direct=1 --rw=randread --bs=4k --offset=$at \
		--size=1M --continue_on_error=all >/dev/null || true
	[ "$(stat_of 0 misused)" -ge 256 ]
	[ "$(klog | grep -c 'never finished')" -le 20 ]
}

@test "redirected_io_is_the_servers" {
	device queue_only_ops
	is "$(do_io REDIRECT_ALL write 8192 pattern=2)" "ok 8192 redirected=1 order=13"
	holds 8192 REDIRECT_ALL a 0 2
	is "$(do_io REDIRECT_ALL read 8192 pattern=2)" "ok 8192 redirected=1 order=13"
}

@test "part_is_taken_and_the_rest_redirected" {
	device queue_only_ops
	# asked for byte 0, for 4096, and once more for the rest
	is "$(do_io FORWARD_4096 write 16384 pattern=5)" \
		"ok 16384 fwd_inline=1 fwd_bytes=4096 redirected=1 order=11313"
	# the program's backing is b, the server's a
	holds 4096 FORWARD_4096 b 0 5
	holds 12288 FORWARD_4096 b 4096 0
	holds 4096 FORWARD_4096 a 0 0
	holds 12288 FORWARD_4096 a 4096 5
	is "$(do_io FORWARD_4096 read 16384 pattern=5)" \
		"ok 16384 fwd_inline=1 fwd_bytes=4096 redirected=1 order=11313"
}

@test "redirect_with_bytes_taken_keeps_the_data_of_random_sizes" {
	device queue_only_ops
	at SPLIT
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
		--bsrange=512-32k --iodepth=8 --offset=$at \
		--size=1M --verify=crc32c --verify_fatal=1 --verify_state_save=0 >/dev/null
	[ "$(stat_of 0 redirected)" -gt 20 ]
	[ "$(stat_of 0 fwd_inline)" -gt 20 ]
}

@test "ranges_before_a_redirect_are_dropped" {
	device queue_only_ops
	is "$(do_io FORWARD_REDIRECT write 8192 pattern=16)" "ok 8192 redirected=1 order=13"
	holds 8192 FORWARD_REDIRECT b 0 0
	holds 8192 FORWARD_REDIRECT a 0 16
}

@test "both_callbacks_are_asked_in_order" {
	device
	is "$(do_io REDIRECT_ALL read 4096 nocheck)" "ok 4096 redirected=1 order=1323"
	is "$(do_io DAEMON write 4096)" "ok 4096 done=1 done_bytes=4096 order=1323"
}

@test "daemon_callback_forwards_by_the_worker" {
	device
	is "$(do_io DAEMON_FORWARD write 16384 pattern=3)" \
		"ok 16384 fwd_worker=1 fwd_bytes=16384 order=1323"
	holds 16384 DAEMON_FORWARD a 0 3
}

@test "daemon_callback_forwards_while_interrupts_end_earlier_io" {
	fresh
	# ends in a timer's interrupt, on the CPU of the submission
	null_blk irq 128 irqmode=2 completion_nsec=20000 submit_queues=2
	ublk-bpf add prog -n 0 -q 2 -o "$progs/behave.bpf.o" --ops behave_ops -f /dev/irq -f /dev/b
	udevadm settle
	at DAEMON_FORWARD
	fio --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=32 --size=512k --io_size=4M --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0 --name=one --offset=$at --name=two --offset=$((at + 524288)) >/dev/null
	[ "$(stat_of 0 fwd_worker)" -ge 2048 ]
	is "$(stat_of 0 failed)" 0
	ublk-bpf del -n 0
	no_null_blk irq
}

@test "daemon_callback_with_a_wrong_return_is_eremoteio" {
	device
	is "$(do_io DAEMON_WRONG read 8192)" "EREMOTEIO failed=1 misused=1 order=1323"
}

@test "daemon_callback_takes_a_part_and_redirects_the_rest" {
	device
	is "$(do_io DAEMON_PART write 16384 pattern=4)" \
		"ok 16384 fwd_worker=1 fwd_bytes=4096 redirected=1 order=132231323"
	holds 4096 DAEMON_PART b 0 4
	holds 12288 DAEMON_PART b 4096 0
	holds 4096 DAEMON_PART a 0 0
	holds 12288 DAEMON_PART a 4096 4
}

@test "release_cannot_complete" {
	device
	is "$(do_io RELEASE_COMPLETE write 4096)" "ok 4096 done=1 done_bytes=4096 misused=1 order=13"
}

@test "release_cannot_forward" {
	device
	is "$(do_io FORWARD_RELEASE write 4096 pattern=1)" "ok 4096 done=1 done_bytes=4096 order=13"
	is "$(noted FORWARD_RELEASE 0)" -22
	holds 4096 FORWARD_RELEASE a 0 0
}

@test "forwarded_io_goes_to_the_backing" {
	device
	is "$(do_io FORWARD write 65536 pattern=6)" \
		"ok 65536 fwd_inline=1 fwd_bytes=65536 order=13"
	holds 65536 FORWARD a 0 6
	at FORWARD
	is "$(io /dev/a write $((at + 4096)) 4096 pattern=7)" "ok 4096"
	is "$(io /dev/ublkb0 read $((at + 4096)) 4096 pattern=7)" "ok 4096"
}

@test "forwarded_io_of_many_buffers_keeps_its_data" {
	device
	# buffers that do not start on a page, in one bio and in many
	for words in "131072 iovs=64 shift=512" "98304 iovs=96 shift=1536" "524288 iovs=128" \
		"512 shift=3584"; do
		# shellcheck disable=SC2086
		has "$(do_io FORWARD write $words pattern=9)" "^ok ${words%% *} "
		holds "${words%% *}" FORWARD a 0 9
		# shellcheck disable=SC2086
		has "$(do_io FORWARD read $words pattern=9)" "^ok ${words%% *} "
	done
}

@test "forwarded_in_steps_of_512_bytes" {
	device
	is "$(do_io FORWARD_STEPS write 2048 pattern=10)" \
		"ok 2048 fwd_inline=4 fwd_bytes=2048 order=11113"
	has "$(do_io FORWARD_STEPS write 65536 pattern=10)" "ok 65536 fwd_inline=128 fwd_bytes=65536"
	holds 65536 FORWARD_STEPS a 0 10
	has "$(do_io FORWARD_STEPS read 65536 pattern=10)" "ok 65536"
}

@test "seventeenth_range_of_a_call_is_enospc" {
	device
	is "$(do_io FORWARD_PIECES write 8704 pattern=11)" \
		"ok 8704 fwd_inline=17 fwd_bytes=8704 order=113"
	is "$(noted FORWARD_PIECES 0)" -28
	holds 8704 FORWARD_PIECES a 0 11
	has "$(do_io FORWARD_PIECES read 65536 nocheck)" "ok 65536 fwd_inline=128"
}

@test "ranges_from_the_middle_of_many_bios_keep_their_data" {
	device
	at FORWARD_ODD
	# adjacent small writes of one batch are merged into requests of many bios
	fio --name=m --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=write --bs=3k \
		--iodepth=16 --iodepth_batch=16 --iodepth_batch_complete=16 --offset=$at \
		--size=960k --verify=crc32c --verify_fatal=1 --verify_state_save=0 >/dev/null
	[ "$(noted FORWARD_ODD 0)" -gt 12288 ]
	has "$(do_io FORWARD_ODD write 65536 pattern=12 iovs=21 shift=512)" "^ok 65536 fwd_inline=3"
	holds 65536 FORWARD_ODD a 0 12
	# each bio had a reference of its own, and has given it back
	is "$(ctrl set 0 slot=0 fd=9 9<>/dev/a)" ok
}

@test "two_legs_may_name_the_same_range" {
	device
	is "$(do_io FORWARD_MIRROR write 32768 pattern=13)" \
		"ok 32768 fwd_inline=2 fwd_bytes=65536 order=13"
	holds 32768 FORWARD_MIRROR a 0 13
	holds 32768 FORWARD_MIRROR b 0 13
}

@test "ranges_overlap_but_never_go_back" {
	device
	has "$(do_io FORWARD_UNORDERED write 8192 pattern=14)" "ok 8192 fwd_inline=3"
	is "$(noted FORWARD_UNORDERED 0 5)" "0 0 -22 -22 0"
	holds 8192 FORWARD_UNORDERED a 0 14
}

@test "io_with_ranges_is_not_completed" {
	device
	is "$(do_io FORWARD_COMPLETE write 8192 pattern=15)" \
		"ok 8192 fwd_inline=1 fwd_bytes=8192 misused=1 order=13"
	holds 8192 FORWARD_COMPLETE a 0 15
	logged "completed an I/O that has ranges"
}

@test "forward_refuses_ranges_outside_of_the_io" {
	device
	has "$(do_io FORWARD_ERRORS write 8192)" "^ok 8192 done=1"
	# too long; wraps in 32 bits, twice; behind a gap; none
	is "$(noted FORWARD_ERRORS 0 4)" "-22 -22 -22 -22"
	is "$(noted FORWARD_ERRORS 6)" -22
}

@test "forward_refuses_unaligned_ranges" {
	device
	has "$(do_io FORWARD_ERRORS write 8192)" "^ok 8192 done=1"
	is "$(noted FORWARD_ERRORS 4 2)" "-22 -22"
}

@test "forward_to_an_empty_slot_is_enoent" {
	device
	has "$(do_io FORWARD_ERRORS read 8192 nocheck)" "^ok 8192 done=1"
	is "$(noted FORWARD_ERRORS 7 3)" "-2 -2 -2"
}

@test "forwarded_range_past_the_backing_is_einval" {
	device
	has "$(do_io FORWARD_ERRORS read 8192 nocheck)" "^ok 8192 done=1"
	is "$(noted FORWARD_ERRORS 10 3)" "-22 -22 -22"
}

@test "forwarded_write_to_a_read_only_slot_is_ebadf" {
	device
	is "$(ctrl set 0 slot=2 fd=9 9</dev/b)" ok
	has "$(do_io FORWARD_SLOT_2 write 4096)" "^ok 4096 done=1"
	is "$(noted FORWARD_SLOT_2 0)" -9
	has "$(do_io FORWARD_SLOT_2 read 4096)" "^ok 4096 fwd_inline=1"
	blockdev --setro /dev/b		# which the kernel lets somebody open, and write
	is "$(ctrl set 0 slot=2 fd=9 9<>/dev/b)" ok
	blockdev --setrw /dev/b
	has "$(do_io FORWARD_SLOT_2 write 4096)" "^ok 4096 done=1"
	is "$(noted FORWARD_SLOT_2 0)" -9
	is "$(ctrl clear 0 slot=2)" ok
	has "$(do_io FORWARD_SLOT_2 read 4096 nocheck)" "^ok 4096 done=1"
	is "$(noted FORWARD_SLOT_2 0)" -2
}

@test "ranges_before_a_wrong_return_are_dropped" {
	device
	is "$(do_io FORWARD_WRONG write 8192 pattern=17)" "EREMOTEIO failed=1 misused=1 order=13"
	holds 8192 FORWARD_WRONG a 0 0
}

@test "error_after_bytes_were_taken_ends_the_io_when_they_are_back" {
	device
	is "$(do_io FORWARD_THEN_WRONG write 8192 pattern=18)" \
		"EREMOTEIO fwd_inline=1 fwd_bytes=4096 failed=1 misused=1 order=113"
	holds 4096 FORWARD_THEN_WRONG a 0 18
}

@test "io_that_its_ranges_do_not_cover_is_eio" {
	device
	has "$(do_io FORWARD_PART write 8192 pattern=19)" "^EIO .*failed=1 unfinished=1 misused=1"
	has "$(do_io FORWARD_PART write 4096 pattern=19)" "^ok 4096 "
}

@test "error_of_a_backing_is_the_ios" {
	device
	at FORWARD_MIRROR
	sector=$((at / 512))
	echo "+$((sector + 64))-$((sector + 71))" >/sys/kernel/config/nullb/b/badblocks
	# one of two legs
	is "$(io /dev/ublkb0 read $((at + 32768)) 8192)" EIO
	is "$(io /dev/ublkb0 read $((at + 32768 + 4096)) 4096)" "ok 4096"
	echo "-$((sector + 64))-$((sector + 71))" >/sys/kernel/config/nullb/b/badblocks
	is "$(io /dev/ublkb0 read $((at + 32768)) 8192)" "ok 8192"
}

@test "flush_and_fua_are_asked_for" {
	device
	has "$(io /dev/ublkb0 flush 0 0 stats)" "^ok 0 done=1"
	# a write that is to be stable: FUA, and the flush that the block layer adds
	is "$(do_io FORWARD write 4096 pattern=25 fua)" \
		"ok 4096 done=1 fwd_inline=1 fwd_bytes=4096 order=13"
	is "$(noted FORWARD 0)" $((1 | 1 << 13))
	holds 4096 FORWARD a 0 25
}

@test "flush_is_forwarded_to_each_backing" {
	fresh
	ublk-bpf add prog -n 0 -o "$progs/flush.bpf.o" --ops forward_ops -f /dev/a -f /dev/b
	is "$(io /dev/ublkb0 flush 0 0 stats)" "ok 0 fwd_inline=2"
	[ "$(count_of 0)" -ge 1 ]
	is "$(io /dev/ublkb0 write 16M 4096 pattern=26 fua stats)" "ok 4096 fwd_inline=3 fwd_bytes=4096"
}

@test "flush_is_redirected" {
	fresh
	ublk-bpf add prog -n 0 -o "$progs/flush.bpf.o" --ops redirect_ops -f /dev/a -f /dev/b
	is "$(io /dev/ublkb0 flush 0 0 stats)" "ok 0 redirected=1"
}

@test "forwarded_discard_that_the_backing_has_not_is_eopnotsupp" {
	apart SERVE
	# the block layer keeps this errno of a discard to itself
	is "$(do_io FORWARD_ANY discard 65536)" "ok 65536 failed=1 order=13"
	is "$(noted FORWARD_ANY 0)" -95
	# zeroes can be written everywhere
	is "$(do_io FORWARD_ANY zeroes 65536)" "ok 65536 fwd_worker=1 fwd_bytes=65536 order=13"
	is "$(do_io FORWARD_ANY write 65536)" "ok 65536 fwd_inline=1 fwd_bytes=65536 order=13"
}

@test "redirected_discard_is_the_servers" {
	fresh
	background "$tools/loader" "$progs/behave.bpf.o" 4711
	background "$tools/server" 0 SERVE
	settled /dev/ublkb0
	is "$(ctrl attach 0 prog_id=4711)" ok
	is "$(do_io REDIRECT_ALL discard 65536)" "ok 65536 redirected=1 order=1323"
	is "$(do_io REDIRECT_ALL zeroes 65536)" "ok 65536 redirected=1 order=1323"
}

@test "no_io_is_larger_than_a_program_can_answer" {
	fresh
	background "$tools/server" 0 SERVE
	is "$(cat /sys/block/ublkb0/queue/discard_max_hw_bytes)" $((1 << 30))
	is "$(cat /sys/block/ublkb0/queue/write_zeroes_max_bytes)" $((1 << 30))
}

@test "server_serves_in_the_end_what_was_eagain_before" {
	apart ONCE 0 queue_only_ops
	is "$(do_io AGAIN_REDIRECT write 8192 pattern=27)" "EIO redirected=1 rerun=1 failed=1 order=1313"
	is "$(do_io AGAIN_REDIRECT write 8192 pattern=27)" "ok 8192 redirected=1 order=13"
	holds 8192 AGAIN_REDIRECT a 0 27
}

@test "live_slot_takes_no_backing_that_is_stricter_than_its_disk" {
	fresh
	# a disk without backings lets buffers of any 4 bytes in, device mapper only
	# whole sectors
	background "$tools/server" 0 SERVE
	dmsetup create stricter --table "0 2048 zero"
	is "$(cat "/sys/block/$(basename "$(realpath /dev/mapper/stricter)")/queue/dma_alignment")" 511
	is "$(ctrl set 0 slot=0 fd=9 9<>/dev/mapper/stricter)" EINVAL
	dmsetup remove --retry stricter
	fresh
	background "$tools/server" 0 SERVE /dev/a	# aligned as every null_blk is
	null_blk c 16 blocksize=4096
	is "$(ctrl set 0 slot=1 fd=9 9<>/dev/c)" EINVAL
	no_null_blk c
	null_blk c 16
	echo 1 >/sys/block/c/queue/stable_writes
	is "$(ctrl set 0 slot=1 fd=9 9<>/dev/c)" EINVAL
	echo 0 >/sys/block/c/queue/stable_writes
	is "$(ctrl set 0 slot=1 fd=9 9<>/dev/c)" ok
	is "$(ctrl clear 0 slot=1)" ok
	no_null_blk c
	# null has no cache to flush
	fresh
	ublk-bpf add null -n 0
	is "$(cat /sys/block/ublkb0/queue/write_cache)" "write through"
	null_blk c 16 cache_size=1
	is "$(cat /sys/block/c/queue/write_cache)" "write back"
	is "$(ctrl set 0 slot=0 fd=9 9<>/dev/c)" EINVAL
	no_null_blk c
	# 6.12's is stricter in its alignment, too
	null_blk c 16
	[ "$KERNEL" != 7.3 ] || is "$(ctrl set 0 slot=0 fd=9 9<>/dev/c)" ok
	fresh
	no_null_blk c
}

@test "page_cache_of_a_backing_that_was_replaced_is_dropped" {
	apart SERVE
	at FORWARD
	is "$(io /dev/a write "$at" 8192 pattern=1)" "ok 8192"
	is "$(io /dev/b write "$at" 8192 pattern=2)" "ok 8192"
	exec 8</dev/ublkb0	# else the last close drops it
	is "$(io /dev/ublkb0 read "$at" 8192 pattern=1 buffered)" "ok 8192"
	is "$(ctrl set 0 slot=0 fd=9 9<>/dev/b)" ok
	is "$(io /dev/ublkb0 read "$at" 8192 pattern=1 buffered)" "ok 8192"
	is "$(ctrl set 0 slot=0 fd=9 flags=1 9<>/dev/b)" ok
	is "$(io /dev/ublkb0 read "$at" 8192 pattern=2 buffered)" "ok 8192"
	exec 8<&-
}

@test "cookie_is_what_attach_gave" {
	apart SERVE
	is "$(ctrl detach 0)" ok
	is "$(ctrl attach 0 prog_id=4711 cookie=1234567890123)" ok
	has "$(do_io COMPLETE read 4096 nocheck)" "^ok 4096 done=1"
	is "$(noted COMPLETE -1)" 1234567890123
	is "$(ctrl stats 0)" "ok state=1 flags=0 prog_id=4711 cookie=1234567890123 slots=3"
}

@test "eagain_of_the_server_runs_the_program_again" {
	apart AGAIN	# it commits EAGAIN to each
	is "$(do_io AGAIN_COMPLETE write 8192)" \
		"ok 8192 done=1 done_bytes=8192 redirected=1 rerun=1 order=132313"
	# what that forwards goes by the worker
	is "$(do_io AGAIN_FORWARD write 8192 pattern=20)" \
		"ok 8192 fwd_worker=1 fwd_bytes=8192 redirected=1 rerun=1 order=132313"
	holds 8192 AGAIN_FORWARD a 0 20
	is "$(do_io AGAIN_WRONG read 4096)" \
		"EREMOTEIO redirected=1 rerun=1 failed=1 misused=1 order=132313"
}

@test "second_redirect_after_eagain_is_eio" {
	apart AGAIN
	is "$(do_io AGAIN_REDIRECT read 4096)" "EIO redirected=1 rerun=1 failed=1 order=132313"
	is "$(do_io AGAIN_REDIRECT write 4096)" "EIO redirected=1 rerun=1 failed=1 order=132313"
}

@test "redirect_is_allowed_again_once_bytes_have_completed" {
	apart AGAIN 0 queue_only_ops
	is "$(do_io AGAIN_PART write 16384 pattern=21)" \
		"ok 16384 fwd_worker=2 fwd_bytes=16384 redirected=2 rerun=2 order=131131313"
	holds 16384 AGAIN_PART a 0 21
}

@test "eagain_without_a_program_is_eio" {
	apart AGAIN
	is "$(ctrl detach 0)" ok
	at COMPLETE
	is "$(io /dev/ublkb0 read $at 4096 stats)" "EIO redirected=1 rerun=1 failed=1"
	is "$(io /dev/ublkb0 write $at 4096)" EIO
}

@test "detached_device_is_the_servers" {
	apart SERVE
	is "$(ctrl detach 0)" ok
	at COMPLETE_EIO
	is "$(io /dev/ublkb0 write $at 8192 pattern=22)" "ok 8192"
	holds 8192 COMPLETE_EIO a 0 22
	is "$(ctrl attach 0 prog_id=4711)" ok
	is "$(io /dev/ublkb0 write $at 8192)" EIO
}

@test "program_is_not_told_of_io_that_another_took" {
	fresh
	dmsetup create slow --table "0 262144 linear /dev/a 0"
	background "$tools/loader" "$progs/behave.bpf.o" 4711 queue_only_ops
	background "$tools/loader" "$progs/release.bpf.o" 4712
	background "$tools/server" 0 SERVE /dev/mapper/slow
	is "$(ctrl attach 0 prog_id=4711)" ok
	dmsetup suspend --noflush --nolockfs slow
	at FORWARD
	io /dev/ublkb0 read "$at" 4096 nocheck >"$BATS_TEST_TMPDIR/io" &
	local reader=$!
	until [ "$(stat_of 0 fwd_inline)" -gt 0 ]; do sleep 0.1; done
	is "$(ctrl detach 0)" ok
	is "$(ctrl attach 0 prog_id=4712)" ok
	dmsetup resume slow
	wait $reader
	is "$(cat "$BATS_TEST_TMPDIR/io")" "ok 4096"
	is "$(count_of 1)" 0
	# its own it is told of
	io /dev/ublkb0 read 0 4096 nocheck
	is "$(count_of 1)" 1
	fresh
	dmsetup remove --retry slow
}

@test "device_whose_program_is_gone_is_eopnotsupp" {
	apart SERVE
	kill_loader
	has "$(ctrl stats 0)" state=2
	at COMPLETE
	is "$(io /dev/ublkb0 read $at 4096 stats)" "EOPNOTSUPP failed=1"
	is "$(io /dev/ublkb0 write $at 4096)" EOPNOTSUPP
	# the block layer keeps this errno of a flush to itself
	is "$(io /dev/ublkb0 flush 0 0 stats)" "ok 0 failed=1"
	is "$(ublk-bpf list --json -n 0 | jq -r '.[0].served')" nobody
	# which detach clears
	is "$(ctrl detach 0)" ok
	is "$(io /dev/ublkb0 write $at 4096 pattern=23)" "ok 4096"
	holds 4096 COMPLETE a 0 23
}

@test "device_with_fallback_whose_program_is_gone_is_the_servers" {
	apart SERVE 1
	kill_loader
	has "$(ctrl stats 0)" "state=2 flags=1"
	at COMPLETE_EIO
	is "$(io /dev/ublkb0 write $at 4096 pattern=24)" "ok 4096"
	holds 4096 COMPLETE_EIO a 0 24
	is "$(ublk-bpf list --json -n 0 | jq -r '.[0].served')" server
}

# fio on device 0 while its program goes away; $error is what it ends in.
fio_and_kill_loader() {
	at FORWARD
	fio --name=l --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw --bs=4k \
		--iodepth=32 --offset=$at --size=1M --time_based --runtime=6 \
		--output-format=json --output="$BATS_TEST_TMPDIR/fio" >/dev/null 2>&1 3>&- &
	local fio=$!
	soon stat_reaches 0 fwd_inline 101
	kill_loader
	wait "$fio" || true
	error=$(jq '.jobs[0].error' "$BATS_TEST_TMPDIR/fio")
}

@test "program_goes_away_under_load_and_every_io_ends" {
	apart SERVE
	fio_and_kill_loader
	is "-$error" -95	# EOPNOTSUPP
}

@test "with_fallback_no_io_fails_when_the_program_goes_away_under_load" {
	apart SERVE 1
	fio_and_kill_loader
	is "$error" 0
	is "$(stat_of 0 failed)" 0
	[ "$(stat_of 0 redirected)" -gt 0 ]
}

@test "registering_a_used_id_is_ebusy" {
	background "$tools/loader" "$progs/complete.bpf.o" 42
	is "$("$tools/loader" "$progs/complete.bpf.o" 42 2>/dev/null || true)" "register EBUSY"
}

@test "one_program_serves_many_devices" {
	fresh
	background "$tools/loader" "$progs/behave.bpf.o" 4711
	background "$tools/server" 0 SERVE
	background "$tools/server" 1 SERVE
	is "$(ctrl attach 0 prog_id=4711 cookie=10)" ok
	is "$(ctrl attach 1 prog_id=4711 cookie=11)" ok
	at COMPLETE_ENOSPC
	is "$(io /dev/ublkb0 read $at 4096)" ENOSPC
	is "$(noted COMPLETE_ENOSPC -1)" 10
	is "$(io /dev/ublkb1 read $at 4096)" ENOSPC
	is "$(noted COMPLETE_ENOSPC -1)" 11
	is "$(ctrl detach 0)" ok
	is "$(io /dev/ublkb0 read $at 4096)" "ok 4096"
	is "$(io /dev/ublkb1 read $at 4096)" ENOSPC
}

# One ${3:-write} of ${4:-4096} bytes at $at, then what tracepoint $1 has told of it since
# the last time, as a regular expression.
told() {
	io /dev/ublkb0 "${3:-write}" "$at" "${4:-4096}"
	has "$(cat /sys/kernel/tracing/trace)" "ublk_bpf_$1: dev 0 $2"
	echo >/sys/kernel/tracing/trace
}

@test "tracepoints_tell_what_is_counted" {
	mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
	echo >/sys/kernel/tracing/trace
	apart SERVE
	echo 1 >/sys/kernel/tracing/events/ublk_bpf/enable
	tag="queue 0 tag [0-9]+"
	at COMPLETE
	told done "$tag WRITE sector $((at >> 9)) bytes 8192 res 8192" write 8192
	at REDIRECT_ALL
	told redirect "$tag READ sector $((at >> 9)) bytes 4096 res 0" read
	at FORWARD
	told forward "$tag WRITE sector $((at >> 9)) off 0 bytes 4096 slot 0 pos [0-9]+ inline"
	at COMPLETE_ENOSPC
	told fail "$tag WRITE sector $((at >> 9)) bytes 4096 res -28"
	at COMPLETE_TWICE
	told misuse "program 4711 completed an I/O twice"
	fresh
	apart ONCE
	at AGAIN_COMPLETE
	told rerun "$tag WRITE sector $((at >> 9)) bytes 4096 res 0"
	fresh
	ublk-bpf add null -n 0 --delay 1ms
	at=1M
	told hold "$tag WRITE sector 2048 bytes 4096 res 0"
	echo 0 >/sys/kernel/tracing/events/ublk_bpf/enable
}
