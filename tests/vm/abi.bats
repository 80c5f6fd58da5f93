# Programs of the original proposal, with definitions of their own instead of
# our headers (tests/progs), each made a device by add prog.
# shellcheck disable=SC2154 # tools, progs, background are common.bash's
load common

io() { "$tools/io" "$@"; }
teardown() {
	local status=0
	common_teardown || status=1
	no_background
	return $status
}

@test "program_that_completes_everything" {
	is "$(ublk-bpf add prog -n 0 -o "$progs/complete.bpf.o" -s 64M)" /dev/ublkb0
	is "$(blockdev --getsize64 /dev/ublkb0)" 67108864
	fio --name=c --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw --bsrange=512-64k \
		--iodepth=16 --size=64M --io_size=4M >/dev/null
	[ "$(stat_of 0 "done")" -ge 64 ]
	is "$(stat_of 0 redirected)" 0
	is "$(stat_of 0 failed)" 0
}

@test "program_that_takes_512_bytes_and_then_the_rest" {
	ublk-bpf add prog -n 0 -o "$progs/split.bpf.o" -s 64M
	is "$(io /dev/ublkb0 write 32M 65536 stats)" "ok 65536 done=1 done_bytes=65536"
	is "$(io /dev/ublkb0 read 32M 512 nocheck)" "ok 512"
	[ "$(count_of 0)" -ge 2 ]
	[ "$(count_of 1)" -ge 1 ]
	is "$(count_of 2)" 0
	is "$(stat_of 0 failed)" 0
}

@test "program_that_redirects_every_other_tag" {
	null_blk a 64
	ublk-bpf add prog -n 0 -o "$progs/tags.bpf.o" -f /dev/a
	fio --name=t --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw --bs=4k \
		--iodepth=32 --iodepth_batch=16 --iodepth_batch_complete=16 \
		--size=64M --io_size=4M >/dev/null
	counts=$(ublk-bpf list --json -n 0 | jq -c ".[0].stats")
	echo "$counts"
	[ "$(stat_of 0 "done")" -gt 100 ]
	[ "$(stat_of 0 redirected)" -gt 10 ]
	is "$(stat_of 0 failed)" 0
}

@test "one_of_three_programs_of_an_object_is_picked" {
	ublk-bpf add prog -n 0 -o "$progs/three.bpf.o" --ops error_ops -s 64M
	is "$(io /dev/ublkb0 read 32M 4096)" ENOSPC
	ublk-bpf add prog -n 1 -o "$progs/three.bpf.o" --ops done_ops -s 64M
	is "$(io /dev/ublkb1 write 32M 4096 stats)" "ok 4096 done=1 done_bytes=4096"
	ublk-bpf add prog -n 2 -o "$progs/three.bpf.o" --ops server_ops -s 64M
	has "$(io /dev/ublkb2 read 32M 4096 stats)" "^ok 4096 redirected="
}

@test "program_is_told_of_devices_that_come_and_go" {
	background "$tools/loader" "$progs/attach.bpf.o" 99
	background "$tools/server" 3 SERVE
	is "$(count_of 0) $(count_of 1)" "0 0"
	is "$("$tools/ctrl" attach 3 prog_id=99)" ok
	is "$(count_of 0) $(count_of 1) $(count_of 2)" "1 0 3"
	is "$(io /dev/ublkb3 read 32M 4096 nocheck)" "ok 4096"
	is "$(count_of 4) $(count_of 5)" "3 0"
	is "$("$tools/ctrl" detach 3)" ok
	is "$(count_of 0) $(count_of 1) $(count_of 3)" "1 1 3"
	is "$("$tools/ctrl" attach 3 prog_id=99)" ok
	# the end of the device is a detachment too
	ublk-bpf del --force -n 3
	is "$(count_of 0) $(count_of 1)" "2 2"
}

@test "program_refuses_a_device" {
	run ublk-bpf add prog -n 7 -o "$progs/attach.bpf.o"
	is "$status" 1
	has "$output" '^ublk-bpf: cannot add prog .*attach.bpf.o: the program cannot be attached: Permission denied'
	[ ! -e /dev/ublkb7 ]
	[ ! -e /sys/fs/bpf/ublk-bpf/7 ]
	background "$tools/loader" "$progs/attach.bpf.o" 99
	background "$tools/server" 7 SERVE
	is "$("$tools/ctrl" attach 7 prog_id=99)" EACCES
	has "$("$tools/ctrl" stats 7)" state=0
}

@test "attach_dev_that_answers_no_errno_is_einval" {
	background "$tools/loader" "$progs/attach.bpf.o" 99
	is "$("$tools/ctrl" add 6 flags=bpf)" "ok bpf"
	is "$("$tools/ctrl" attach 6 prog_id=99)" EINVAL
	has "$("$tools/ctrl" stats 6)" state=0
	is "$("$tools/ctrl" del 6)" ok
}

@test "program_that_is_asked_in_the_server_only" {
	null_blk a 64
	ublk-bpf add prog -n 0 -o "$progs/daemon.bpf.o" -f /dev/a
	is "$(io /dev/ublkb0 read 8M 4096 nocheck stats)" "ok 4096 done=1 done_bytes=4096"
	[ "$(count_of 0)" -ge 1 ]
	# above 16 MiB the server serves from its backing
	has "$(io /dev/ublkb0 write 32M 8192 pattern=1 stats)" "^ok 8192.* redirected=1"
	is "$(io /dev/a read 32M 8192 pattern=1)" "ok 8192"
}

@test "eagain_runs_the_daemon_callback_when_there_is_only_that" {
	background "$tools/loader" "$progs/daemon.bpf.o" 99
	background "$tools/server" 0 AGAIN
	settled /dev/ublkb0
	is "$("$tools/ctrl" attach 0 prog_id=99)" ok
	# redirected, -EAGAIN, redirected again
	has "$(io /dev/ublkb0 read 32M 4096 stats)" "^EIO.* redirected=1 rerun=1 failed=1"
}

@test "release_is_called_once_an_io" {
	ublk-bpf add prog -n 0 -o "$progs/release.bpf.o" -s 64M
	fio --name=r --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randread --bs=4k \
		--iodepth=32 --size=64M --io_size=4M >/dev/null
	udevadm settle
	[ "$(count_of 0)" -ge 1024 ]
	is "$(count_of 0)" "$(count_of 1)"
	is "$(count_of 2)" 0
	[ "$(stat_of 0 redirected)" -gt 100 ]
}

@test "same_object_is_added_many_times" {
	for n in 0 1 2; do
		ublk-bpf add prog -n $n -o "$progs/complete.bpf.o" -s 64M
	done
	is "$(ublk-bpf list --json | jq '[.[].prog_id] | unique | length')" 3
	ublk-bpf del -n 1
	is "$(io /dev/ublkb0 write 32M 4096)" "ok 4096"
	is "$(io /dev/ublkb2 write 32M 4096)" "ok 4096"
}
