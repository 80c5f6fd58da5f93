# Everything dies at any moment, beside a device whose data is verified all the time.
# FULL=1 has hundreds of rounds instead of some, of what ends otherwise than by one of
# the first two tests tens; SEED=N repeats a run.
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
	if mountpoint -q /mnt/above; then umount /mnt/above || status=1; fi
	for id in 0 1 2; do
		[ ! -e /dev/ublkc$id ] || ublk-bpf del --force -n $id || status=1
	done
	# shellcheck disable=SC2086
	[ -z "$all_background" ] || kill -KILL $all_background 2>/dev/null || true
	[ -e "$rules" ] || udev_looks_away
	echo 1 >/sys/devices/system/cpu/cpu1/online || true
	for id in c slow writes; do
		[ ! -e /sys/kernel/config/nullb/$id ] || no_null_blk $id
	done
	[ ! -e /sys/bus/pseudo/drivers/scsi_debug ] || soon rmmod scsi_debug || status=1
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

# Load on /dev/ublkb0 from $1 MiB, $2 of them, for $3 s, that goes on after errors and must
# end by itself; further options, and jobs.
start_io() {
	fio --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw \
		--bsrange=512-64k --blockalign=512 --iodepth=16 --allow_file_create=0 \
		--continue_on_error=all --time_based --runtime="${3:-1}" --randseed=$RANDOM \
		--name=l --offset="$1M" --size="$2M" "${@:4}" >"$BATS_TEST_TMPDIR/load" 2>&1 3>&- &
	load=$!
}

# What has a job of it go on after any error. Else that ends it but for EIO and few others.
errors=$(seq -s : 1 133)
any_error=("--ignore_error=$errors,$errors")

# What makes a job of that one whose data is verified, and whose I/O must not fail.
verify=(--bs=4k --blockalign=4k --verify=crc32c --verify_fatal=1 --verify_state_save=0
	--continue_on_error=none)

# So it was, of job $1.
job_is_right() {
	grep -q "^$1: .*err= 0:" "$BATS_TEST_TMPDIR/load" || { cat "$BATS_TEST_TMPDIR/load"; return 1; }
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
	[ ! -e /sys/block/ublkb0 ] || soon is_idle
}

# None of device 0's I/O is on its way, or is none's.
is_idle() {
	[ ! -e /sys/block/ublkb0/inflight ] || [[ $(</sys/block/ublkb0/inflight) =~ ^\ *0\ *0$ ]]
}

# No trace of device 0, or of devices "$@".
nothing_is_left() {
	local i id
	for id in "${@:-0}"; do
		for i in $(seq 100); do
			[ -e "/dev/ublkc$id" ] || [ -e "/dev/ublkb$id" ] || break
			sleep 0.05
		done
		[ ! -e "/dev/ublkc$id" ]
		[ ! -e "/dev/ublkb$id" ]
		[ ! -e "/run/ublk-bpf/$id.json" ]
		[ ! -e "/sys/fs/bpf/ublk-bpf/$id" ]
	done
}

# Has fio come to catch the word that ends it? Before that it would be lost.
load_listens() {
	local caught
	caught=$(awk '/^SigCgt/ { print $2 }' /proc/$load/status 2>/dev/null) || return 0
	((0x${caught:-2} & 2))
}

# The load of device 0 meets what is wrong below, and ends: by itself if it does not know the
# error, else at a word.
fails_and_ends() {
	soon stat_reaches 0 failed 1
	soon load_listens
	kill -INT $load 2>/dev/null || true
	io_ends
	has "$(io /dev/ublkb0 read 0 4096)" "EIO|ENODEV|ENXIO|EINVAL"
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
		failed=$(stat_of 0 failed)
		# with a fallback nobody is told that there is no program
		if [ $((round % 2)) = 1 ]; then
			start_io 40 1 1 "${verify[@]}"
		else
			start_io 40 4
		fi
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
		[ $((round % 2)) = 0 ] || job_is_right l
		[ $((round % 2)) = 0 ] || is "$(stat_of 0 failed)" "$failed"
	done
}

@test "server_is_killed_at_any_step" {
	local early=0 loaded=0 deleting=0
	for round in $(rounds 5 300); do
		mode=$((RANDOM % 3))
		words=()
		[ $mode = 0 ] || words=(--recover "$([ $mode = 1 ] && echo wait || echo fail)")
		ublk-bpf add prog -n 0 -o "$progs/behave.bpf.o" --ops behave_ops -f /dev/a -q 2 \
			--foreground "${words[@]}" >"$BATS_TEST_TMPDIR/add" 2>&1 3>&- &
		server=$!
		moment "$([ "$KERNEL" = debug ] && echo 8 || echo 2.5)"
		load=
		[ ! -b /dev/ublkb0 ] || start_io 16 100
		[ $((RANDOM % 2)) = 0 ] || moment 0.5
		del=
		if [ $((RANDOM % 3)) = 0 ]; then
			ublk-bpf del --force -n 0 >/dev/null 2>&1 3>&- &
			del=$!
			moment 0.3
		fi
		case $load,$del in
		,*) early=$((early + 1)) ;;
		*,) loaded=$((loaded + 1)) ;;
		*) deleting=$((deleting + 1)) ;;
		esac
		kill -KILL $server 2>/dev/null || true
		wait $server || true
		[ -z "$del" ] || wait $del || true
		[ ! -e /dev/ublkc0 ] && [ ! -e /run/ublk-bpf/0.json ] || ublk-bpf del --force -n 0
		rm -rf /run/ublk-bpf/0.json /sys/fs/bpf/ublk-bpf/0
		[ -z "$load" ] || io_ends
		nothing_is_left
	done
	echo "killed $early times before there was a disk, $loaded under load, $deleting during del"
	[ -z "${FULL:-}" ] || { [ $early -gt 0 ] && [ $loaded -gt 0 ] && [ $deleting -gt 0 ]; }
}

is_absent() { [ ! -e "$1" ]; }

# Is process $1 in the system call of number $2?
is_in() {
	local nr
	{ read -r nr _ <"/proc/$1/syscall"; } 2>/dev/null && [ "$nr" = "$2" ]
}
waits() { is_in "$1" 45; }			# recvfrom
has_started() { is_in "$starter" 426; }		# io_uring_enter

# Device 0's server has fetched and waits for its process that starts the device, which
# stands still.
half_started() {
	[ -e "/proc/$$/task/$$/children" ] ||
		skip "this kernel does not list the children of a process"
	for _ in $(seq 20); do
		starter=
		ublk-bpf add null -n 0 --foreground "$@" >"$BATS_TEST_TMPDIR/add" 2>&1 3>&- &
		server=$!
		until [ -n "$starter" ] || [ -e /sys/block/ublkb0 ] || ! kill -0 "$server"; do
			read -r _ starter <"/proc/$server/task/$server/children" || true	# the first speaks
		done
		# it may be over already; before it waits it is not killed with its server
		until waits "$starter" || has_started || is_absent "/proc/$starter/exe"; do :; done
		kill -STOP "$starter" || true
		until waits "$server" || [ -e /sys/block/ublkb0 ] || ! kill -0 "$server"; do
			sleep 0.1
		done
		if waits "$server" && ! has_started; then return 0; fi
		kill -CONT "$starter" || true
		kill -INT "$server"
		wait "$server" || true
		nothing_is_left
	done
	return 1
}

# The process goes on, and the device does not start.
is_not_started() {
	kill -CONT "$starter"
	! wait "$server" || return 1
	has "$(cat "$BATS_TEST_TMPDIR/add")" "it was stopped or deleted while it started; add it again"
	nothing_is_left
}

@test "device_that_goes_is_not_started" {
	local recover
	for recover in "" "--recover wait"; do
		# shellcheck disable=SC2086
		half_started $recover
		is "$(ctrl stop 0)" ok
		is_not_started

		# shellcheck disable=SC2086
		half_started $recover
		ctrl del 0 >"$BATS_TEST_TMPDIR/del" 3>&- &
		del=$!
		soon is_absent /dev/ublkc0
		is_not_started
		wait $del
		is "$(cat "$BATS_TEST_TMPDIR/del")" ok

		# shellcheck disable=SC2086
		half_started $recover
		kill -KILL "$server"
		wait "$server" || true
		soon is_absent "/proc/$starter/exe"
		# who starts it all the same is refused, or waits for a server
		has "$(timeout -s KILL 3 "$tools/ctrl" start 0 pid="$server")" "^(EBUSY|)$"
		[ ! -e /dev/ublkb0 ]
		ublk-bpf del --force -n 0
		nothing_is_left
	done
}

is_traced() { ! grep -q "^TracerPid:.0$" "/proc/$1/status"; }
is_closing() { is_in "$server" 3; }

# Who gave up must not delete by a number that is free once it has closed its device.
@test "next_device_of_a_number_is_left_alone" {
	half_started
	strace -p "$server" -o /dev/null -P /dev/ublkc0 -e trace=close \
		-e inject=close:delay_exit=10000000 3>&- &
	soon is_traced "$server"
	ctrl del 0 >"$BATS_TEST_TMPDIR/del" 3>&- &
	del=$!
	soon is_absent /dev/ublkc0
	kill -CONT "$starter"
	wait $del
	is "$(cat "$BATS_TEST_TMPDIR/del")" ok
	is "$(ctrl add 0 flags=bpf)" "ok bpf"
	is_closing
	! wait "$server" || return 1
	is "$(ctrl del 0)" ok
	nothing_is_left
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

# What the upper one forwards waits for a tag of the lower one, which does not answer.
@test "server_of_a_device_and_of_its_backing_is_killed" {
	for round in $(rounds 1 20); do
		background "$tools/server" 0 BELOW
		server=$background
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		is "$(ctrl attach 0 prog_id=4711)" ok
		start_io 40 1 60 --bs=4k --rw=randwrite
		soon stat_reaches 0 fwd_worker 8
		is "$(stat_of 0 fwd_inline)" 0
		moment 1
		kill -KILL "$server"
		io_ends
		ublk-bpf del -n 0 --force
		ublk-bpf del -n 1 --force
		kill -KILL "$background"
		nothing_is_left 0 1
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

# It is the last one there: its end is that of the file system on its own device, too.
@test "server_in_a_mount_namespace_of_its_own_is_killed" {
	mkdir -p /mnt/above
	for round in $(rounds 2 20); do
		# shellcheck disable=SC2016 # the inner shell's
		unshare -m --propagation private sh -c '
			ublk-bpf add loop -n 0 -f /dev/a &&
			mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /mnt/above &&
			dd if=/dev/zero of=/mnt/above/file bs=1M count=16 status=none' >/dev/null 3>&-
		server=$(server)
		has "$(cat "/proc/$server/mounts")" "^/dev/ublkb0 /mnt/above"
		is "$(grep -c ^/dev/ublkb0 /proc/mounts || true)" 0
		start_io 0 16 1 --rw=randread
		moment 1
		kill -KILL "$server"
		io_ends
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
	for round in $(rounds 2 100); do
		ublk-bpf add loop -n 0 -f /dev/a
		dd if=/dev/zero of=/dev/ublkb0 bs=1M count=32 conv=nocreat 2>/dev/null 3>&- &
		moment 0.5
		if [ $((RANDOM % 2)) = 0 ]; then
			pkill -KILL -f "ublk-bpf add loop -n 0" || true
		fi
		ublk-bpf del -n 0 --force
		wait $! || true
		nothing_is_left
	done
}

# The disk below needs more than the ten seconds that a server has to let go.
@test "dirty_pages_are_written_as_long_as_it_takes" {
	null_blk writes 16 irqmode=2 completion_nsec=20000000 submit_queues=1 hw_queue_depth=1
	ublk-bpf add loop -n 0 -f /dev/writes
	exec 7</dev/ublkb0
	# every other page, so that none are one I/O
	perl -e 'for (0 .. 899) { sysseek(STDOUT, $_ * 8192, 0); syswrite(STDOUT, "x" x 4096) }' \
		1<>/dev/ublkb0
	local start=$SECONDS
	ublk-bpf del -n 0 3>&- 7<&- &
	while [ -e /dev/ublkb0 ]; do sleep 0.1; done
	[ $((SECONDS - start)) -gt 10 ]
	exec 7<&-
	wait $!
	is "$(tr -dc x </dev/writes | wc -c)" $((900 * 4096))
	nothing_is_left
	no_null_blk writes
}

# Device 0 in state $1, and under load.
in_state() {
	local job=(--name=l)
	case $1 in
	held) ublk-bpf add null -n 0 --delay 300ms ;;
	forwarded) ublk-bpf add loop -n 0 -f /dev/slow ;;
	mounted)
		ublk-bpf add loop -n 0 -f /dev/a
		mkfs.ext4 -q /dev/ublkb0
		mount /dev/ublkb0 /mnt/above
		job=(--filename=/mnt/above/file --allow_file_create=1 --direct=0 --fsync=16)
		;;
	*)
		ublk-bpf add prog -n 0 -o "$progs/behave.bpf.o" --ops behave_ops -f /dev/a \
			-f /dev/slow --recover wait
		;;
	esac
	start_io 16 40 1 "${job[@]}"
	moment 0.5
	case $1 in
	quiesced | recovering) kill_server ;;&
	recovering) soon recovery_starts ;;
	stopped) kill -STOP "$(server)" ;;
	esac
}

# The end $2 of device 0, which is in state $1.
it_ends_by() {
	case $1:$2 in
	mounted:del)
		run ublk-bpf del -n 0
		is "$status" 1
		has "$output" "/dev/ublkb0 is in use: .*/mnt/above.*--force"
		;;
	*:del)
		ublk-bpf del -n 0
		return
		;;
	stopped:stop) ;;	# nothing would end that but a kill
	*:stop) is "$(ctrl stop 0)" ok ;;
	*:rmmod)
		run rmmod ublk_drv
		[ "$status" -ne 0 ]
		;;
	*:kill) kill -KILL "$(server)" || [[ $1 = quiesced || $1 = recovering ]] ;;
	esac
	{
		moment 2
		[ "$1" != mounted ] || umount -l /mnt/above
	} 3>&- &
	ublk-bpf del -n 0 --force
	wait $!
}

@test "every_end_in_every_state" {
	local states=(held forwarded mounted quiesced recovering stopped)
	local ends=(del force stop rmmod kill) nr=$RANDOM
	mkdir -p /mnt/above
	null_blk slow 128 irqmode=2 completion_nsec=100000000
	for round in $(rounds 3 210); do
		nr=$((nr + 7))		# in 30 steps through all
		echo "${states[nr % 6]}, ${ends[nr % 5]}"
		in_state "${states[nr % 6]}"
		it_ends_by "${states[nr % 6]}" "${ends[nr % 5]}"
		io_ends
		nothing_is_left
	done
	no_null_blk slow
}

bpf_objects_are() {
	[ "$(bpf_objects)" = "$1" ]
}

module_users_are_at_most() {
	[ "$(cat /sys/module/ublk_drv/refcnt)" -le "$1" ]
}

@test "cycles_of_add_and_del_leave_nothing" {
	local many
	many=$([ -n "${FULL:-}" ] && echo 300 || echo 4)
	udev_looks	# and probes each of them while it goes
	ublk-bpf add null -n 0
	ublk-bpf del -n 0
	# what is gone is seen to go after some grace periods
	now=$(bpf_objects)
	until [ "$now" = "${before:-}" ]; do
		before=$now
		sleep 3
		now=$(bpf_objects)
	done
	users=0		# the most there are: the bystander opens and closes
	for _ in $(seq 30); do
		now=$(cat /sys/module/ublk_drv/refcnt)
		[ "$now" -le $users ] || users=$now
		sleep 0.1
	done
	for round in $(seq "$many"); do
		case $((RANDOM % 3)) in
		0) words=(null) ;;
		1) words=(loop -f /dev/a) ;;
		2) words=(null --delay 1ms --recover wait) ;;
		esac
		is "$(ublk-bpf add "${words[@]}" -n 0)" /dev/ublkb0
		ublk-bpf del -n 0
		nothing_is_left
	done
	udevadm settle
	udev_looks_away
	soon bpf_objects_are "$before"	# BPF lets go after a grace period
	soon module_users_are_at_most "$users"
}

@test "module_in_use_is_not_removed" {
	run rmmod ublk_drv
	[ "$status" -ne 0 ]
	has "$output" "in use"
}

# "${@:2}" says ok, or refuses, which is fine: how often did it do $1?
try() { [ "$("${@:2}")" != ok ] || did[$1]=$((${did[$1]:-0} + 1)); }

# One step that changes what is below the device.
churn() {
	local cpu
	case $((RANDOM % 17)) in
	0) try detach ctrl detach 0 ;;
	1 | 2) try attach ctrl attach 0 prog_id=4711 flags=1 ;;
	3) try set ctrl set 0 slot=0 fd=7 ;;
	4) try set ctrl set 0 slot=1 fd=8 ;;
	5) try drop ctrl set 0 slot=1 fd=8 flags=1 ;;
	6) try clear ctrl clear 0 slot=$((RANDOM % 2)) ;;
	7)
		kill -KILL "$loader" || true
		wait "$loader" || true
		;;
	8 | 9)
		kill -0 "$loader" 2>/dev/null && return
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		loader=$background
		;;
	10) rmmod ublk_drv 2>/dev/null || true ;;
	11 | 12) kill -USR1 "$loader" 2>/dev/null || true ;;	# its link's update
	13)
		cpu=/sys/devices/system/cpu/cpu1/online
		[ -w $cpu ] && echo $((1 - $(cat $cpu))) >$cpu
		;;
	14) try disk ctrl set 0 slot=1 fd=9 ;;
	15) ! echo 1 >"/sys/block/$(scsi_disk)/device/delete" || did[delete]=$((${did[delete]:-0} + 1)) ;;
	16)
		echo "- - -" >"$(echo /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/scsi_host/host*/scan)"
		udevadm settle
		exec 9>&-
		[ ! -e "/dev/$(scsi_disk)" ] || exec 9<>"/dev/$(scsi_disk)"
		;;
	esac 2>/dev/null
}

@test "everything_is_changed_under_load" {
	local -A did=()
	modprobe scsi_debug dev_size_mb=128 add_host=1 num_tgts=1
	udevadm settle
	exec 9<>"/dev/$(scsi_disk)"
	background "$tools/server" 0 SERVE /dev/a "/dev/$(scsi_disk)"
	background "$tools/loader" "$progs/behave.bpf.o" 4711
	loader=$background
	is "$(ctrl attach 0 prog_id=4711 flags=1)" ok
	null_blk c 128
	exec 7<>/dev/a 8<>/dev/c
	seconds=$([ -n "${FULL:-}" ] && echo 300 || echo 12)
	# of what the server does nothing is lost, whatever there is of the rest
	start_io 16 19 "$seconds" "${any_error[@]}" --name=m --offset=36M --size=84M "${any_error[@]}" \
		--name=r --offset=40M --size=1M --rw=randread --direct=0 --invalidate=0 \
		--name=v --offset=35M --size=1M "${verify[@]}"
	while kill -0 $load 2>/dev/null; do
		churn >/dev/null
		moment 0.1
	done
	io_ends
	job_is_right v
	echo 1 >/sys/devices/system/cpu/cpu1/online || true
	exec 7>&- 8>&- 9>&-
	for what in attach detach set drop clear disk delete; do
		echo "$what: ${did[$what]:-0} times"
		[ -z "${FULL:-}" ] || [ "${did[$what]:-0}" -gt 0 ]
	done
	kill -KILL "$loader" || true
	ctrl detach 0
	is "$(io /dev/ublkb0 write 48M 4096)" "ok 4096"
	ublk-bpf del -n 0
	no_null_blk c
	soon rmmod scsi_debug	# its server and loader end beside us, and have 9 open
}

@test "backing_is_removed_under_load" {
	for round in $(rounds 2 100); do
		modprobe scsi_debug dev_size_mb=32 add_host=1 num_tgts=1
		udevadm settle
		disk=$(scsi_disk)
		ublk-bpf add loop -n 0 -f "/dev/$disk"
		start_io 0 16 2
		moment 1
		echo 1 >"/sys/block/$disk/device/delete"
		io_ends
		has "$(io /dev/ublkb0 read 1M 4096)" "EIO|ENODEV|ENXIO|EINVAL"
		ublk-bpf del -n 0
		soon rmmod scsi_debug
	done
}

@test "every_misbehaviour_under_load_ends" {
	local seconds start
	seconds=$([ -n "${FULL:-}" ] && echo 60 || echo 5)
	null_blk c 128
	for policy in SERVE AGAIN; do
		background "$tools/server" 0 $policy /dev/a /dev/c
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		is "$(ctrl attach 0 prog_id=4711)" ok
		start_io 16 104 "$seconds" "${any_error[@]}"
		start=$SECONDS
		io_ends
		[ $((SECONDS - start)) -ge $((seconds - 1)) ]	# it went on
		at COMPLETE
		is "$(io /dev/ublkb0 write $at 4096)" "ok 4096"
		ublk-bpf del -n 0
		kill -KILL "$background"
	done
	no_null_blk c
}

# What is held for too long has its program ejected, and then that is attached again.
@test "every_misuse_of_holds_under_load_ends" {
	local object=hold ejected=0 seconds start
	seconds=$([ -n "${FULL:-}" ] && echo 60 || echo 8)
	null_blk c 128
	background "$tools/server" 0 SERVE /dev/a /dev/c
	background "$tools/loader" "$progs/hold.bpf.o" 4711
	is "$(ctrl attach 0 prog_id=4711)" ok
	echo 500 >/sys/block/ublkb0/queue/io_timeout
	start_io 16 24 "$seconds" "${any_error[@]}"
	start=$SECONDS
	while kill -0 $load 2>/dev/null; do
		moment 1
		[[ $(ctrl stats 0) = *state=3* ]] || continue
		ejected=$((ejected + 1))
		is "$(ctrl detach 0)" ok
		is "$(ctrl attach 0 prog_id=4711)" ok
	done
	io_ends
	[ $((SECONDS - start)) -ge $((seconds - 1)) ]
	[ $ejected -gt 0 ]
	is "$(ctrl detach 0)" ok
	is "$(io /dev/ublkb0 write 48M 4096)" "ok 4096"
	ublk-bpf del -n 0
	kill -KILL "$background"
	no_null_blk c
}

@test "server_of_a_device_below_another_is_killed" {
	for round in $(rounds 1 50); do
		ublk-bpf add loop -n 1 -f /dev/a --server
		ublk-bpf add linear -n 0 -f /dev/ublkb1
		"$tools/compare" /dev/ublkb0 seed="$SEED" bytes=4M ops=200
		start_io 0 64 60
		moment 1
		kill -KILL "$(server 1)"
		fails_and_ends
		ublk-bpf del -n 0
		ublk-bpf del -n 1
		nothing_is_left 0 1
	done
}

# Device $1 of three is deleted while they have load: 2 is the bottom.
deleted_under_load() {
	null_blk c 64
	for round in $(rounds 1 25); do
		ublk-bpf add loop -n 2 -f /dev/a
		ublk-bpf add linear -n 1 -f /dev/ublkb2
		ublk-bpf add stripe -n 0 -f /dev/ublkb1 -f /dev/c
		start_io 0 64 60
		moment 1
		ublk-bpf del --force -n "$1" >"$BATS_TEST_TMPDIR/del" 2>&1 3>&- &
		del=$!
		soon is_absent "/dev/ublkb$1"
		fails_and_ends
		is "$(io /dev/ublkb0 write 64k 4096)" "ok 4096"	# the other half
		# its number is free when what is above is gone, for which it waits a while
		for id in 0 1 2; do
			[ $id = "$1" ] || ublk-bpf del -n $id
		done
		wait $del || has "$(cat "$BATS_TEST_TMPDIR/del")" "/dev/ublkb$1 is deleted, but somebody still has it open"
		nothing_is_left 0 1 2
	done
	no_null_blk c
}

@test "bottom_of_three_devices_is_deleted_under_load" { deleted_under_load 2; }

@test "middle_of_three_devices_is_deleted_under_load" { deleted_under_load 1; }
