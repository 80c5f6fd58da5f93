# io_done is told of each range that is back, and says what becomes of it; the payload.
# The program is tests/progs/done.bpf.c; order: see do_io, 4 is io_done.
# shellcheck disable=SC2154 # tools, progs, background are others'
# gate: 7.3 (what differs between kernels is in other files)
load common
load ops
object=done

# Slot 2: reads and writes fail there.
setup() {
	common_setup
	[ -b /dev/mapper/bad ] || dmsetup create bad --table "0 262144 error"
}

# Over /dev/a, /dev/b and what fails.
served() {
	fresh
	background "$tools/loader" "$progs/done.bpf.o" 4711
	background "$tools/server" 0 "${1:-SERVE}" /dev/a /dev/b /dev/mapper/bad
	udevadm settle
	no_timeout
	is "$(ctrl attach 0 prog_id=4711)" ok
}

@test "each_range_is_told_of" {
	served
	is "$(do_io DONE_AS_IT_IS write 8192 pattern=1)" "ok 8192 fwd_inline=1 fwd_bytes=8192 order=14"
	is "$(noted DONE_AS_IT_IS 0 4)" "0 0 8192 8192"
	is "$(do_io DONE_TWO_RANGES write 16384)" "ok 16384 fwd_inline=2 fwd_bytes=16384 order=144"
	is "$(noted DONE_TWO_RANGES 0)" 2
}

@test "error_of_io_done_is_the_ios" {
	served
	is "$(do_io DONE_ERROR write 4096)" "ENOSPC fwd_inline=1 fwd_bytes=4096 failed=1 order=14"
}

@test "error_of_a_range_can_be_ignored" {
	served
	is "$(do_io DONE_IGNORE write 4096)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
}

@test "range_can_be_sent_again_elsewhere" {
	served
	is "$(do_io DONE_RETRY write 4096 pattern=2)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=144"
	holds 4096 DONE_RETRY b 0 2
	holds 4096 DONE_RETRY a 0 0
	is "$(do_io DONE_RETRY read 4096 pattern=2)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=144"
}

@test "retry_without_a_range_is_misuse" {
	served
	is "$(do_io DONE_RETRY_NOTHING write 4096)" \
		"EIO fwd_inline=1 fwd_bytes=4096 failed=1 misused=1 order=14"
	logged "said RETRY too often, or without a range"
}

@test "retries_have_an_end" {
	served
	has "$(do_io DONE_RETRY_EVER write 4096)" "^EIO .*failed=1 misused=1"
	is "$(noted DONE_RETRY_EVER 0)" 65
}

@test "range_that_is_not_asked_for_is_dropped" {
	served
	is "$(do_io DONE_RANGE_AND_0 write 4096 pattern=3)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	holds 4096 DONE_RANGE_AND_0 b 0 0
	is "$(do_io DONE_WRONG_RANGES write 4096)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	# EINVAL, EINVAL, ENOENT, ENOSPC
	is "$(noted DONE_WRONG_RANGES 0 4)" "-22 -22 -2 -28"
}

@test "io_done_sends_an_io_to_the_server" {
	served
	is "$(do_io DONE_SERVER write 4096 pattern=4)" \
		"ok 4096 fwd_inline=1 fwd_bytes=4096 redirected=1 order=14"
	holds 4096 DONE_SERVER a 0 4
}

@test "io_done_sends_an_io_to_the_server_8_times_at_most" {
	served AGAIN
	has "$(do_io DONE_SERVER_EVER write 4096)" "^EIO .*redirected=8 rerun=8 failed=1 misused=1"
	logged "sent an I/O to the server too often"
}

@test "unknown_answer_of_io_done_is_eio" {
	served
	is "$(do_io DONE_UNKNOWN write 4096)" \
		"EIO fwd_inline=1 fwd_bytes=4096 failed=1 misused=1 order=14"
	logged "returned an unknown answer from io_done"
}

@test "io_done_neither_completes_nor_holds" {
	served
	is "$(do_io DONE_COMPLETE write 4096)" "ok 4096 fwd_inline=1 fwd_bytes=4096 misused=1 order=14"
	is "$(do_io DONE_HOLD write 4096)" "ok 4096 fwd_inline=1 fwd_bytes=4096 misused=1 order=14"
	is "$(noted DONE_HOLD 0)" 0
}

@test "payload_of_a_read_is_filled_in" {
	served
	at DONE_FILL
	is "$(io /dev/a write "$at" 4096 pattern=5)" "ok 4096"
	is "$(do_io DONE_FILL read 4096 nocheck)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	is "$(noted DONE_FILL 0)" 0
	is "$(dd if=/dev/ublkb0 bs=4k count=1 skip=$((at / 4096)) iflag=direct status=none | od -An -tx1 -N 4 -j 508)" \
		" 5a 5a 5a 5a"
}

@test "payload_has_two_directions" {
	served
	at DONE_LOOK
	is "$(do_io DONE_LOOK write 4096 pattern=6)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	# EPERM, EINVAL, EINVAL
	is "$(noted DONE_LOOK 0 4)" "$((6 << 48 | at)) -1 -22 -22"
	is "$(do_io DONE_LOOK read 4096 pattern=6)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	is "$(noted DONE_LOOK 0 4)" "$((6 << 48 | at)) 0 -22 -22"
}

@test "payload_of_a_read_comes_with_the_range" {
	served
	is "$(do_io DONE_EARLY read 4096)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	# EPERM: nothing is there yet; what is written there the range overwrites
	is "$(noted DONE_EARLY 0 2)" "-1 0"
	is "$(do_io DONE_EARLY write 4096 pattern=7)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	is "$(noted DONE_EARLY 0 2)" "0 -1"
}

@test "payload_is_gone_in_release" {
	served
	is "$(do_io DONE_RELEASE write 4096)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=143"
	is "$(noted DONE_RELEASE 0)" -22	# EINVAL
}

@test "scratch_is_an_ios_own" {
	served
	is "$(do_io DONE_SCRATCH write 4096)" "ok 4096 fwd_inline=1 fwd_bytes=4096 order=14"
	# 65 bytes: NULL
	is "$(noted DONE_SCRATCH 0 2)" "42 0"
	# several at once, and tags that had others
	at DONE_SCRATCH
	fio --name=s --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randread --bs=4k \
		--iodepth=32 --iodepth_batch_submit=16 --offset="$at" --size=1M --loops=4
	is "$(noted DONE_SCRATCH 0 4)" "42 0 0 0"
}

@test "file_backing_is_told_of_too" {
	served
	mkdir -p /mnt/below
	mount -t tmpfs none /mnt/below
	truncate -s 128M /mnt/below/image
	is "$(ctrl set 0 slot=0 fd=9 9<>/mnt/below/image)" ok
	has "$(do_io DONE_AS_IT_IS write 8192 pattern=1)" "^ok 8192 .*order=14"
	has "$(do_io DONE_ERROR write 4096)" "^ENOSPC .*order=14"
	has "$(do_io DONE_SERVER write 4096 pattern=4)" "^ok 4096 .*redirected=1"
	fresh
	umount /mnt/below
}
