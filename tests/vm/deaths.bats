# Everything dies at any moment, beside a device whose data is verified all the time.
# FULL=1 has hundreds of rounds instead of some; SEED=N repeats a run.
# shellcheck disable=SC2154 # tools, progs, background, object are others'
load common
load ops
object=behave

setup() {
	common_setup
	seeded
	[ -b /dev/ublkb9 ] || ublk-bpf add loop -n 9 -f /dev/b -q 2
	rm -f "$BATS_FILE_TMPDIR/stop" "$BATS_FILE_TMPDIR/wrong"
	bystander >"$BATS_FILE_TMPDIR/bystander" 2>&1 3>&- &
	bystander=$!
}

teardown() {
	local status=0 id
	touch "$BATS_FILE_TMPDIR/stop"
	wait $bystander || { cat "$BATS_FILE_TMPDIR/bystander"; status=1; }
	[ "$(stat_of 9 failed)" = 0 ] || status=1
	pkill -KILL -f 'tools/server 0' || true
	for id in 0 1 2; do
		[ ! -e /dev/ublkc$id ] || ublk-bpf del --force -n $id || status=1
	done
	# shellcheck disable=SC2086
	[ -z "$all_background" ] || kill -KILL $all_background 2>/dev/null || true
	log_is_clean || status=1
	return $status
}

bystander() {
	while [ ! -e "$BATS_FILE_TMPDIR/stop" ]; do
		fio --name=v --filename=/dev/ublkb9 --direct=1 --ioengine=io_uring --rw=randwrite \
			--bs=16k --iodepth=8 --size=32M --io_size=4M --verify=crc32c \
			--verify_fatal=1 --verify_state_save=0 --randseed=$RANDOM || return
	done
}

# $1, or with FULL=1 $2, of which the debug kernel has time for a quarter
rounds() {
	local many=$2
	[ "$KERNEL" != debug ] || many=$(($2 / 4))
	seq "$([ -n "${FULL:-}" ] && echo $many || echo "$1")"
}

# A time below $1 seconds.
moment() { sleep "$(awk -v r=$RANDOM -v max="$1" 'BEGIN { printf "%.3f", r / 32768 * max }')"; }

# Load on /dev/ublkb0 from $1 MiB, $2 of them, that goes on after errors and must
# end by itself.
start_io() {
	fio --name=l --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw \
		--bsrange=512-64k --blockalign=512 --iodepth=16 --offset="$1M" --size="$2M" \
		--allow_file_create=0 --continue_on_error=all --time_based --runtime="${3:-1}" \
		--randseed=$RANDOM "${@:4}" >"$BATS_TEST_TMPDIR/load" 2>&1 3>&- &
	load=$!
}

# Errors are the I/Os', not fio's: 0 or the first one's number.
io_ends() {
	local i
	for i in $(seq 600); do
		kill -0 $load 2>/dev/null || break
		sleep 0.1
	done
	if kill -0 $load 2>/dev/null; then
		echo "I/O does not end"
		kill -KILL $load
		return 1
	fi
	wait $load || true
}

# No trace of device 0.
nothing_is_left() {
	local i
	for i in $(seq 100); do
		[ -e /dev/ublkc0 ] || [ -e /dev/ublkb0 ] || break
		sleep 0.05
	done
	[ ! -e /dev/ublkc0 ]
	[ ! -e /dev/ublkb0 ]
	[ ! -e /run/ublk-bpf/0.json ]
	[ ! -e /sys/fs/bpf/ublk-bpf/0 ]
}

# What BPF has: programs, maps and links.
bpf_objects() {
	bpftool prog list --json | jq length
	bpftool map list --json | jq length
	ls /sys/fs/bpf/ublk-bpf
}

@test "loader_dies_or_lets_go_of_its_program" {
	background "$tools/server" 0 SERVE /dev/a
	for round in $(rounds 3 200); do
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		loader=$background
		is "$(ctrl attach 0 prog_id=4711 flags=$((round % 2)))" ok
		start_io 40 4
		moment 1
		case $((RANDOM % 3)) in
		0) kill -KILL "$loader" ;;
		1) kill -TERM "$loader" ;;
		2) is "$(ctrl detach 0)" ok; kill -KILL "$loader" ;;
		esac
		io_ends
		wait "$loader" || true
		case $(ctrl stats 0) in
		*state=2*) is "$(ctrl detach 0)" ok ;;
		*state=1*) echo "it is still registered"; false ;;
		esac
		# with a fallback nobody is told that there is no program
		[ $((round % 2)) = 0 ] || is "$(grep -c "err=95" "$BATS_TEST_TMPDIR/load")" 0
	done
}

@test "server_is_killed_at_any_step" {
	for round in $(rounds 5 300); do
		mode=$((RANDOM % 3))
		words=()
		[ $mode = 0 ] || words=(--recover "$([ $mode = 1 ] && echo wait || echo fail)")
		ublk-bpf add prog -n 0 -o "$progs/behave.bpf.o" --ops behave_ops -f /dev/a -q 2 \
			--foreground "${words[@]}" >"$BATS_TEST_TMPDIR/add" 2>&1 3>&- &
		server=$!
		moment 2.5
		load=
		[ ! -b /dev/ublkb0 ] || start_io 16 100
		[ $((RANDOM % 2)) = 0 ] || moment 0.5
		del=
		if [ $((RANDOM % 3)) = 0 ]; then
			ublk-bpf del --force -n 0 >/dev/null 2>&1 3>&- &
			del=$!
			moment 0.3
		fi
		kill -KILL $server 2>/dev/null || true
		wait $server || true
		[ -z "$del" ] || wait $del || true
		[ ! -e /dev/ublkc0 ] && [ ! -e /run/ublk-bpf/0.json ] || ublk-bpf del --force -n 0
		rm -rf /run/ublk-bpf/0.json /sys/fs/bpf/ublk-bpf/0
		[ -z "$load" ] || io_ends
		nothing_is_left
	done
}

@test "server_that_forks_is_killed" {
	for round in $(rounds 1 20); do
		background "$tools/server" 0 SERVE /dev/a
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		is "$(ctrl attach 0 prog_id=4711)" ok
		kill -USR1 "$(pgrep -f 'tools/server 0')"
		moment 0.5
		start_io 16 100
		moment 1
		kill -KILL "$(pgrep -o -f 'tools/server 0')"
		# the child has it open all the same: the number is free after that
		run ublk-bpf del -n 0 --force
		io_ends
		[ ! -e /dev/ublkb0 ]
		[ "$status" -eq 0 ] || has "$output" "somebody still has it open"
		pkill -KILL -f 'tools/server 0' || true
		kill -KILL "$background"
		nothing_is_left
	done
}

@test "server_that_execs_ends_its_device" {
	for round in $(rounds 1 20); do
		background "$tools/server" 0 SERVE /dev/a
		server=$background
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		is "$(ctrl attach 0 prog_id=4711)" ok
		start_io 16 100
		moment 1
		kill -USR2 "$server"
		io_ends
		is "$(cat /proc/"$server"/comm)" sleep
		ublk-bpf del -n 0 --force
		kill -KILL "$server" "$background"
		nothing_is_left
	done
}

@test "server_in_a_mount_namespace_of_its_own_is_killed" {
	for round in $(rounds 2 20); do
		unshare -m --propagation private "$(command -v ublk-bpf)" add loop -n 0 -f /dev/a \
			--foreground >"$BATS_TEST_TMPDIR/add" 2>&1 3>&- &
		server=$!
		for _ in $(seq 200); do
			[ ! -s "$BATS_TEST_TMPDIR/add" ] || break
			sleep 0.05
		done
		# dirty pages: the last process of the namespace must not wait for them
		dd if=/dev/zero of=/dev/ublkb0 bs=1M count=16
		kill -KILL $server
		wait $server || true
		ublk-bpf del -n 0 --force
		nothing_is_left
	done
}

@test "device_is_deleted_while_its_partitions_are_read" {
	for end in del kill; do
		ublk-bpf add prog -n 0 -o "$progs/hold_all.bpf.o" >"$BATS_TEST_TMPDIR/add" 2>&1 3>&- &
		add=$!
		soon stat_reaches 0 held 1
		start=$SECONDS
		[ $end = del ] || pkill -KILL -f "ublk-bpf add prog -n 0"
		ublk-bpf del -n 0 --force
		wait $add || true
		[ $((SECONDS - start)) -lt 20 ]
		[ ! -e /dev/ublkc0 ]
	done
}

@test "device_with_dirty_pages_is_deleted" {
	for round in $(rounds 2 50); do
		ublk-bpf add loop -n 0 -f /dev/a
		dd if=/dev/zero of=/dev/ublkb0 bs=1M count=32 2>/dev/null 3>&- &
		moment 0.5
		if [ $((RANDOM % 2)) = 0 ]; then
			pkill -KILL -f "ublk-bpf add loop -n 0" || true
		fi
		ublk-bpf del -n 0 --force
		wait $! || true
		nothing_is_left
	done
}

bpf_objects_are() {
	[ "$(bpf_objects)" = "$1" ]
}

module_users_are_at_most() {
	[ "$(cat /sys/module/ublk_drv/refcnt)" -le "$1" ]
}

@test "cycles_of_add_and_del_leave_nothing" {
	ublk-bpf add null -n 0
	ublk-bpf del -n 0
	sleep 1
	before=$(bpf_objects)
	users=0		# the most there are: the bystander opens and closes
	for _ in $(seq 30); do
		now=$(cat /sys/module/ublk_drv/refcnt)
		[ "$now" -le $users ] || users=$now
		sleep 0.1
	done
	for round in $(rounds 8 300); do
		case $((RANDOM % 3)) in
		0) words=(null) ;;
		1) words=(loop -f /dev/a) ;;
		2) words=(null --delay 1ms --recover wait) ;;
		esac
		is "$(ublk-bpf add "${words[@]}" -n 0)" /dev/ublkb0
		ublk-bpf del -n 0
		nothing_is_left
	done
	soon bpf_objects_are "$before"	# BPF lets go after a grace period
	soon module_users_are_at_most "$users"
}

@test "module_in_use_is_not_removed" {
	run rmmod ublk_drv
	[ "$status" -ne 0 ]
	has "$output" "in use"
}

# One step that changes what is below the device; what refuses is fine.
churn() {
	local cpu
	case $((RANDOM % 10)) in
	0) ctrl detach 0 ;;
	1) ctrl attach 0 prog_id=4711 flags=1 ;;
	2) ctrl set 0 slot=0 fd=10 ;;
	3) ctrl set 0 slot=1 fd=11 ;;
	4) ctrl clear 0 slot=$((RANDOM % 2)) ;;
	5)
		kill -KILL "$loader" || true
		wait "$loader" || true
		;;
	6)
		kill -0 "$loader" 2>/dev/null && return
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		loader=$background
		;;
	7) rmmod ublk_drv 2>/dev/null || true ;;
	8) kill -USR1 "$loader" 2>/dev/null || true ;;	# its link's update
	9)
		cpu=/sys/devices/system/cpu/cpu1/online
		[ -w $cpu ] && echo $((1 - $(cat $cpu))) >$cpu
		;;
	esac
}

@test "everything_is_changed_under_load" {
	background "$tools/server" 0 SERVE /dev/a
	background "$tools/loader" "$progs/behave.bpf.o" 4711
	loader=$background
	null_blk c 128
	exec 10<>/dev/a 11<>/dev/c
	seconds=$([ -n "${FULL:-}" ] && echo 300 || echo 20)
	start_io 16 104 "$seconds"
	while kill -0 $load 2>/dev/null; do
		churn >/dev/null
		moment 0.1
	done
	io_ends
	echo 1 >/sys/devices/system/cpu/cpu1/online || true
	exec 10>&- 11>&-
	kill -KILL "$loader" || true
	ctrl detach 0
	is "$(io /dev/ublkb0 write 48M 4096)" "ok 4096"
	ublk-bpf del -n 0
	no_null_blk c
}

@test "backing_is_removed_under_load" {
	for round in $(rounds 2 50); do
		modprobe scsi_debug dev_size_mb=32 add_host=1 num_tgts=1
		udevadm settle
		disk=$(basename /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/sd*)
		ublk-bpf add loop -n 0 -f "/dev/$disk"
		start_io 0 16 2
		moment 1
		echo 1 >"/sys/block/$disk/device/delete"
		io_ends
		has "$(io /dev/ublkb0 read 1M 4096)" "EIO|ENODEV|ENXIO|EINVAL"
		ublk-bpf del -n 0
		rmmod scsi_debug
	done
}

@test "every_misbehaviour_under_load_ends" {
	null_blk c 128
	for policy in SERVE AGAIN; do
		background "$tools/server" 0 $policy /dev/a /dev/c
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		is "$(ctrl attach 0 prog_id=4711)" ok
		start_io 16 104 "$([ -n "${FULL:-}" ] && echo 60 || echo 5)"
		io_ends
		at COMPLETE
		is "$(io /dev/ublkb0 write $at 4096)" "ok 4096"
		ublk-bpf del -n 0
		kill -KILL "$background"
	done
	no_null_blk c
}
