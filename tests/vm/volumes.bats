# Volumes over several backings, and a disk in memory: each wholly in BPF.
# shellcheck disable=SC2154 # tools and progs are common.bash's
load common

setup() {
	common_setup
	for name in a b c d; do
		null_blk $name 64 discard=1
	done
}

teardown() {
	local status=0
	common_teardown || status=1
	! mountpoint -q /mnt/below || umount /mnt/below
	dmsetup remove_all 2>/dev/null
	no_background
	return $status
}

io() { "$tools/io" "$@"; }

# The same random list on device 0 and in memory.
compared() {
	seeded
	"$tools/compare" /dev/ublkb0 seed="$SEED" "$@"
	all_in_bpf
}

all_in_bpf() {
	is "$(stat_of 0 failed)" 0
	is "$(stat_of 0 redirected)" 0
}

@test "linear_is_its_parts_one_after_the_other" {
	is "$(ublk-bpf add linear -n 0 -f /dev/a,start=1M,length=2M -f /dev/b -f /dev/c,length=4k)" /dev/ublkb0
	is "$(blockdev --getsize64 /dev/ublkb0)" $(((2 << 20) + (64 << 20) + 4096))
	is "$(io /dev/ublkb0 write 0 4096 pattern=1)" "ok 4096"
	is "$(io /dev/a read 1M 4096 pattern=1 from=0)" "ok 4096"
	# over a border, twice
	is "$(io /dev/ublkb0 write $(((2 << 20) - 4096)) 8192 pattern=2)" "ok 8192"
	is "$(io /dev/a read $(((3 << 20) - 4096)) 4096 pattern=2 from=$(((2 << 20) - 4096)))" "ok 4096"
	is "$(io /dev/b read 0 4096 pattern=2 from=2M)" "ok 4096"
	is "$(io /dev/ublkb0 write 66M 4096 pattern=3)" "ok 4096"
	is "$(io /dev/c read 0 4096 pattern=3 from=66M)" "ok 4096"
	all_in_bpf
}

@test "linear_takes_parts_of_one_disk" {
	ublk-bpf add linear -n 0 -f /dev/a,start=8M,length=1M -f /dev/a,start=1M,length=1M
	is "$(io /dev/ublkb0 write 1020k 8192 pattern=1)" "ok 8192"
	is "$(io /dev/a read $(((9 << 20) - 4096)) 4096 pattern=1 from=1020k)" "ok 4096"
	is "$(io /dev/a read 1M 4096 pattern=1 from=1M)" "ok 4096"
	ublk-bpf del -n 0
	run ublk-bpf add linear -n 0 -f /dev/b -f /dev/a,start=1M,length=1M -f /dev/a,start=1536k
	is "$status" 1
	has "$output" "/dev/a: it is named twice, and bytes 1572864 to 2097151 are in both parts"
	run ublk-bpf add stripe -n 0 -f /dev/a -f /dev/a
	is "$status" 1
	has "$output" "/dev/a: it is named twice"
}

@test "io_of_a_list_does_not_wait_for_another_backing" {
	null_blk slow 64 memory_backed=0 no_sched=1 hw_queue_depth=1 irqmode=2 completion_nsec=4000000000
	null_blk fast 64 memory_backed=0
	# in the middle, where nobody looks for a file system
	ublk-bpf add linear -n 0 -f /dev/fast -f /dev/slow -f /dev/a
	settled /dev/ublkb0
	echo 2 >/sys/block/ublkb0/queue/nomerges
	# one to the first, two to the second, which takes one at a time: the task sleeps for a tag
	fio --name=l --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --rw=read --bs=4k --iodepth=3 \
		--iodepth_batch_submit=3 --offset=$(((64 << 20) - 4096)) --size=12k 3>&- &
	soon reads_reach 2
	sleep 1
	is "$(reads_in_flight)" 2
	wait $!
	all_in_bpf
}

@test "linear_does_random_operations" {
	ublk-bpf add linear -n 0 -f /dev/a,length=1536k -f /dev/b,start=512,length=2560k -f /dev/c,length=4M
	compared zeroes
}

@test "stripe_goes_round_its_backings" {
	ublk-bpf add stripe -n 0 --chunk 16k -f /dev/a -f /dev/b,start=1M -f /dev/c
	is "$(blockdev --getsize64 /dev/ublkb0)" $((63 * 3 << 20))
	is "$(io /dev/ublkb0 write 0 64k pattern=1)" "ok 65536"
	is "$(io /dev/a read 0 16k pattern=1 from=0)" "ok 16384"
	is "$(io /dev/b read 1M 16k pattern=1 from=16k)" "ok 16384"
	is "$(io /dev/c read 0 16k pattern=1 from=32k)" "ok 16384"
	is "$(io /dev/a read 16k 16k pattern=1 from=48k)" "ok 16384"
	all_in_bpf
}

@test "stripe_does_random_operations" {
	ublk-bpf add stripe -n 0 --chunk 16k -f /dev/a -f /dev/b,start=1M -f /dev/c -f /dev/d
	compared zeroes bytes=8M
	# discards of any size are one piece a backing
	udevadm settle
	is "$(io /dev/ublkb0 discard 0 32M stats)" "ok 33554432 fwd_inline=4 fwd_bytes=33554432"
	is "$(io /dev/ublkb0 read 0 1M)" "ok 1048576"
}

# How many flushes each of the disks "$@" has had.
flushes_of() {
	local disk
	for disk; do awk '{ print $16 }' "/sys/block/$disk/stat"; done
}

# A device of target "$@" over sixteen disks, and none over seventeen.
sixteen() {
	disks=() words=()
	for i in $(seq 16); do
		null_blk "n$i" 1 discard=1 cache_size=1 3>&- &	# each waits for udev
		disks+=("n$i")
		words+=(-f "/dev/n$i")
	done
	wait
	ublk-bpf add "$@" -n 0 "${words[@]}"
	compared zeroes ops=300
	settled /dev/ublkb0
	before=$(flushes_of "${disks[@]}")
	is "$(io /dev/ublkb0 flush 0 0 stats)" "ok 0 fwd_inline=16"
	is "$(flushes_of "${disks[@]}")" "$(awk '{ print $1 + 1 }' <<<"$before")"
	ublk-bpf del -n 0
	run ublk-bpf add "$@" -n 0 "${words[@]}" -f /dev/a
	is "$status" 1
	has "$output" "17 files are given; name [12] to 16 by -f"
}

@test "linear_over_sixteen_is_written_and_flushed" { sixteen linear; }
@test "stripe_over_sixteen_is_written_and_flushed" { sixteen stripe --chunk 16k; }

@test "files_and_disks_are_mixed" {
	mkdir -p /mnt/below
	mkfs.ext4 -q /dev/d
	mount /dev/d /mnt/below
	truncate -s 1M /mnt/below/one /mnt/below/two
	for words in "linear -f /mnt/below/one,length=192k -f /dev/a,length=192k -f /mnt/below/two,start=4k,length=64k
			-f /dev/b,start=512,length=320k -f /mnt/below/one,start=512k" \
		"stripe --chunk 16k -f /mnt/below/one -f /mnt/below/two" \
		"stripe --chunk 16k -f /dev/a -f /mnt/below/one -f /dev/b -f /mnt/below/two"; do
		# shellcheck disable=SC2086
		ublk-bpf add -n 0 $words
		compared zeroes ops=500
		ublk-bpf del -n 0
	done
}

# What the queue of disk $1 says of itself.
limits_of() {
	(cd "/sys/block/$1/queue" && cat logical_block_size physical_block_size discard_granularity \
		discard_max_hw_bytes dma_alignment stable_writes fua write_cache) | paste -sd ' '
}

@test "limits_of_the_backings_are_stacked" {
	null_blk fourk 64 discard=1 blocksize=4096
	# what device mapper is on
	echo 1 >/sys/block/b/queue/stable_writes
	dmsetup create mapped --table "0 131072 linear /dev/b 0"
	# file systems that give back pages, and large ones
	mkdir -p /mnt/below
	mount -t tmpfs -o huge=always none /mnt/below
	truncate -s 4M /tmp/image /mnt/below/image
	align=$(cat /sys/block/a/queue/dma_alignment)	# ublk's own is 3
	[ "$align" -ge 3 ] || align=3
	while read -r limits words; do
		# shellcheck disable=SC2086
		ublk-bpf add -n 0 $words
		is "$(limits_of ublkb0)" "${limits//,/ } 1 write back"
		# Linux 6.12's null_blk with blocks of a page writes past the page otherwise
		compared zeroes pages bytes=8M ops=300
		ublk-bpf del -n 0
	done <<-END
		512,512,512,$((1 << 30)),$align,0 linear -f /dev/a -f /dev/c
		512,512,512,$((1 << 30)),511,1 linear -f /dev/mapper/mapped -f /dev/c
		512,4096,4096,$((1 << 30)),511,0 linear -f /tmp/image -f /dev/a
		512,512,2097152,$((1 << 30)),511,0 linear -f /mnt/below/image -f /dev/a
		4096,4096,4096,$((1 << 30)),511,1 linear -f /dev/fourk,length=1M -f /dev/mapper/mapped,length=1M -f /dev/a
		4096,4096,4096,$((1 << 30)),511,1 stripe -f /dev/mapper/mapped -f /dev/fourk -f /dev/a
	END
	rm /tmp/image
	run ublk-bpf add linear -n 0 -f /dev/a,length=512 -f /dev/fourk
	is "$status" 1
	has "$output" "the part of /dev/a ends within a block of 4096 bytes"
}

@test "loop_does_random_operations_on_a_disk" {
	ublk-bpf add loop -n 0 -f /dev/a
	compared zeroes bytes=8M
}

@test "loop_does_random_operations_on_files" {
	mkdir -p /mnt/below
	# tmpfs and ext3 cannot zero a range
	for fs in ext4 xfs btrfs ext3 tmpfs; do
		case $fs in
		tmpfs) mount -t tmpfs none /mnt/below ;;
		*)
			null_blk fs 512
			"mkfs.$fs" -q /dev/fs
			mount /dev/fs /mnt/below
			;;
		esac
		truncate -s 16M /mnt/below/image
		ublk-bpf add loop -n 0 -f /mnt/below/image
		compared zeroes bytes=8M ops=500
		ublk-bpf del -n 0
		umount /mnt/below
		[ $fs = tmpfs ] || no_null_blk fs
	done
}

# It may be a disk of the server's own, which could not end while a submitter waits for that.
@test "file_is_a_workers_where_its_file_system_does_not_say_what_it_is_on" {
	null_blk fs 512
	mkfs.btrfs -q /dev/fs
	mkdir -p /mnt/below
	mount /dev/fs /mnt/below
	truncate -s 1M /mnt/below/image
	ublk-bpf add loop -n 0 -f /mnt/below/image
	is "$(io /dev/ublkb0 write 0 4096 pattern=1)" "ok 4096"
	is "$(io /dev/ublkb0 read 0 4096 pattern=1)" "ok 4096"
	all_in_bpf
	case $(uname -r) in
	6.12*) is "$(stat_of 0 fwd_inline)" 0 ;;
	esac
}

# vfat has files whose blocks can neither be given back nor zeroed.
@test "zeroes_are_written_where_a_file_system_knows_no_other_way" {
	mkdir -p /mnt/below
	busybox mkdosfs /dev/d
	mount -t vfat /dev/d /mnt/below
	truncate -s 8M /mnt/below/image
	ublk-bpf add loop -n 0 -f /mnt/below/image
	is "$(io /dev/ublkb0 write 1M 256k pattern=5)" "ok 262144"
	is "$(io /dev/ublkb0 zeroes $(((1 << 20) + 512)) $((200 << 10)))" "ok 204800"
	is "$(io /dev/ublkb0 read $(((1 << 20) + 512)) $((200 << 10)))" "ok 204800"
	is "$(io /dev/ublkb0 read 1M 512 pattern=5)" "ok 512"
	is "$(io /dev/ublkb0 read $(((1 << 20) + (200 << 10) + 512)) 512 pattern=5)" "ok 512"
	all_in_bpf
	# nothing is discarded: that is allowed, and an error
	seeded
	"$tools/compare" /dev/ublkb0 seed="$SEED" ops=500
}

@test "zeroes_are_written_where_a_disk_has_no_command_for_it" {
	ublk-bpf add loop -n 0 -f /dev/a
	is "$(cat /sys/block/a/queue/write_zeroes_max_bytes)" 0
	is "$(io /dev/ublkb0 write 1M 64k pattern=5)" "ok 65536"
	is "$(io /dev/ublkb0 zeroes 1M 64k)" "ok 65536"
	is "$(io /dev/a read 1M 64k)" "ok 65536"
	stat_reaches 0 fwd_worker 1
	all_in_bpf
}

@test "disk_without_discard_makes_a_device_without" {
	null_blk e 64
	ublk-bpf add loop -n 0 -f /dev/e
	is "$(cat /sys/block/ublkb0/queue/discard_max_bytes)" 0
	ublk-bpf add linear -n 1 -f /dev/a -f /dev/ublkb0
	is "$(cat /sys/block/ublkb1/queue/discard_max_bytes)" 0
	ublk-bpf del -n 1
	ublk-bpf add loop -n 1 -f /dev/a
	[ "$(cat /sys/block/ublkb1/queue/discard_max_bytes)" -gt 0 ]
	# and takes none in its place
	is "$("$tools/ctrl" set 1 slot=0 fd=9 9<>/dev/ublkb0)" EINVAL
	is "$("$tools/ctrl" clear 1 slot=0)" ok
	is "$("$tools/ctrl" set 1 slot=0 fd=9 9<>/dev/ublkb0)" EINVAL
	is "$("$tools/ctrl" set 1 slot=0 fd=9 9<>/dev/a)" ok
}

@test "ram_does_random_operations" {
	ublk-bpf add ram -n 0 -s 8M
	compared zeroes
	is "$(io /dev/ublkb0 write 512 512 pattern=1)" "ok 512"
	is "$(io /dev/ublkb0 read 512 512 pattern=1)" "ok 512"
}

@test "servers_do_the_same_as_programs" {
	for words in "linear -f /dev/a,length=1M -f /dev/b,length=3M" "stripe -f /dev/a -f /dev/b -f /dev/c" "loop -f /dev/a"; do
		# shellcheck disable=SC2086
		ublk-bpf add -n 0 --server $words
		seeded
		"$tools/compare" /dev/ublkb0 seed="$SEED" bytes=4M ops=300 zeroes
		ublk-bpf del -n 0
	done
}

@test "wrong_volumes_are_refused_with_a_sentence" {
	run ublk-bpf add stripe -f /dev/a
	is "$status" 1
	has "$output" "1 files are given; name 2 to 16 by -f"
	run ublk-bpf add stripe -f /dev/a -f /dev/b --chunk 48k
	is "$status" 1
	has "$output" "a chunk is a power of two from 4k to 512M; use --chunk 64k"
	run ublk-bpf add stripe -f /dev/a,length=16k -f /dev/b
	is "$status" 1
	has "$output" "smaller than a chunk of 65536 bytes"
	run ublk-bpf add linear
	is "$status" 1
	has "$output" "0 files are given; name 1 to 16 by -f"
	run ublk-bpf add linear -f /dev/a,length=512 -f /dev/no_such_disk
	is "$status" 1
	has "$output" "there is no such device or file; check its name"
	run ublk-bpf add ram -s 16T
	is "$status" 1
	has "$output" "at most 8T can be had"
}

# Device 0 of the example $1 over $2.
example() {
	local object=$BATS_FILE_TMPDIR/$1.bpf.o
	[ -e "$object" ] || clang -O2 -g -target bpf -Iinclude "-I/usr/include/$(uname -m)-linux-gnu" \
		-c "examples/$1.bpf.c" -o "$object"
	ublk-bpf add prog -n 0 -o "$object" -f "$2"
}

@test "guard_example_refuses_writes_to_the_start" {
	example guard /dev/a
	is "$(io /dev/ublkb0 write 1020k 4096)" EIO
	is "$(io /dev/ublkb0 write 1M 4096 pattern=1)" "ok 4096"
	is "$(io /dev/ublkb0 read 1M 4096 pattern=1)" "ok 4096"
	settled /dev/ublkb0
	# which has no place in the backing, whatever its program says
	is "$(io /dev/ublkb0 flush 0 0 stats)" "ok 0 fwd_inline=1"
}

@test "checksum_example_finds_what_was_changed_below" {
	example checksum /dev/a
	is "$(io /dev/ublkb0 write 1M 64k pattern=1)" "ok 65536"
	is "$(io /dev/ublkb0 read 1M 64k pattern=1)" "ok 65536"
	# a sector changes behind its back
	is "$(io /dev/a write $(((1 << 20) + 8192)) 512 pattern=2)" "ok 512"
	is "$(io /dev/ublkb0 read 1M 64k pattern=1)" EILSEQ
	is "$(io /dev/ublkb0 read 1M 8192 pattern=1)" "ok 8192"
	is "$(io /dev/ublkb0 write $(((1 << 20) + 8192)) 512 pattern=1)" "ok 512"
	is "$(io /dev/ublkb0 read 1M 64k pattern=1)" "ok 65536"
}

@test "checksum_example_does_random_operations" {
	example checksum /dev/a
	seeded
	"$tools/compare" /dev/ublkb0 seed="$SEED" bytes=1M max=64k ops=300
}

@test "checksum_example_knows_no_sum_of_a_write_that_failed" {
	modprobe dm-flakey
	is "$(io /dev/a write 1M 64k pattern=1)" "ok 65536"
	dmsetup create unwritable --table "0 131072 flakey /dev/a 0 0 1 1 error_writes"
	example checksum /dev/mapper/unwritable
	is "$(io /dev/ublkb0 write 1M 64k pattern=2)" EIO
	is "$(io /dev/ublkb0 read 1M 64k pattern=1)" "ok 65536"
}

@test "polled_io_is_refused_as_by_any_disk_without" {
	null_blk polled 64 poll_queues=1
	ublk-bpf add loop -n 0 -f /dev/polled
	is "$(cat /sys/block/ublkb0/queue/io_poll)" 0
	words="--filename=/dev/ublkb0 --direct=1 --rw=read --bs=4k --size=1M --hipri"
	# shellcheck disable=SC2086
	run fio --name=p --ioengine=io_uring $words
	[ "$status" -ne 0 ]
	has "$output" "Operation not supported"
	# who only prefers it, does without
	# shellcheck disable=SC2086
	fio --name=p --ioengine=pvsync2 $words
	all_in_bpf
}

# Device $1 has done more than what reads a new disk does.
works() { [ "$(awk '{ print $1 + $5 }' "/sys/block/ublkb$1/stat")" -ge 1000 ]; }

@test "stats_show_what_was_done_and_which_way" {
	mkfs.ext4 -q /dev/b
	mkdir -p /mnt/below
	mount /dev/b /mnt/below
	truncate -s 16M /mnt/below/image
	ublk-bpf add loop -n 0 -f /dev/a
	ublk-bpf add null -n 1
	ublk-bpf add loop -n 2 -f /mnt/below/image --buffered
	ublk-bpf add prog -n 3 -o "$progs/three.bpf.o" --ops server_ops -f /dev/c
	udevadm settle
	fio --direct=1 --ioengine=io_uring --rw=randread --bs=4k --iodepth=8 --time_based \
		--runtime=600 --size=16M --name=l --filename=/dev/ublkb0 --name=n --filename=/dev/ublkb1 \
		--name=b --filename=/dev/ublkb2 --rw=randwrite --name=s --filename=/dev/ublkb3 \
		--rw=randread >"$BATS_TEST_TMPDIR/fio" 2>&1 3>&- &
	load=$!
	for id in 0 1 2 3; do
		soon works $id
	done
	ublk-bpf stats -i 1 -c 2 --json >"$BATS_TEST_TMPDIR/stats"
	ublk-bpf stats -i 1 -c 1 >"$BATS_TEST_TMPDIR/table"
	kill $load
	wait $load || true
	# of each second all of one device's went one way
	is "$(jq -s '.[-1] | map(select(.io > 0 and .failed == 0)) | length' "$BATS_TEST_TMPDIR/stats")" 4
	is "$(jq -cs '.[-1] | [.[0].fwd_inline, .[1].done, .[2].fwd_worker, .[3].redirected] == map(.io)' "$BATS_TEST_TMPDIR/stats")" true
	is "$(jq -s '.[-1][0] | (.bytes / 4096 - .io | fabs) <= 8' "$BATS_TEST_TMPDIR/stats")" true
	has "$(cat "$BATS_TEST_TMPDIR/table")" "^ +0 +[0-9]+ +[0-9.]+ +0.00 +100.00 +0.00 +0.00 +0$"
	has "$(cat "$BATS_TEST_TMPDIR/table")" "^ +1 +[0-9]+ +[0-9.]+ +100.00 +0.00 +0.00 +0.00 +0$"
	has "$(cat "$BATS_TEST_TMPDIR/table")" "^ +2 +[0-9]+ +[0-9.]+ +0.00 +0.00 +100.00 +0.00 +0$"
	has "$(cat "$BATS_TEST_TMPDIR/table")" "^ +3 +[0-9]+ +[0-9.]+ +0.00 +0.00 +0.00 +100.00 +0$"
	ublk-bpf del -n 2
	umount /mnt/below
}
