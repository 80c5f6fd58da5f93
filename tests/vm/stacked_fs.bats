# File systems over file systems, through a device that forwards in the submitter's
# context: that one may hold the upper file system's locks, be in its reclaim, have
# a limit of its own, and it is the one to pay.
# shellcheck disable=SC2154 # tools, progs are common.bash's
load common

setup() {
	common_setup
	mkdir -p /mnt/below /mnt/above
}

teardown() {
	local status=0
	umount /mnt/above 2>/dev/null || true
	common_teardown || status=1
	umount /mnt/hog 2>/dev/null || true
	umount /mnt/below || true
	no_null_blk below
	[ ! -d $cgroup ] || rmdir $cgroup
	return $status
}

# File system $1 on device 0 over a file on file system $2.
stack() {
	null_blk below 768
	"mkfs.$2" -q /dev/below
	mount /dev/below /mnt/below
	truncate -s 512M /mnt/below/image
	ublk-bpf add loop -n 0 -f /mnt/below/image
	"mkfs.$1" -q /dev/ublkb0
	mount /dev/ublkb0 /mnt/above
}

# Four kinds of load at once, each verified, with words "$@" for all of them.
load_of_all_kinds() {
	seeded
	fio --directory=/mnt/above --size=8M --bs=4k --rw=randwrite --verify=crc32c \
		--verify_fatal=1 --verify_state_save=0 --randseed="$SEED" "$@" \
		--name=direct --direct=1 --ioengine=io_uring --iodepth=16 \
		--name=buffered --ioengine=psync --fsync=256 \
		--name=mmap --ioengine=mmap \
		--name=stable --ioengine=psync --sync=1 --size=1M
}

# It is all there when it comes from the disk again, and both file systems are well.
sound() {
	local sums
	sums=$(md5sum /mnt/above/*.0.0)
	umount /mnt/above
	mount /dev/ublkb0 /mnt/above
	md5sum -c --quiet <<<"$sums"
	umount /mnt/above
	check "$1" /dev/ublkb0
	is "$(stat_of 0 failed)" 0
	stat_reaches 0 fwd_inline 1
	stat_reaches 0 fwd_worker 1
	ublk-bpf del -n 0
	umount /mnt/below
	check "$2" /dev/below
	mount /dev/below /mnt/below
}

check() {
	case $1 in
	ext4) e2fsck -fn "$2" ;;
	xfs) xfs_repair -n "$2" ;;
	esac
}

@test "ext4_over_ext4" { stack ext4 ext4; load_of_all_kinds; sound ext4 ext4; }

@test "xfs_over_ext4" { stack xfs ext4; load_of_all_kinds; sound xfs ext4; }

@test "ext4_over_xfs" { stack ext4 xfs; load_of_all_kinds; sound ext4 xfs; }

# $1 with ext4 over ext4, and with FULL=1 with the other pairs.
on_each_stack() {
	local pair upper lower
	for pair in "ext4 ext4" ${FULL:+"xfs ext4" "ext4 xfs"}; do
		read -r upper lower <<<"$pair"
		echo "$upper over $lower"
		stack "$upper" "$lower"
		"$1"
		sound "$upper" "$lower"
		umount /mnt/below
		no_null_blk below
	done
}

# Pages that were looked at to make room.
scanned() { awk '/^pgscan_(kswapd|direct) / { pages += $2 } END { print pages }' /proc/vmstat; }

# What a file system keeps in memory has to be written to make room, through us.
load_without_memory() {
	local available spare=80 before
	# KASAN keeps back what is freed: with less even init gets none
	[ "$KERNEL" != debug ] || spare=240
	mkdir -p /mnt/hog
	mount -t tmpfs -o size=90% none /mnt/hog
	available=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
	fallocate -l $((available - spare))M /mnt/hog/hog
	before=$(scanned)
	load_of_all_kinds --size=24M --verify=0
	[ "$(scanned)" -gt "$before" ]
	umount /mnt/hog
}

@test "memory_is_short" { on_each_stack load_without_memory; }

cgroup=/sys/fs/cgroup/ublk-bpf

# What group $cgroup wrote to /dev/below until now.
wbytes() {
	local dev
	dev=$(tr -d '\n' </sys/block/below/dev)
	awk -v dev="$dev" '$1 == dev { sub(".*wbytes=", ""); bytes = $1 } END { print bytes + 0 }' \
		$cgroup/io.stat
}

# $1 bytes more than at the last question.
written() {
	local now
	now=$(wbytes)
	is $((now - before)) "$1"
	before=$now
}

# Run "$@" as a member of the group.
in_group() { "$BASH" -c 'echo 0 >"$0/cgroup.procs"; exec "$@"' $cgroup "$@"; }

@test "io_is_accounted_to_the_submitter" {
	stack ext4 xfs
	umount /mnt/above
	# what mkfs has written is there: an I/O to it waits for nothing
	fallocate -z -l 4M -o 64M /mnt/below/image
	fio --name=fill --filename=/dev/ublkb0 --direct=1 --rw=write --bs=1M --offset=64M --size=4M
	sync
	echo +io >/sys/fs/cgroup/cgroup.subtree_control
	mkdir $cgroup
	before=0
	inline=$(stat_of 0 fwd_inline)
	is "$(in_group "$tools/io" /dev/ublkb0 write 64M 1M)" "ok 1048576"
	stat_reaches 0 fwd_inline $((inline + 1))
	written 1048576
	# a hole is for a worker
	worker=$(stat_of 0 fwd_worker)
	is "$(in_group "$tools/io" /dev/ublkb0 write 300M 1M)" "ok 1048576"
	stat_reaches 0 fwd_worker $((worker + 1))
	written 1048576
}

# At least what it writes past the page cache, which another may write back.
load_in_group() {
	local before
	mkdir $cgroup
	before=$(wbytes)
	in_group "$BASH" -c 'load_of_all_kinds'
	[ "$(wbytes)" -ge $((before + (8 << 20))) ]
	rmdir $cgroup
}

@test "load_is_accounted_to_its_group" {
	echo +io >/sys/fs/cgroup/cgroup.subtree_control
	export -f load_of_all_kinds seeded
	on_each_stack load_in_group
}

# Above the limit of the files that it writes, far below that of the one below.
load_below_a_limit() { (ulimit -f 16384; load_of_all_kinds); }

@test "limit_of_the_submitter_is_not_the_files" {
	on_each_stack load_below_a_limit
	stack ext4 ext4
	umount /mnt/above
	is "$(ulimit -f 1; "$tools/io" /dev/ublkb0 write 300M 64k)" "ok 65536"
	is "$(stat_of 0 failed)" 0
}
