# A loop device: a file or block device, wholly in BPF.
load common

setup() {
	common_setup
	mkdir -p /mnt/below /mnt/above
}

teardown() {
	mountpoint -q /mnt/above && umount /mnt/above
	rm -rf /sys/fs/bpf/no_holes
	common_teardown || return
	mountpoint -q /mnt/below && umount /mnt/below
	dmsetup remove_all --force 2>/dev/null
	for dir in /sys/kernel/config/nullb/*/; do
		[ -d "$dir" ] && no_null_blk "$(basename "$dir")"
	done
	return 0
}

# A file of $2 on file system $1 over a memory-backed disk: /mnt/below/image
image_on() {
	null_blk nb 512 "${@:3}"
	"mkfs.$1" -q /dev/nb
	mount /dev/nb /mnt/below
	truncate -s "$2" /mnt/below/image
}

# Write random data of many sizes with fio and read it back, $2: options.
verify() {
	seeded
	fio --name=v --filename="$1" --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=32 --io_size=16M --verify=crc32c --do_verify=1 --verify_fatal=1 \
		--verify_state_save=0 --serialize_overlap=1 --randseed="$SEED" "${@:2}"
}

sectors_and_flushes() { awk '{ print $7, $16 }' "/sys/block/$1/stat"; }

@test "block_device_verifies_every_size" {
	null_blk nb 128
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb)
	verify "$dev" --bsrange=512-256k --bs_unaligned=0 --blockalign=512
	verify "$dev" --bs=4k --iodepth=128 --iodepth_batch_submit=32
	[ "$(stat_of 0 redirected)" = 0 ]
	[ "$(stat_of 0 fwd_worker)" = 0 ]
	[ "$(stat_of 0 failed)" = 0 ]
}

@test "block_device_takes_a_list_of_requests_in_one_go" {
	null_blk nb 64
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb -q 2)
	verify "$dev" --numjobs=2 --size=16M --offset_increment=16M --iodepth=64 --iodepth_batch_submit=16
	verify "$dev" --ioengine=psync --rw=write --bs=1M --size=32M
}

@test "list_goes_down_in_one_go_and_ends_together" {
	local trace=/sys/kernel/tracing
	[ "$KERNEL" != debug ] || skip "the debug kernel has no trace events of one's own"
	null_blk nb 64 memory_backed=0 irqmode=0	# which does not sleep, and ends it in the call
	ublk-bpf add loop -n 0 -f /dev/nb -q 2	# one queue would have a scheduler
	settled /dev/ublkb0
	echo 't:lists/sent block_unplug disk=q->disk->disk_name:string depth' >>$trace/dynamic_events
	echo 'f:lists/ended blk_mq_end_request_batch' >>$trace/dynamic_events
	echo 1 >$trace/events/lists/enable
	echo >$trace/trace
	# four lists of I/Os that do not lie beside each other
	fio --name=l --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=read:4k --bs=4k \
		--iodepth=16 --iodepth_batch_submit=16 --iodepth_batch_complete_min=16 \
		--size=1M --io_size=256k
	echo 0 >$trace/events/lists/enable
	cat $trace/trace | tee "$BATS_TEST_TMPDIR/trace"
	echo '-:lists/sent' >>$trace/dynamic_events
	echo '-:lists/ended' >>$trace/dynamic_events
	is "$(grep -c 'sent: .* disk="nb" depth=16$' "$BATS_TEST_TMPDIR/trace")" 4
	is "$(grep -c 'ended: ' "$BATS_TEST_TMPDIR/trace")" 4
}

@test "device_and_its_backing_in_one_plug_do_not_wait_for_each_other" {
	# few tags: the plug that is being flushed holds them all
	null_blk nb 64 no_sched=1 hw_queue_depth=4 irqmode=2 completion_nsec=50000
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb -r)
	fio --name=p --filename="$dev:/dev/nb" --file_service_type=roundrobin:1 --direct=1 \
		--ioengine=io_uring --rw=randread --bs=4k --size=64M --io_size=8M --iodepth=64 \
		--iodepth_batch_submit=32 --iodepth_batch_complete_min=16
	[ "$(stat_of 0 failed)" = 0 ]
	[ "$(stat_of 0 fwd_worker)" -gt 0 ]
}

@test "buffered_io_and_mmap_verify" {
	null_blk nb 64
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb)
	verify "$dev" --direct=0 --ioengine=psync --size=32M
	# a file: on a block device fio itself writes zeroes over it, by madvise(2)
	mkfs.ext4 -q "$dev"
	mount "$dev" /mnt/above
	verify /mnt/above/file --direct=0 --ioengine=mmap --size=16M
	umount /mnt/above
	fsck.ext4 -fn "$dev"
}

@test "block_device_passes_flush_and_fua" {
	null_blk nb 64 cache_size=16 fua=1
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb)
	[ "$(cat /sys/block/ublkb0/queue/write_cache)" = "write back" ]
	echo 1 >/sys/kernel/tracing/events/block/block_rq_issue/enable
	echo >/sys/kernel/tracing/trace
	dd if=/dev/zero of="$dev" bs=4k count=1 oflag=direct,dsync
	dd if=/dev/zero of="$dev" bs=4k count=1 oflag=direct conv=fsync
	echo 0 >/sys/kernel/tracing/events/block/block_rq_issue/enable
	nb=$(sed 's/:/,/' /sys/block/nb/dev)
	grep " $nb " /sys/kernel/tracing/trace
	grep -E " $nb (FF|F|FFS|FS) " /sys/kernel/tracing/trace
	grep -E " $nb W(FS|SF|F) " /sys/kernel/tracing/trace
}

@test "read_only_device_refuses_writes" {
	null_blk nb 64
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb -r)
	[ "$(blockdev --getro "$dev")" = 1 ]
	dd if="$dev" of=/dev/null bs=64k count=8 iflag=direct
	run dd if=/dev/zero of="$dev" bs=4k count=1 oflag=direct
	[ "$status" -ne 0 ]
}

@test "part_of_a_device_stays_inside" {
	null_blk nb 64
	dd if=/dev/urandom of=/dev/nb bs=1M count=64 oflag=direct
	before=$(dd if=/dev/nb bs=1M count=16 iflag=direct | sha256sum)
	after=$(dd if=/dev/nb bs=1M skip=24 iflag=direct | sha256sum)
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb,start=16M,length=8M)
	[ "$(blockdev --getsize64 "$dev")" = $((8 << 20)) ]
	verify "$dev" --size=8M
	ublk-bpf del -n 0
	[ "$(dd if=/dev/nb bs=1M count=16 iflag=direct | sha256sum)" = "$before" ]
	[ "$(dd if=/dev/nb bs=1M skip=24 iflag=direct | sha256sum)" = "$after" ]
}

@test "bio_that_is_split_over_all_tags_is_served" {
	null_blk nb 64
	dev=$(ublk-bpf add loop -n 0 -d 1 -f /dev/nb)
	dd if=/dev/urandom of="$BATS_TEST_TMPDIR/data" bs=1M count=4
	dd if="$BATS_TEST_TMPDIR/data" of="$dev" bs=4M oflag=direct
	dd if="$dev" bs=4M count=1 iflag=direct | cmp - "$BATS_TEST_TMPDIR/data"
	verify "$dev" --ioengine=psync --numjobs=4 --bs=1M --size=16M --offset_increment=16M
}

@test "devices_on_each_other_are_deleted_in_any_order" {
	null_blk nb 64
	ublk-bpf add loop -n 7 -f /dev/nb
	ublk-bpf add loop -n 0 -f /dev/ublkb7
	ublk-bpf add loop -n 9 -f /dev/ublkb0
	is "$(ublk-bpf list --json -n 9 | jq -r '.[0].files[0].path')" /dev/ublkb0
	run ublk-bpf del -n 7
	[ "$status" = 1 ]
	[[ $output == *"/dev/ublkb7 is in use: /dev/ublkb0 is on it"* ]]
	ublk-bpf del -a
	is "$(ublk-bpf list --json | jq length)" 0
}

@test "who_waits_for_a_tag_keeps_nobodys_io" {
	null_blk nb 64
	ublk-bpf add loop -n 0 -d 1 -f /dev/nb
	# who finds no tag runs the queue itself, and then sleeps
	echo mq-deadline >/sys/block/ublkb0/queue/scheduler
	seeded
	fio --name=t --filename=/dev/ublkb0 --direct=1 --ioengine=psync --rw=randread --bs=4k \
		--numjobs=8 --time_based --runtime=5 --randseed="$SEED" >/dev/null 2>&1 3>&- &
	fio=$!
	for _ in $(seq 40); do
		kill -0 $fio 2>/dev/null || break
		sleep 1
	done
	if kill -0 $fio 2>/dev/null; then
		echo "it hangs"
		return 1
	fi
	wait $fio
	is "$(stat_of 0 failed)" 0
}

@test "stack_of_devices_has_a_limit_and_keeps_its_data" {
	null_blk nb 64
	lower=/dev/nb
	for id in $(seq 0 16); do
		lower=$(ublk-bpf add loop -n "$id" -f "$lower")
	done
	run ublk-bpf add loop -n 17 -f "$lower"	# ELOOP
	[ "$status" = 1 ]
	[[ $output == *"stack of more than 16 devices"* ]]
	# neither from below
	null_blk other 64
	ublk-bpf add loop -n 20 -f /dev/other
	is "$("$tools/ctrl" set 0 slot=0 fd=9 9<>/dev/ublkb20)" ELOOP
	verify "$lower" --iodepth=64 --iodepth_batch_submit=32 --io_size=1M
	# the kernel's stack has an end, too: a part of it goes by workers
	workers=$(ublk-bpf list --json | jq '[.[].stats.fwd_worker] | add')
	[ "$workers" -gt 0 ]
}

@test "flush_that_the_file_cannot_do_fails_and_ends" {
	null_blk nb 128
	background "$tools/server" 0 SERVE /dev/nb
	# which writes nothing by itself later
	mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 /dev/ublkb0
	mount /dev/ublkb0 /mnt/below
	dd if=/dev/urandom of=/mnt/below/image bs=1M count=8 conv=fsync
	dev=$(ublk-bpf add loop -n 1 -d 1 -f /mnt/below/image)
	dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct
	[ "$(stat_of 1 fwd_inline)" -gt 0 ]
	# without its program the disk below says -EOPNOTSUPP to everything
	background "$tools/loader" "$progs/complete.bpf.o" 4711
	"$tools/ctrl" attach 0 prog_id=4711
	kill -KILL "$background"
	until [ "$(ublk-bpf list --json -n 0 | jq -r '.[0].served')" = nobody ]; do
		sleep 0.1
	done
	sync "$dev"		# the block layer takes -EOPNOTSUPP for done
	[ "$(stat_of 1 failed)" -gt 0 ]
	ublk-bpf del -n 1
	umount /mnt/below
	no_background
}

@test "with_fallback_a_device_outlives_its_program" {
	null_blk nb 64
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb --fallback)
	is "$("$tools/io" "$dev" write 0 4096 pattern=1)" "ok 4096"
	is "$(stat_of 0 redirected)" 0
	bpftool link detach pinned /sys/fs/bpf/ublk-bpf/0/link
	is "$(ublk-bpf list --json -n 0 | jq -r '.[0].served')" server
	is "$("$tools/io" "$dev" read 0 4096 pattern=1)" "ok 4096"
	[ "$(stat_of 0 redirected)" -gt 0 ]
}

@test "errors_of_the_backing_come_through" {
	null_blk nb 64
	printf '%s\n' "0 65536 linear /dev/nb 0" "65536 65536 error" | dmsetup create half
	dev=$(ublk-bpf add loop -n 0 -f /dev/mapper/half)
	dd if="$dev" of=/dev/null bs=4k count=16 iflag=direct
	run dd if="$dev" of=/dev/null bs=4k count=1 skip=$((65536 / 8)) iflag=direct
	[ "$status" -ne 0 ]
	[[ $output == *"Input/output error"* ]]
	run dd if=/dev/zero of="$dev" bs=4k count=1 seek=$((65536 / 8)) oflag=direct
	[ "$status" -ne 0 ]
	# half of it is on the good side
	run dd if="$dev" of=/dev/null bs=64k count=1 iflag=direct,skip_bytes skip=$(((65536 - 64) * 512))
	[ "$status" -ne 0 ]
	dd if="$dev" of=/dev/null bs=4k count=16 iflag=direct
	[ "$(stat_of 0 failed)" -ge 3 ]
}

@test "full_file_system_is_enospc" {
	mount -t tmpfs -o size=8M full /mnt/below
	truncate -s 64M /mnt/below/image
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	run dd if=/dev/zero of="$dev" bs=1M count=16 oflag=direct
	[ "$status" -ne 0 ]
	[[ $output == *"No space left on device"* ]]
	# what is there can be read and written
	dd if=/dev/zero of="$dev" bs=1M count=1 oflag=direct
	dd if="$dev" of=/dev/null bs=1M count=64 iflag=direct
}

# a file system may say EINTR; a signal is none of its business here
@test "signals_to_the_submitter_fail_no_io" {
	image_on ext4 64M
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	trap '' USR1	# until dd handles it
	for direction in "if=$dev of=/dev/null iflag=direct" "if=/dev/zero of=$dev oflag=direct"; do
		# shellcheck disable=SC2086
		dd $direction bs=16k count=1000 2>/dev/null &
		io=$!
		while kill -USR1 $io 2>/dev/null; do :; done
		wait $io
	done
	[ "$(stat_of 0 failed)" = 0 ]
}

@test "server_that_is_killed_does_not_wait_for_a_stuck_backing" {
	null_blk nb 64
	dmsetup create stuck --table "0 131072 linear /dev/nb 0"
	dev=$(ublk-bpf add loop -n 0 -f /dev/mapper/stuck)
	server=$(ublk-bpf list --json -n 0 | jq '.[0].server_pid')
	settled "$dev"
	before=$(stat_of 0 fwd_inline)
	dmsetup suspend --noflush --nolockfs stuck
	dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct &
	reader=$!
	soon stat_reaches 0 fwd_inline $((before + 1))
	kill -KILL "$server"
	soon [ ! -d "/proc/$server" ]
	# what was sent is not lost with it
	dmsetup resume stuck
	wait $reader
	soon [ ! -e /sys/block/ublkb0 ]
}

@test "slot_is_given_back_when_its_io_has_ended" {
	null_blk nb 64
	null_blk below 64
	for new in "set 0 slot=0 fd=9" "clear 0 slot=0"; do
		dmsetup create stuck --table "0 131072 linear /dev/below 0"
		dev=$(ublk-bpf add loop -n 0 -f /dev/mapper/stuck)
		settled "$dev"
		before=$(stat_of 0 fwd_inline)
		dmsetup suspend --noflush --nolockfs stuck
		"$tools/io" "$dev" write 1M 4096 pattern=1 >"$BATS_TEST_TMPDIR/io" 3>&- &
		writer=$!
		soon stat_reaches 0 fwd_inline $((before + 1))
		# shellcheck disable=SC2086
		"$tools/ctrl" $new 9<>/dev/nb >"$BATS_TEST_TMPDIR/ctrl" 3>&- &
		changer=$!
		sleep 0.5
		kill -0 $changer
		dmsetup resume stuck
		wait $changer
		is "$(cat "$BATS_TEST_TMPDIR/ctrl")" ok
		wait $writer
		is "$(cat "$BATS_TEST_TMPDIR/io")" "ok 4096"
		is "$("$tools/io" /dev/below read 1M 4096 pattern=1)" "ok 4096"
		ublk-bpf del -n 0
		udevadm settle		# it reads what was resumed
		dmsetup remove stuck
	done
}

# The writes that the disk below /dev/mapper/$1 was given.
writes_to() { awk '{ print $5 }' "/sys/block/$(basename "$(realpath "/dev/mapper/$1")")/stat"; }

@test "data_is_right_when_slots_are_replaced_under_load" {
	null_blk nb 64 irqmode=2 completion_nsec=10000000
	for name in one two; do		# two ways to the same blocks
		dmsetup create $name --table "0 131072 linear /dev/nb 0"
	done
	ublk-bpf add loop -n 0 -f /dev/mapper/one
	verify_load /dev/ublkb0 6 --size=1M
	exec 8<>/dev/mapper/one 9<>/dev/mapper/two
	below=0
	while kill -0 "$load" 2>/dev/null; do
		below=$((below + $(awk '{ print $1 + $2 }' /sys/block/nb/inflight)))
		is "$("$tools/ctrl" set 0 slot=0 fd=9)" ok
		is "$("$tools/ctrl" set 0 slot=0 fd=8)" ok
	done
	exec 8<&- 9<&-
	load_is_verified
	[ "$below" -gt 0 ]
	is "$(stat_of 0 failed)" 0
	[ "$(writes_to one)" -gt 0 ]
	[ "$(writes_to two)" -gt 0 ]
}

@test "a_stuck_backing_is_waited_for" {
	null_blk nb 64
	dmsetup create stuck --table "0 131072 linear /dev/nb 0"
	dev=$(ublk-bpf add loop -n 0 -f /dev/mapper/stuck)
	echo 200 >/sys/block/ublkb0/queue/io_timeout
	settled "$dev"
	dmsetup suspend --noflush --nolockfs stuck
	dd if="$dev" of=/dev/null bs=4k count=4 iflag=direct,nonblock &
	reader=$!
	sleep 2
	kill -0 $reader
	dmsetup resume stuck
	wait $reader
	[ "$(stat_of 0 failed)" = 0 ]
}

@test "file_on_ext4_goes_inline_and_by_worker" {
	image_on ext4 64M
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	verify "$dev" --bsrange=4k-128k
	verify "$dev" --rw=randrw --size=32M
	[ "$(stat_of 0 fwd_inline)" -gt 0 ]
	[ "$(stat_of 0 fwd_worker)" -gt 0 ]
	[ "$(stat_of 0 redirected)" = 0 ]
	[ "$(stat_of 0 failed)" = 0 ]
}

@test "pages_of_a_file_that_was_just_made_leave_memory" {
	image_on ext4 0
	head -c 8M /dev/urandom >/mnt/below/image	# through the page cache, and not synced
	sum=$(sha256sum </mnt/below/image)
	[ "$(fincore -bn -o PAGES /mnt/below/image)" -gt 0 ]
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	is "$(fincore -bn -o PAGES /mnt/below/image | tr -d ' ')" 0
	is "$(sha256sum <"$dev")" "$sum"
}

@test "file_on_xfs_verifies" {
	image_on xfs 64M
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	verify "$dev" --bsrange=4k-128k
	verify "$dev" --direct=0 --ioengine=psync --size=16M
}

@test "file_on_tmpfs_verifies" {
	truncate -s 32M /tmp/image
	dev=$(ublk-bpf add loop -n 0 -f /tmp/image)
	verify "$dev" --bsrange=4k-128k
	ublk-bpf del -n 0
	rm /tmp/image
}

@test "file_on_a_4k_disk_makes_a_4k_device" {
	image_on ext4 64M blocksize=4096
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	[ "$(blockdev --getss "$dev")" = 4096 ]
	verify "$dev" --bsrange=4k-64k
	run dd if="$dev" of=/dev/null bs=512 count=1 iflag=direct
	[ "$status" -ne 0 ]
}

# Units of 512 bytes that the file has of its disk.
allocated() { stat -c %b /mnt/below/image; }

# MiB $2 of device $1 is zeroed in place, the two before it lose their blocks.
keeps_and_gives_back() {
	local before
	before=$(allocated)
	blkdiscard -zf -o "$2M" -l 1M "$1"
	is "$(allocated)" "$before"
	is "$("$tools/io" "$1" zeroes $(($2 - 1))M 1M)" "ok 1048576"
	is "$(allocated)" $((before - 2048))
	is "$("$tools/io" "$1" discard $(($2 - 2))M 1M)" "ok 1048576"
	is "$(allocated)" $((before - 4096))
	is "$("$tools/io" "$1" read $(($2 - 2))M 3M)" "ok 3145728"
}

@test "zeroes_keep_their_blocks_or_give_them_back" {
	image_on ext4 16M
	head -c 16M /dev/urandom >/mnt/below/image
	ublk-bpf add loop -n 0 -f /mnt/below/image
	keeps_and_gives_back /dev/ublkb0 15
	# by way of a disk
	ublk-bpf add loop -n 1 -f /dev/ublkb0
	keeps_and_gives_back /dev/ublkb1 12
	ublk-bpf del -n 1
	ublk-bpf del -n 0
	ublk-bpf add loop -n 0 --server -f /mnt/below/image
	keeps_and_gives_back /dev/ublkb0 9
}

@test "range_is_zeroed_where_no_hole_can_be_made" {
	image_on ext4 16M
	head -c 16M /dev/urandom >/mnt/below/image
	ublk-bpf add loop -n 0 -f /mnt/below/image
	before=$(allocated)
	bpftool prog loadall "$progs/no_holes.bpf.o" /sys/fs/bpf/no_holes autoattach
	run fallocate -p -o 8M -l 1M /mnt/below/image
	has "$output" "unsupported|not supported"
	is "$("$tools/io" /dev/ublkb0 zeroes 1M 1M)" "ok 1048576"
	is "$("$tools/io" /dev/ublkb0 read 1M 1M)" "ok 1048576"
	is "$(allocated)" "$before"
	has "$(filefrag -v /mnt/below/image)" unwritten
	is "$(stat_of 0 failed)" 0
}

@test "file_is_told_that_a_write_has_to_be_stable" {
	image_on ext4 16M cache_size=16 fua=1
	# nothing but the blocks themselves is to be written
	dd if=/dev/zero of=/mnt/below/image bs=1M count=16 conv=notrunc,fsync
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	nb=$(sed 's/:/,/' /sys/block/nb/dev)
	echo 1 >/sys/kernel/tracing/events/block/block_rq_issue/enable
	echo >/sys/kernel/tracing/trace
	is "$("$tools/io" "$dev" write 4096 4096 fua)" "ok 4096"
	echo 0 >/sys/kernel/tracing/events/block/block_rq_issue/enable
	grep " $nb " /sys/kernel/tracing/trace
	grep -E " $nb W(FS|SF|F) " /sys/kernel/tracing/trace
}

@test "reads_past_the_end_of_the_file_are_zeroes" {
	image_on ext4 4M
	dd if=/dev/urandom of=/mnt/below/image bs=1M count=4 conv=notrunc
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	truncate -s $((1048576 + 100)) /mnt/below/image
	{ cat /mnt/below/image; head -c $((3145728 - 100)) /dev/zero; } | sha256sum >/tmp/want
	dd if="$dev" bs=1M count=4 iflag=direct | sha256sum >/tmp/got
	diff /tmp/want /tmp/got
	dd if="$dev" bs=4k count=1024 iflag=direct | sha256sum >/tmp/got
	diff /tmp/want /tmp/got
	[ "$(stat_of 0 failed)" = 0 ]
}

@test "file_system_on_a_file_survives" {
	image_on ext4 256M
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	mkfs.ext4 -q "$dev"
	mount "$dev" /mnt/above
	cp -a driver lib cli /mnt/above/
	umount /mnt/above
	mount "$dev" /mnt/above
	diff -r driver /mnt/above/driver
	diff -r lib /mnt/above/lib
	umount /mnt/above
	fsck.ext4 -fn "$dev"
	[ "$(stat_of 0 redirected)" = 0 ]
}

@test "the_submitters_file_size_limit_is_not_the_devices" {
	image_on ext4 64M
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	(
		ulimit -f 1
		dd if=/dev/zero of="$dev" bs=4k count=4 seek=1000 oflag=direct
	)
}

@test "a_mounted_device_is_not_deleted_unless_forced" {
	image_on ext4 64M
	dev=$(ublk-bpf add loop -n 0 -f /mnt/below/image)
	mkfs.ext4 -q "$dev"
	mount "$dev" /mnt/above
	run ublk-bpf del -n 0
	[ "$status" -eq 1 ]
	[[ $output == *ublkb0* ]]
	umount /mnt/above
	ublk-bpf del -n 0
}

@test "deleting_works_when_the_server_was_killed" {
	null_blk nb 64
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb)
	dd if="$dev" of=/dev/null bs=4k count=16 iflag=direct
	kill -KILL "$(ublk-bpf list --json -n 0 | jq '.[0].server_pid')"
	sleep 1
	ublk-bpf del -n 0
	[ ! -e /dev/ublkb0 ]
	# the backing is free again
	dev=$(ublk-bpf add loop -n 0 -f /dev/nb)
}

# $1: a word the sentence must have, then the arguments
refused() {
	run ublk-bpf add loop -n 0 "${@:2}"
	echo "$output"
	[ "$status" -eq 1 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == *"$1"* ]]
	[ ! -e /dev/ublkb0 ]
	[ ! -e /dev/ublkc0 ]
}

@test "backings_that_cannot_be_used_are_refused_with_a_sentence" {
	image_on ext4 1M
	refused "no such file" -f /mnt/below/missing
	refused "directory" -f /mnt/below
	refused "empty" -f <(:) || refused "neither a regular file" -f /dev/null
	truncate -s 0 /mnt/below/empty
	refused "empty" -f /mnt/below/empty
	truncate -s 1000 /mnt/below/odd
	refused "multiple" -f /mnt/below/odd
	refused "multiple" -f /mnt/below/image,start=100
	refused "start 1048576 is outside of its 1048576 bytes; " -f /mnt/below/image,start=1M
	refused "start 512, length 1048576 is outside of its 1048576 bytes; " \
		-f /mnt/below/image,start=512,length=1M
	refused "in use" -f /dev/nb
	flock --no-fork /mnt/below/image sleep 100 &
	locker=$!
	sleep 1
	refused "locked" -f /mnt/below/image
	kill $locker
	wait $locker || true
	ublk-bpf add loop -n 1 -f /mnt/below/image
	refused "locked" -f /mnt/below/image
	null_blk other 16
	blockdev --setro /dev/other
	refused "it cannot be written: Read-only file system; add -r" -f /dev/other
	dev=$(ublk-bpf add loop -n 2 -r -f /dev/other)
	is "$(blockdev --getro "$dev")" 1
	ublk-bpf del -n 2
	blockdev --setrw /dev/other
	ublk-bpf add loop -n 2 -f /dev/other
	refused "in use" -f /dev/other
	refused "no such device" -f /dev/none
	refused "a part is FILE,start=BYTES" -f /mnt/below/image,bogus=1
}
