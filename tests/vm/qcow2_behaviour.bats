# What QEMU's own tests of qcow2 images show, as far as a disk can: docs/qcow2.md has the table.
# gate: 6.12 (what the image is is the same on all; qcow2.bats is gone through on 7.3)
load qcow2_image

@test "whole_disk_is_read_written_and_read" {
	image cluster_size=64k 16M
	model 16M
	device
	ok /dev/ublkb0 read 0 16M
	both write 0 16M pattern=1
	ok /dev/ublkb0 read 0 16M pattern=1
	# from several buffers
	both write 7M 56k pattern=2 iovs=7
	ok /dev/ublkb0 read 7M 56k pattern=2 iovs=7
	same
	# many at a time
	for disk in /dev/ublkb0 model; do
		fio --name=w --filename=$disk --direct=1 --ioengine=io_uring --rw=write --bs=128k \
			--iodepth=32 --size=16M --buffer_pattern=0x0a
	done
	compared
}

@test "parts_of_sectors_are_written_by_the_page_cache" {
	image cluster_size=64k 1M
	model 1M
	device
	both write 0 1M pattern=1
	for part in "66 42" "512 288" "800 224" "66000 131072" "262144 42" "1048500 76"; do
		head -c "${part#* }" /dev/urandom >part
		for disk in /dev/ublkb0 model; do
			dd if=part of=$disk bs=256k seek="${part% *}" oflag=seek_bytes \
				conv=notrunc,fsync status=none
		done
	done
	compared
}

@test "nothing_is_read_or_written_behind_the_end" {
	size=$((1048576 + 512))
	image cluster_size=64k $size
	device
	is "$(blockdev --getsize64 /dev/ublkb0)" $size
	ok /dev/ublkb0 write $((size - 512)) 512 pattern=1
	is "$(io /dev/ublkb0 write $((size - 4096)) 8192 pattern=2)" "short 4096"
	is "$(io /dev/ublkb0 read $((size - 4096)) 8192 nocheck)" "short 4096"
	ok /dev/ublkb0 read $((size - 4096)) 4096 pattern=2
	for at in $size $((size + 1048576)); do
		is "$(io /dev/ublkb0 write "$at" 4096)" ENOSPC
		is "$(io /dev/ublkb0 read "$at" 4096)" "short 0"
		is "$(io /dev/ublkb0 zeroes "$at" 4096)" EINVAL
		is "$(io /dev/ublkb0 discard "$at" 4096)" EINVAL
	done
	clean
}

@test "writes_that_overlap_and_allocate_leave_a_clean_image" {
	image cluster_size=64k 6G
	device
	for at in 1 2 3 4; do
		from=$((at << 20))
		at_once "write $from 1M pattern=1" "write $((from + 512)) 1M pattern=2"
		ok /dev/ublkb0 read $from 512 pattern=1
		ok /dev/ublkb0 read $((from + (1 << 20))) 512 pattern=2
	done
	is "$(of failed)" 0
	clean
}

@test "image_that_cannot_be_written_is_read" {
	image cluster_size=64k 1M
	qemu-io -f qcow2 -c "write -q -P 7 64k 64k" image
	modelled
	chattr +i image
	run ublk-bpf add qcow2 -n 0 -f image
	is "$status" 1
	has "$output" "cannot add qcow2 over image: .*it cannot be written: .*; add -r"
	device -r
	same
	ublk-bpf del -n 0
	chattr -i image
}

# POS and BYTES, a line each, in clusters of $2 from $1 on: a whole one, one's end, one's start,
# the middle of one, several, and those over the end of an L2 table.
parts() {
	local at=$1 c=$2 reach=$(($2 * $2 / 8))
	echo "$at $c"
	echo $((at + 4 * c + c / 2)) $((c / 2))
	echo $((at + 8 * c)) $((c / 2))
	echo $((at + 12 * c + c / 4)) $((c / 2))
	echo $((at + 16 * c + c / 2)) $((2 * c))
	echo $(((at / reach + 1) * reach + at % c - c - c / 2)) $((3 * c))
}

# $1 with pattern $3 those of clusters of $2 at the start and at 4 GiB, or $4 behind that.
each_part() {
	local base
	for base in 0 $((4 << 30)); do
		parts $((base + ${4:-0})) "$2" | while read -r at bytes; do
			ok /dev/ublkb0 "$1" "$at" "$bytes" pattern="$3"
		done
	done
}

# Those of clusters of $1 bytes; compressed then, and with writes that begin within that.
all_parts() {
	image cluster_size="$1" 6G
	device
	each_part write "$1" 1
	each_part read "$1" 1
	clean
	qemu-img convert -O qcow2 -c -o cluster_size="$1" image packed
	mv packed image
	device
	each_part read "$1" 1
	each_part write "$1" 2 512
	each_part read "$1" 2 512
	is "$(of failed)" 0
	clean
}

@test "parts_of_small_clusters_and_the_ends_of_tables" {
	all_parts 2048
}

@test "parts_of_clusters_and_the_ends_of_tables" {
	all_parts 65536
}

@test "clusters_of_all_kinds_beside_each_other_and_snapshots_of_them" {
	image cluster_size=4k 2M
	# of nine: two used, a free, a used, two compressed, two free, a compressed one
	commands=()
	for at in $(seq 0 9 72); do
		commands+=(-c "write -q -P 1 $((at * 4))k 8k" -c "write -q -P 2 $((at * 4 + 12))k 4k"
			-c "write -q -c -P 3 $((at * 4 + 16))k 4k" -c "write -q -c -P 4 $((at * 4 + 20))k 4k"
			-c "write -q -c -P 5 $((at * 4 + 32))k 4k")
	done
	qemu-io -f qcow2 "${commands[@]}" image
	modelled
	pattern=1
	for taken in none first second; do
		if [ $taken != none ]; then
			qemu-img snapshot -c $taken image
			cp model $taken
		fi
		device
		same
		for at in 1 4 14 32; do
			both write $((at * 4096 - 1024)) 6144 pattern=$((pattern++))
		done
		compared
	done
	for taken in first second; do
		qemu-img convert -f qcow2 -l $taken -O raw image was
		cmp $taken was
	done
}

@test "device_that_is_deleted_under_writes_leaves_a_clean_image" {
	image cluster_size=64k 64M
	device
	fio --name=w --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=256k \
		--iodepth=16 --time_based --runtime=60 >fio.log 2>&1 3>&- &
	allocates() { [ "$(of redirected)" -ge 20 ]; }
	soon allocates
	ublk-bpf del --force -n 0
	wait $! || true
	qemu-img check image
}

@test "writes_to_many_tables_at_once" {
	image cluster_size=512 6G
	device --cache 4k
	seq 0 63 | xargs -P 8 -I{} "$CHECKOUT/$tools/io" /dev/ublkb0 write {}M 512 pattern=1 >said
	is "$(sort -u said)" "ok 512"
	seq 0 63 | xargs -P 8 -I{} "$CHECKOUT/$tools/io" /dev/ublkb0 read {}M 512 pattern=1 >said
	is "$(sort -u said)" "ok 512"
	is "$(of failed)" 0
	clean
}

# Words of a write for $2 units from unit $1 on, with pattern $3; a cluster has 16 of $unit.
part() { echo "write $(($1 * unit)) $(($2 * unit)) pattern=$3"; }

# In clusters of $1 bytes over a backing file.
at_once_in_clusters() {
	unit=$(($1 / 16))
	image_over_a_base cluster_size="$1" $((16 * $1))
	qemu-io -f qcow2 -c "write -q -c -P 1 $((240 * unit)) $1" image
	modelled
	device
	# in the middle, before that and behind it
	both_at_once "$(part 24 2 2)" "$(part 18 2 3)" "$(part 28 2 4)"
	# one after the other into the next cluster, without a gap and with one
	both_at_once "$(part 40 2 5)" "$(part 42 16 6)"
	both_at_once "$(part 72 2 7)" "$(part 76 16 8)"
	# into one that is there
	both write $((118 * unit)) $((8 * unit)) pattern=9
	both_at_once "$(part 102 2 10)" "$(part 106 14 11)"
	# backwards
	both_at_once "$(part 156 2 12)" "$(part 132 24 13)"
	both_at_once "$(part 188 2 14)" "$(part 164 20 15)"
	# one after the other into a compressed one
	both_at_once "$(part 232 2 18)" "$(part 234 16 19)"
	# in the middle, and a larger one over it: what both write is one of them
	at_once "$(part 200 2 20)" "$(part 196 10 21)"
	# shellcheck disable=SC2046
	ok model $(part 196 10 21)
	# shellcheck disable=SC2046
	[[ $(io /dev/ublkb0 read $((200 * unit)) $((2 * unit)) pattern=20) != "ok "* ]] ||
		ok model $(part 200 2 20)
	# where it was zeroed
	discard $((208 * unit)) $((16 * unit))
	both_at_once "$(part 209 2 16)" "$(part 213 2 17)"
	compared
}

@test "writes_at_once_to_the_same_clusters" {
	at_once_in_clusters 65536
}

@test "writes_at_once_to_the_same_large_clusters" {
	at_once_in_clusters 2097152
}

@test "write_over_a_hole_between_clusters" {
	image cluster_size=64k 2M
	model 2M
	device
	both write 0 320k pattern=1
	both write 320k 128k pattern=2
	both write 1M 128k pattern=3
	both write 448k 128k pattern=4
	discard 320k 128k
	both write 0 480k pattern=5
	compared
}

@test "image_in_the_disk_of_an_image" {
	image cluster_size=64k 64M
	device
	settled /dev/ublkb0
	qemu-img create -q -f qcow2 -o cluster_size=4k /dev/ublkb0 8M
	is "$(ublk-bpf add qcow2 -n 1 -f /dev/ublkb0)" /dev/ublkb1
	seeded
	"$CHECKOUT/$tools/compare" /dev/ublkb1 seed="$SEED" ops=200
	ok /dev/ublkb1 write 1M 64k pattern=1
	ok /dev/ublkb1 read 1M 64k pattern=1
	# there is one disk in each of them, not more
	is "$(dd if=/dev/ublkb0 bs=4k count=1 iflag=direct status=none | head -c 3)" QFI
	ublk-bpf del -n 1
	qemu-img check -f qcow2 /dev/ublkb0
	clean
}

@test "one_read_over_clusters_of_all_kinds" {
	# each of unallocated, data, compressed and zero after each other
	image_over_a_base cluster_size=64k 1M
	at=0 commands=()
	for kind in data none data packed data zero none packed none zero packed zero data; do
		case $kind in
		data) commands+=(-c "write -q -P $((at + 10)) $((at * 64))k 64k") ;;
		packed) commands+=(-c "write -q -c -P $((at + 10)) $((at * 64))k 64k") ;;
		zero) commands+=(-c "write -q -z $((at * 64))k 64k") ;;
		esac
		at=$((at + 1))
	done
	qemu-io -f qcow2 "${commands[@]}" image
	modelled
	device
	for at in $(seq 0 65536 720896); do
		same_at "$at" 131072
	done
	same
	both write 32k 800k pattern=2
	compared
}

@test "preallocated_images_of_small_and_large_clusters" {
	for cluster in 16k 256k 2M; do
		image cluster_size=$cluster,preallocation=metadata 64M
		before=$(allocated)
		device
		for at in 0 33000448 67100672; do
			ok /dev/ublkb0 read $at 8k
			ok /dev/ublkb0 write $at 8k pattern=1
			ok /dev/ublkb0 read $at 8k pattern=1
		done
		clean
		is "$(allocated)" "$before"
	done
}

@test "disk_is_as_large_as_the_image_says" {
	# QEMU makes whole sectors of them
	for size in 1024:1024 1234:1536 65537:66048; do
		image cluster_size=64k ${size%:*}
		size=${size#*:}
		device
		is "$(blockdev --getsize64 /dev/ublkb0)" "$size"
		ok /dev/ublkb0 write $((size - 512)) 512 pattern=1
		ok /dev/ublkb0 read $((size - 512)) 512 pattern=1
		clean
		qemu-img info --output=json image | jq -e ".\"virtual-size\" == $size"
	done
}

@test "disk_of_16_tebibytes" {
	image cluster_size=64k 16T
	device
	high=$((14 << 40))
	for at in 0 8192 $high $(((16 << 40) - 4096)); do
		ok /dev/ublkb0 read "$at" 4096
		ok /dev/ublkb0 write "$at" 4096 pattern=1
	done
	for at in 8192 $high $(((16 << 40) - 4096)); do
		ok /dev/ublkb0 read "$at" 4096 pattern=1
	done
	ok /dev/ublkb0 read $((high + 4096)) 4096
	clean
}

@test "l1_table_is_written_without_rubbish" {
	image cluster_size=64k 64k
	device
	ok /dev/ublkb0 write 0 64k pattern=1
	clean
	at=$(l1)
	[ "$(l2)" -gt 0 ]
	is "$(tail -c +$((at + 9)) image | head -c 65528 | tr -d '\0' | wc -c)" 0
}

@test "refcounts_of_1_2_and_64_bits" {
	# no two compressed clusters can share one of the file
	image refcount_bits=1 1M
	qemu-io -f qcow2 -c "write -q -c -P 1 0 64k" -c "write -q -c -P 2 64k 64k" image
	modelled
	device
	both write 32k 64k pattern=3
	compared
	# as many snapshots as can be counted
	image refcount_bits=2 1M
	qemu-io -f qcow2 -c "write -q -P 1 0 64k" image
	qemu-img snapshot -c one image
	qemu-img snapshot -c two image
	modelled
	cp model taken
	device
	both write 4k 8k pattern=1
	compared
	qemu-img convert -f qcow2 -l one -O raw image was
	cmp taken was
	# the highest bit of one is set: others have the cluster, too, whoever they are
	image refcount_bits=64 1M
	qemu-io -f qcow2 -c "write -q -P 1 0 64k" image
	modelled
	data=$((0x$(hex "$(l2)") & 0xfffffffffffe00))
	poke $(($(refcount_block) + 8 * (data >> 16))) $((1 << 63))
	poke "$(l2)" $data
	device
	both write 4k 8k pattern=1
	same
	ublk-bpf del -n 0
	[ $((0x$(hex "$(l2)") & 0xfffffffffffe00)) -ne $data ]
	is "$(hex $(($(refcount_block) + 8 * (data >> 16))))" 7fffffffffffffff
	qemu-img compare -f qcow2 -F raw image model
}

@test "refcount_blocks_that_do_not_count_themselves" {
	# the L1 table takes 128 clusters, a block counts 64
	image cluster_size=512,refcount_bits=64 256M
	device
	seeded
	"$CHECKOUT/$tools/compare" /dev/ublkb0 seed="$SEED" ops=200 max=16k bytes=4M
	is "$(of failed)" 0
	clean
}

@test "table_of_refcounts_grows_under_writes" {
	# the first table is of one cluster: it can count 2 MiB
	for preallocation in off metadata; do
		image cluster_size=512,refcount_bits=64,preallocation=$preallocation 1800k
		qemu-img resize -q image 4M
		modelled
		device
		both write 1M 3M pattern=1
		both write 1500k 512k pattern=2
		compared
		[ $((0x$(hex 56 4))) -gt 1 ]
	done
}

@test "small_limits_of_the_queue" {
	image_over_a_base cluster_size=1M 16M
	device
	echo 64 >/sys/block/ublkb0/queue/max_sectors_kb
	echo $((3 << 20)) >/sys/block/ublkb0/queue/discard_max_bytes
	both write 1000448 128k pattern=2
	zero $(((5 << 20) - 512)) $(((3 << 20) + 1024))
	# what is no whole cluster stays
	ok /dev/ublkb0 discard $(((10 << 20) + 512)) 4M
	ok model zeroes 11M 3M
	compared
}

@test "clusters_written_backwards_in_parts" {
	image cluster_size=4k 256k
	model 256k
	device
	for disk in /dev/ublkb0 model; do
		seq $((63 * 4096 + 1024)) -4096 1024 | xargs -P 4 -I{} "$CHECKOUT/$tools/io" $disk \
			write {} 2048 pattern=1 >said
		is "$(sort -u said)" "ok 2048"
	done
	compared
}

@test "clusters_smaller_than_the_blocks_below_are_refused" {
	null_blk big 64 blocksize=4096
	mkfs.ext4 -q -b 4096 /dev/big
	mkdir -p /mnt/big
	mount /dev/big /mnt/big
	qemu-img create -q -f qcow2 -o cluster_size=2k /mnt/big/image 1M
	run ublk-bpf add qcow2 -n 0 -f /mnt/big/image
	is "$status" 1
	has "$output" "needs blocks of 4096 bytes, its clusters of 2048 "
	qemu-img create -q -f qcow2 -o cluster_size=4k /mnt/big/image $((1048576 + 512))
	run ublk-bpf add qcow2 -n 0 -f /mnt/big/image
	is "$status" 1
	has "$output" "its disk of 1049088 are none"
	qemu-img create -q -f qcow2 -o cluster_size=4k /mnt/big/image 1M
	device_on /mnt/big/image
	is "$(blockdev --getss /dev/ublkb0)" 4096
	ok /dev/ublkb0 write 4096 4096 pattern=1
	ok /dev/ublkb0 read 4096 4096 pattern=1
	clean /mnt/big/image
}

@test "discard_and_zeroes_of_more_than_4_gibibytes" {
	truncate -s 6G base
	ok base write 5G 64k pattern=1
	qemu-img create -q -f qcow2 -o cluster_size=2M -b base -F raw image 6G
	device
	for how in discard zeroes; do
		ok /dev/ublkb0 write $((9 << 29)) 64k pattern=2
		ok /dev/ublkb0 read $((9 << 29)) 64k pattern=2
		ok /dev/ublkb0 $how 0 6G
		ok /dev/ublkb0 read $((9 << 29)) 64k
		ok /dev/ublkb0 read 5G 64k
	done
	clean
}

# The bitmap of the subclusters of cluster $1, as the file has it after a flush.
bitmap() {
	ok /dev/ublkb0 flush 0 0
	hex $(($(l2) + 16 * $1 + 8))
}

@test "subclusters_are_allocated_and_zeroed_by_themselves" {
	# of 2 KiB each
	image extended_l2=on 1M
	model 1M
	device
	both write 0 1k pattern=1
	is "$(bitmap 0)" 0000000000000001
	both write 3k 512 pattern=2
	is "$(bitmap 0)" 0000000000000003
	both write 5k 1k pattern=3
	is "$(bitmap 0)" 0000000000000007
	both write 6k 8k pattern=4
	is "$(bitmap 0)" 000000000000007f
	both write 15k 4k pattern=5
	is "$(bitmap 0)" 00000000000003ff
	both write 32k 1k pattern=6
	is "$(bitmap 0)" 00000000000103ff
	both write 63k 4k pattern=7
	is "$(bitmap 0)" 00000000800103ff
	is "$(bitmap 1)" 0000000000000003
	zero 2k 2k
	is "$(bitmap 0)" 00000002800103fd
	zero_in_place 0 64k
	is "$(bitmap 0)" ffffffff00000000
	both write 0 64k pattern=8
	is "$(bitmap 0)" 00000000ffffffff
	zero 0 32k
	is "$(bitmap 0)" 0000ffffffff0000
	zero 0 64k
	is "$(bitmap 0)" ffffffff00000000
	both write 3k 512 pattern=9
	is "$(bitmap 0)" fffffffd00000002
	both write 0 64k pattern=10
	discard 0 64k
	is "$(bitmap 0)" ffffffff00000000
	compared
}

@test "subclusters_over_a_backing_file_in_snapshots_and_at_once" {
	image_over_a_base extended_l2=on 1M
	qemu-io -f qcow2 -c "write -q -c -P 11 256k 64k" image
	modelled
	device
	# what is not written of a subcluster is the backing file's
	both write 3k 512 pattern=2
	is "$(bitmap 0)" 0000000000000002
	zero 31k 128k
	is "$(bitmap 0)" ffff000000008002
	is "$(bitmap 1)" ffffffff00000000
	is "$(bitmap 2)" 00007fff00008000
	# a compressed cluster has none
	is "$(bitmap 4)" 0000000000000000
	both write 259k 512 pattern=3
	is "$(bitmap 4)" 00000000ffffffff
	both_at_once "write 350k 2k pattern=4" "write 340k 2k pattern=5" "write 360k 2k pattern=6"
	is "$(bitmap 5)" 0000000000108400
	compared
	# with a snapshot, with holes before and behind what is written
	qemu-img snapshot -c taken image
	cp model taken
	device
	both write 346k 1k pattern=7
	zero 341k 512
	both write 30k 1k pattern=8
	zero 65k 3k
	compared
	qemu-img convert -f qcow2 -l taken -O raw image was
	cmp taken was
}

@test "lazy_refcounts_make_an_image_dirty_while_it_is_written" {
	image lazy_refcounts=on
	device
	is "$(hex 72)" 0000000000000000
	ok /dev/ublkb0 write 0 64k pattern=1
	ok /dev/ublkb0 flush 0 0
	is "$(hex 72)" 0000000000000001
	cp image crashed
	clean
	is "$(hex 72)" 0000000000000000
	# as a crash had left it
	mv crashed image
	device -r
	ok /dev/ublkb0 read 0 64k pattern=1
	ublk-bpf del -n 0
	is "$(hex 72)" 0000000000000001
	device
	is "$(hex 72)" 0000000000000000
	ok /dev/ublkb0 read 0 64k pattern=1
	ok /dev/ublkb0 write 64k 64k pattern=1
	clean
	is "$(hex 72)" 0000000000000000
	# those that are not lazy are right, or too large
	image lazy_refcounts=off
	device
	ok /dev/ublkb0 write 0 64k pattern=1
	ok /dev/ublkb0 flush 0 0
	is "$(hex 72)" 0000000000000000
	cp image crashed
	clean
	mv crashed image
	device
	ok /dev/ublkb0 read 0 64k pattern=1
	clean_but_for_leaks
}

@test "data_file_has_the_disk_at_its_own_offsets" {
	for raw in off on; do
		rm -f data
		image data_file=data,data_file_raw=$raw
		model 8M
		device
		both write 1M 4M pattern=1
		if [ $raw = on ]; then	# who reads only the data file knows of no zeroes but those in it
			ok /dev/ublkb0 discard 2M 1M
		else
			discard 2M 1M
		fi
		zero_in_place 3M 3M
		same
		ok /dev/ublkb0 flush 0 0
		ok data read 1M 1M pattern=1
		[ $raw = off ] || cmp data model
		compared
		[ $raw = off ] || cmp data model
	done
}
