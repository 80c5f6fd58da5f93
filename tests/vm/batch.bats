# A server in 7.x's batch mode beside a program: every other tag is redirected.
# kernels: 7.3
# shellcheck disable=SC2154 # tools and progs are common.bash's
load common

teardown() {
	no_background
	common_teardown
}

@test "batch_server_gets_what_the_program_redirects" {
	background $tools/loader $progs/tags.bpf.o 77
	background $tools/batch 0 77
	udevadm settle
	fio --name=b --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randread --bs=4k \
		--size=32M --iodepth=16 --iodepth_batch_submit=8 --io_size=4M
	fio --name=b --filename=/dev/ublkb0 --direct=1 --ioengine=psync --rw=randwrite --bs=4k \
		--size=1M
	[ "$(stat_of 0 redirected)" -gt 10 ]
	[ "$(stat_of 0 "done")" -gt 100 ]
	[ "$(stat_of 0 failed)" = 0 ]
	# -EAGAIN of the server: the program is asked again, and redirects again
	run fio --name=b --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=read --bs=4k \
		--offset=40M --size=1M --iodepth=16
	[ "$status" -ne 0 ]
	[ "$(stat_of 0 rerun)" -gt 0 ]
}

@test "batch_server_copies_its_data_by_the_char_device" {
	null_blk a 64
	background $tools/loader $progs/half.bpf.o 77
	background $tools/batch 0 77 /dev/a
	udevadm settle
	seeded
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--size=8M --iodepth=32 --iodepth_batch_submit=16 --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0 --randseed="$SEED"
	[ "$(stat_of 0 failed)" = 0 ]
	stat_reaches 0 redirected 100
	stat_reaches 0 fwd_inline 100
}

@test "batch_server_runs_a_daemon_program" {
	background $tools/loader $progs/daemon.bpf.o 78
	background $tools/batch 0 78
	udevadm settle
	dd if=/dev/ublkb0 of=/dev/null bs=64k count=32 iflag=direct
	[ "$(stat_of 0 "done")" -gt 0 ]
}
