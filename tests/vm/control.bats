# The control commands of include/uapi/linux/ublk_bpf.h: every documented errno.
# One device, of a server without a program, for all of a test.
# shellcheck disable=SC2154 # tools, progs, background are common.bash's
# gate: 7.3 (nothing here differs between kernels)
load common

ctrl() { "$tools/ctrl" "$@"; }
teardown() {
	local status=0
	common_teardown || status=1
	no_background
	return $status
}

@test "add_dev_reports_the_flag" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl del 0)" ok
	is "$(ctrl add 0 flags=user_copy)" "ok stock"
	is "$(ctrl del 0)" ok
	is "$(ctrl add 0 flags=bpf,user_copy)" "ok bpf"
	is "$(ctrl del 0)" ok
	has "$(ublk-bpf features)" "BPF|bpf"
}

@test "add_dev_refuses_what_no_program_can_serve" {
	is "$(ctrl add 0 flags=bpf,zoned,user_copy)" EINVAL
	is "$(ctrl add 0 flags=bpf,need_get_data)" EINVAL
	[ "$KERNEL" != 7.3 ] || is "$(ctrl add 0 flags=bpf,integrity,user_copy)" EINVAL	# which knows it
	# user copy has no use for that flag: the driver clears it first
	is "$(ctrl add 0 flags=bpf,need_get_data,user_copy)" "ok bpf"
	is "$(ctrl del 0)" ok
	# root is never unprivileged: the driver clears that flag first
	is "$(capsh --drop=cap_sys_admin -- -c "$tools/ctrl add 0 flags=bpf,unprivileged")" EINVAL
	is "$(capsh --drop=cap_sys_admin -- -c "$tools/ctrl add 0 flags=bpf")" EPERM
	for flags in need_get_data integrity,user_copy; do
		is "$(ctrl add 0 flags=$flags)" "ok stock"
		is "$(ctrl del 0)" ok
	done
}

@test "commands_for_a_missing_device_are_enodev" {
	for command in attach detach set clear get stats size; do
		is "$command $(ctrl $command 0)" "$command ENODEV"
	done
}

@test "commands_for_a_stock_device_are_eopnotsupp" {
	ublk-bpf add null -n 0 --server
	for command in attach detach set clear get stats size; do
		is "$command $(ctrl $command 0)" "$command EOPNOTSUPP"
	done
}

@test "unknown_command_is_eopnotsupp" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl unknown 0)" EOPNOTSUPP
	is "$(ctrl del 0)" ok
}

@test "wrong_headers_are_einval" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	for command in attach detach set clear get stats size; do
		is "$command $(ctrl $command 0 len=8)" "$command EINVAL"
		is "$command $(ctrl $command 0 len=4095)" "$command EINVAL"
		is "$command $(ctrl $command 0 queue=0)" "$command EINVAL"
		is "$command $(ctrl $command 0 reserved=1)" "$command EINVAL"
	done
	is "$(ctrl del 0)" ok
}

@test "wrong_addresses_are_efault" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	for command in attach detach set clear get stats size; do
		is "$command $(ctrl $command 0 addr=null)" "$command EFAULT"
		is "$command $(ctrl $command 0 addr=kernel)" "$command EFAULT"
	done
	is "$(ctrl stats 0 addr=readonly)" EFAULT
	null_blk a 16
	is "$(ctrl set 0 slot=1 fd=9 9</dev/a)" ok
	is "$(ctrl get 0 slot=1 addr=readonly)" EFAULT
	is "$(ctrl del 0)" ok
}

@test "unknown_flags_are_einval" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl attach 0 prog_id=1 flags=2)" EINVAL
	is "$(ctrl attach 0 prog_id=1 flags=0x80000000)" EINVAL
	null_blk a 16
	for command in set clear get; do
		is "$command $(ctrl $command 0 flags=4 9</dev/a)" "$command EINVAL"
		is "$command $(ctrl $command 0 pad=1 9</dev/a)" "$command EINVAL"
	done
	is "$(ctrl set 0 fd=9 flags=2 9</dev/a)" EINVAL	# no block device is buffered
	is "$(ctrl clear 0 flags=1)" EINVAL
	is "$(ctrl get 0 flags=1)" EINVAL
	is "$(ctrl clear 0 fd=1)" EINVAL
	is "$(ctrl get 0 fd=1)" EINVAL
	is "$(ctrl del 0)" ok
}

@test "attach_to_an_unknown_program_is_enoent" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl attach 0 prog_id=12345)" ENOENT
	has "$(ctrl stats 0)" state=0
	is "$(ctrl del 0)" ok
}

@test "second_attach_is_ebusy" {
	background "$tools/loader" "$progs/complete.bpf.o" 42
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl attach 0 prog_id=42 cookie=7 flags=1)" ok
	is "$(ctrl stats 0)" "ok state=1 flags=1 prog_id=42 cookie=7 slots=0"
	is "$(ctrl attach 0 prog_id=42)" EBUSY
	is "$(ctrl attach 0 prog_id=43)" EBUSY
	is "$(ctrl detach 0)" ok
	is "$(ctrl attach 0 prog_id=42)" ok
	is "$(ctrl del 0)" ok
}

@test "detach_without_a_program_is_enoent" {
	background "$tools/loader" "$progs/complete.bpf.o" 42
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl detach 0)" ENOENT
	is "$(ctrl attach 0 prog_id=42)" ok
	is "$(ctrl detach 0)" ok
	is "$(ctrl detach 0)" ENOENT
	is "$(ctrl del 0)" ok
}

@test "commands_without_privilege_are_eperm" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	for command in attach detach set clear get stats size; do
		is "$command $(capsh --drop=cap_sys_admin -- -c "$tools/ctrl $command 0")" "$command EPERM"
	done
	is "$(ctrl del 0)" ok
}

@test "slot_out_of_range_is_einval" {
	null_blk a 16
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	for command in set clear get; do
		[ $command != set ] || fd=fd=9
		is "$command $(ctrl $command 0 slot=32 ${fd:-} 9</dev/a)" "$command EINVAL"
		is "$command $(ctrl $command 0 slot=0xffffffff ${fd:-} 9</dev/a)" "$command EINVAL"
		fd=
	done
	is "$(ctrl set 0 slot=31 fd=9 9</dev/a)" ok
	has "$(ctrl stats 0)" slots=80000000
	is "$(ctrl del 0)" ok
}

@test "clear_and_get_of_an_empty_slot_are_enoent" {
	null_blk a 16
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl clear 0 slot=3)" ENOENT
	is "$(ctrl get 0 slot=3)" ENOENT
	is "$(ctrl set 0 slot=3 fd=9 9</dev/a)" ok
	has "$(ctrl stats 0)" slots=8
	is "$(ctrl clear 0 slot=3)" ok
	is "$(ctrl clear 0 slot=3)" ENOENT
	is "$(ctrl get 0 slot=3)" ENOENT
	is "$(ctrl del 0)" ok
}

@test "slot_that_cannot_be_a_backing_is_refused" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl set 0 slot=0 fd=99)" EBADF
	is "$(ctrl set 0 slot=0 fd=-1)" EBADF
	is "$(ctrl set 0 slot=0 fd=9 9</tmp)" EINVAL
	is "$(ctrl set 0 slot=0 fd=9 9</dev/null)" EINVAL
	is "$(true | ctrl set 0 slot=0 fd=0)" EINVAL
	truncate -s 1M "$BATS_TEST_TMPDIR/image"
	is "$(ctrl set 0 slot=0 fd=9 9>>"$BATS_TEST_TMPDIR/image")" EINVAL
	# no direct I/O there
	is "$(ctrl set 0 slot=0 fd=9 9</proc/version)" EINVAL
	has "$(ctrl stats 0)" slots=0
	is "$(ctrl del 0)" ok
}

@test "device_as_its_own_backing_is_eloop" {
	ublk-bpf add null -n 0 -s 16M
	is "$(ctrl set 0 slot=0 fd=9 9</dev/ublkb0)" ELOOP
	is "$(ctrl stats 0 | grep -o 'slots=.*')" slots=0
}

@test "backings_in_a_circle_are_eloop" {
	for id in 0 1 2; do
		background "$tools/server" $id SERVE
	done
	is "$(ctrl set 0 slot=0 fd=9 9</dev/ublkb1)" ok
	is "$(ctrl set 1 slot=3 fd=9 9</dev/ublkb2)" ok
	is "$(ctrl set 2 slot=0 fd=9 9</dev/ublkb0)" ELOOP
	is "$(ctrl set 2 slot=0 fd=9 9</dev/ublkb1)" ELOOP
	is "$(ctrl clear 1 slot=3)" ok
	is "$(ctrl set 2 slot=0 fd=9 9</dev/ublkb0)" ok
	is "$(ctrl clear 2 slot=0)" ok
	is "$(ctrl clear 0 slot=0)" ok
}

@test "stats_take_what_they_have_filled" {
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	has "$(ctrl stats 0 twice=1)" "^ok"
	is "$(ctrl del 0)" ok
}

@test "get_gives_the_very_open_file" {
	null_blk a 16
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	exec 8</dev/a 9</dev/a
	is "$(ctrl set 0 slot=0 fd=9)" ok
	is "$(ctrl get 0 slot=0 same=9)" "ok same"
	is "$(ctrl get 0 slot=0 same=8)" "ok other"
	is "$(ctrl set 0 slot=0 fd=8)" ok
	is "$(ctrl get 0 slot=0 same=8)" "ok same"
	exec 8<&- 9<&-
	# the driver keeps it open
	is "$(ctrl get 0 slot=0)" ok
	is "$(ctrl del 0)" ok
}

@test "get_without_a_free_descriptor_is_emfile" {
	null_blk a 16
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl set 0 slot=0 fd=9 9</dev/a)" ok
	# as many descriptors as the command itself needs
	for files in $(seq 4 64); do
		[[ $(ulimit -n "$files"; ctrl stats 0 2>&1) != ok* ]] || break
	done
	is "$(ulimit -n "$files"; ctrl get 0 slot=0)" EMFILE
	is "$(ulimit -n $((files + 1)); ctrl get 0 slot=0)" ok
	is "$(ctrl del 0)" ok
}

slot_was_set() { grep -q " slot_was_set:.* was=$1\$" /sys/kernel/tracing/trace; }

@test "command_that_waits_for_an_old_backing_can_be_killed" {
	null_blk a 64
	null_blk b 64
	dmsetup create stuck --table "0 131072 linear /dev/a 0"
	ublk-bpf add loop -n 0 -f /dev/mapper/stuck
	settled /dev/ublkb0
	before=$(stat_of 0 fwd_inline)
	dmsetup suspend --noflush --nolockfs stuck
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct &
	reader=$!
	soon stat_reaches 0 fwd_inline $((before + 1))
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 &
	buffered=$!
	soon stat_reaches 0 fwd_inline $((before + 2))
	# who was killed is not there to see it
	mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
	echo 'r:slot_was_set ublk_bpf_set_slot was=$retval:s32' >/sys/kernel/tracing/kprobe_events
	echo 1 >/sys/kernel/tracing/events/kprobes/slot_was_set/enable
	exec 8<>/dev/b
	run timeout -s KILL 3 "$tools/ctrl" set 0 slot=0 fd=8
	is "$status" 137
	soon slot_was_set -4	# EINTR
	# the slot is changed all the same
	is "$(ctrl get 0 slot=0 same=8)" "ok same"
	# nor for a page that is being read
	run timeout -s KILL 3 "$tools/ctrl" set 0 slot=0 fd=8 flags=1
	is "$status" 137
	exec 8<&-
	run timeout -s KILL 3 "$tools/ctrl" clear 0 slot=0
	is "$status" 137
	is "$(ctrl get 0 slot=0)" ENOENT
	kill -0 $reader
	dmsetup resume stuck
	wait $reader
	wait $buffered
	ublk-bpf del -n 0
	dmsetup remove --retry stuck
	echo 0 >/sys/kernel/tracing/events/kprobes/slot_was_set/enable
	echo >/sys/kernel/tracing/kprobe_events
}

@test "lock_lives_as_long_as_the_slot" {
	truncate -s 1M /tmp/image
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	exec 9<>/tmp/image
	flock -n 9
	is "$(ctrl set 0 slot=0 fd=9)" ok
	exec 9<&-
	run flock -n /tmp/image true
	is "$status" 1
	is "$(ctrl clear 0 slot=0)" ok
	flock -n /tmp/image true
	is "$(ctrl del 0)" ok
	rm /tmp/image
}

@test "slots_are_given_back_with_the_device" {
	null_blk a 16
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is "$(ctrl set 0 slot=0 fd=9 9<>/dev/a)" ok
	is "$(ctrl del 0)" ok
	# its last user is gone: it can be claimed
	for _ in $(seq 20); do
		no_null_blk a && break
		sleep 0.1
	done
	[ ! -e /dev/a ]
}
