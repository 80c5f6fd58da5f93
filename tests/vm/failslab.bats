# Each allocation of ours fails in turn: an error that says so, or a retry, and never
# a lost I/O. The kernel's fault injection picks those that have our code on their
# stack.
# shellcheck disable=SC2154 # tools, progs, object are others'
# kernels: debug
load common
load ops
object=behave
failslab=/sys/kernel/debug/failslab

# Our files are linked behind the kernel's, so that one range has all of them.
setup() {
	common_setup
	below "$(awk '/\[ublk_drv\]/ && $3 ~ /^ublk_bpf_/ && tolower($2) == "t" { print $1 }' /proc/kallsyms | sort)"
	spare_kmemleak
	echo 32 >$failslab/stacktrace-depth
	echo N >$failslab/ignore-gfp-wait
	echo N >$failslab/cache-filter
	echo 0 >$failslab/verbose
	echo 0 >$failslab/space
}

teardown() {
	local status=0
	echo 0 >$failslab/probability
	[ ! -e /dev/mapper/stuck ] || dmsetup resume stuck
	fresh
	log_is_clean || status=1
	return $status
}

# The allocator tells of a cache that cannot be made with a stack.
suspect() { sed '/__kmem_cache_create_args([^ ]*) failed with error -12/,/<\/TASK>/d'; }

# kmemleak ends for good when it gets no memory for its notes.
spare_kmemleak() {
	local its
	its=$(awk '$3 ~ /^kmemleak_(alloc|alloc_percpu|vmalloc|update_trace)$/ { print $1 }' /proc/kallsyms | sort)
	echo "0x$(head -n 1 <<<"$its")" >$failslab/reject-start
	echo "0x$(tail -n 1 <<<"$its")" >$failslab/reject-end
}

# Only what is called from between the first and the last of the addresses $1 fails.
below() {
	echo "0x$(head -n 1 <<<"$1")" >$failslab/require-start
	echo "0x$(tail -n 1 <<<"$1")" >$failslab/require-end
}

# Where a function starts, and the next one.
function_of() { sort /proc/kallsyms | grep -A 1 " $1\\>" | cut -d ' ' -f 1 | head -n 2; }

# From now on, or until stop_failing, $1 of 100 fail; $2 of them at most, -1: any number.
fail() {
	echo 1 >$failslab/interval
	echo "$2" >$failslab/times
	echo "$1" >$failslab/probability
}

# One in $1 fails, once. Which one that is depends on what went before.
fail_one_in() {
	echo 0 >$failslab/probability
	echo "$1" >$failslab/interval
	echo 1 >$failslab/times
	echo 100 >$failslab/probability
}

# Return: has anything failed?
stop_failing() {
	echo 0 >$failslab/probability
	[ "$(cat $failslab/times)" = 0 ]
}

# Run "${@:3}" with an allocation failing, the first, one of two, and so on, up to one
# of $1; with FULL=1 many times. Each time it works or says $2, which it does once at
# least, and $undo takes back what it did.
some_fail() {
	local nr round said=0 rounds=4
	[ -z "${FULL:-}" ] || rounds=100
	seeded
	for round in $(seq $rounds); do
		nr=$round
		[ $round -le 3 ] || nr=$((RANDOM % $1 + 1))
		fail_one_in $nr
		run "${@:3}"
		stop_failing || true
		echo "one in $nr fails: status $status, $output"
		if [ "$status" -ne 0 ]; then
			has "$output" "$2"
			said=$((said + 1))
		fi
		$undo
	done
	[ $said -gt 0 ]
	"${@:3}"
	$undo
}

no_device() { [ ! -e /dev/ublkc0 ] || ublk-bpf del -n 0; }

@test "device_is_added_or_enomem" {
	undo=no_device
	some_fail 200 "Cannot allocate memory" ublk-bpf add loop -n 0 -f /dev/a -q 2
	some_fail 200 "Cannot allocate memory" ublk-bpf add loop -n 0 -f /dev/a --recover wait
}

nothing() { :; }
set_slot() { is "$(ctrl set 0 slot=0 fd=9 "$@" 9<>/dev/b)" ok; }
attach() { is "$(ctrl attach 0 prog_id=4711)" ok; }
detach() { ctrl detach 0; }
register() { background "$tools/loader" "$progs/behave.bpf.o" 42 && kill -KILL "$background"; }

@test "commands_work_or_are_enomem" {
	background "$tools/server" 0 SERVE /dev/a
	background "$tools/loader" "$progs/behave.bpf.o" 4711
	undo=nothing
	some_fail 4 ENOMEM set_slot
	some_fail 5 ENOMEM set_slot flags=1
	fail_one_in 1
	attach	# has no need of any
	stop_failing && return 1
	is "$(detach)" ok
	some_fail 2 ENOMEM register
}

# Function $1 does not get its memory, once, while "${@:2}" runs, which says so.
one_fails_in() {
	below "$(function_of "$1")"
	fail 100 1
	run "${@:2}"
	stop_failing || { echo "$1 has not asked for any"; return 1; }
	[ "$status" -ne 0 ]
	has "$output" "Cannot allocate memory|ENOMEM"
}

@test "each_function_that_allocates_is_enomem" {
	for function in ublk_bpf_do_alloc_tag_set ublk_bpf_forward_init_dev ublk_bpf_set_slot; do
		one_fails_in $function ublk-bpf add loop -n 0 -f /dev/a
	done
	background "$tools/server" 0 SERVE /dev/a
	one_fails_in ublk_bpf_set_slot set_slot flags=1
	one_fails_in ublk_bpf_reg register
	is "$(ctrl set 0 slot=0 fd=9 9<>/dev/a)" ok
}

# $1 of 100 allocations fail while what fio writes is verified.
verified() {
	local most=1000000
	fail "$1" $most
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
		--bs=16k --iodepth=16 --size=16M --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0 "${@:2}"
	echo 0 >$failslab/probability
	[ "$(cat $failslab/times)" -lt $most ]
	is "$(stat_of 0 failed)" 0
}

# What is not ours does without, too, where there is a memory pool. (For an I/O to a disk that
# is sent as it is nobody asks for any.)
@test "forwarded_io_does_not_need_memory" {
	below "$(function_of mempool_alloc_noprof)"
	# many ranges of an I/O
	ublk-bpf add stripe -n 0 -f /dev/a -f /dev/b --chunk 4k
	verified 30 --bs=128k
	verified 100 --bs=128k
	ublk-bpf del -n 0
	mkfs.ext4 -q /dev/b
	mkdir -p /mnt/below
	mount /dev/b /mnt/below
	truncate -s 64M /mnt/below/image
	ublk-bpf add loop -n 0 -f /mnt/below/image
	verified 100 --size=8M
	# requests of several bios, of which nobody makes one list
	below "$(function_of ublk_bpf_file_join_bios)"
	verified 100 --size=4M --rw=write --bs=4k --iodepth_batch_submit=16
	ublk-bpf del -n 0
	umount /mnt/below
}

# Four I/Os of sixteen ranges each take more than what is kept for that.
@test "server_does_not_wait_for_memory" {
	local nr all=
	dmsetup create stuck --table "0 262144 linear /dev/b 0"
	background "$tools/loader" "$progs/behave.bpf.o" 4711
	background "$tools/server" 0 ONCE /dev/a /dev/mapper/stuck
	udevadm settle
	is "$(ctrl attach 0 prog_id=4711)" ok
	no_timeout
	dmsetup suspend stuck
	at AGAIN_PIECES
	below "$(function_of mempool_alloc_noprof)"
	fail 100 -1
	for nr in 0 1 2 3; do
		io /dev/ublkb0 write $((at + (nr << 20))) 8192 pattern=$nr >"$BATS_TEST_TMPDIR/$nr" 3>&- &
		all+=" $!"
	done
	soon stat_reaches 0 rerun 4
	is "$(do_io REDIRECT_ALL read 4096)" "EIO redirected=1 rerun=1 failed=1 order=132313"
	dmsetup resume stuck
	# shellcheck disable=SC2086
	wait $all
	echo 0 >$failslab/probability
	for nr in 0 1 2 3; do
		is "$(cat "$BATS_TEST_TMPDIR/$nr")" "ok 8192"
		is "$(io /dev/b read $((at + (nr << 20))) 8192 pattern=$nr)" "ok 8192"
	done
	is "$(stat_of 0 failed)" 1
	ublk-bpf del -n 0
	udevadm settle		# it reads what was resumed
	dmsetup remove stuck
}

@test "flush_that_was_held_is_not_done_without_memory" {
	local flush
	dmsetup create stuck --table "0 262144 linear /dev/b 0"
	ublk-bpf add prog -n 0 -o "$progs/flush.bpf.o" --ops cut_ops -f /dev/a -f /dev/mapper/stuck
	udevadm settle
	no_timeout
	dmsetup suspend stuck
	below "$(function_of mempool_alloc_noprof)"
	fail 100 -1
	io /dev/ublkb0 write 32M 65536 3>&- &
	soon stat_reaches 0 fwd_worker 16
	io /dev/ublkb0 write 64M 65536 3>&- &
	soon stat_reaches 0 fwd_worker 18	# one I/O has one of its own
	io /dev/ublkb0 flush 0 0 >"$BATS_TEST_TMPDIR/flush" 3>&- &
	flush=$!
	soon stat_reaches 0 fwd_worker 19	# its second leg waits
	kill -0 $flush
	dmsetup resume stuck
	wait
	echo 0 >$failslab/probability
	is "$(cat "$BATS_TEST_TMPDIR/flush")" "ok 0"
	stat_reaches 0 held 1
	[ "$(count_of 0)" -ge 2 ]	# asked again, for that leg
	is "$(stat_of 0 failed) $(stat_of 0 misused)" "0 0"
	ublk-bpf del -n 0
	udevadm settle
	dmsetup remove stuck
}

@test "io_that_cannot_be_held_is_done_at_once" {
	ublk-bpf add null -n 0 -d 256 --delay 5s
	udevadm settle
	held=$(stat_of 0 held)
	# not of timers: an I/O without one gives its hold back at once
	below "$(function_of ublk_bpf_hold_io)"
	fail 100 -1
	# 64 are kept for that
	fio --name=h --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite \
		--bs=4k --iodepth=256 --iodepth_batch_submit=64 --size=1M
	echo 0 >$failslab/probability
	is "$(stat_of 0 failed)" 0
	stat_reaches 0 held $((held + 64))
	[ "$(stat_of 0 held)" -lt $((held + 200)) ]
}

@test "what_fails_at_random_is_sent_again" {
	local object=done fail=/sys/kernel/debug/fail_make_request
	below "$(function_of mempool_alloc_noprof)"
	background "$tools/loader" "$progs/done.bpf.o" 4711
	background "$tools/server" 0 SERVE /dev/a
	udevadm settle
	is "$(ctrl attach 0 prog_id=4711)" ok
	echo 1 >/sys/block/a/make-it-fail
	echo 0 >$fail/verbose
	echo 1000000 >$fail/times
	echo 1 >$fail/interval
	echo 20 >$fail/probability
	at DONE_RETRY_SAME
	verified 20 --offset="$at" --size=1M --io_size=8M --bs=4k
	echo 0 >$fail/probability
	echo 0 >/sys/block/a/make-it-fail
	[ "$(cat $fail/times)" -lt 1000000 ]
	[ "$(stat_of 0 misused)" = 0 ]
}

@test "module_is_loaded_or_enomem" {
	ublk-bpf del -a
	cat /sys/module/ublk_drv/parameters/hooks >>"$HOOKS"
	unload
	below "$(function_of do_one_initcall)"
	undo=unload
	some_fail 40 "Cannot allocate memory" insmod "build/driver/$(uname -r)/ublk_drv.ko"
	insmod "build/driver/$(uname -r)/ublk_drv.ko"
}
