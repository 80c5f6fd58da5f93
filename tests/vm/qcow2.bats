# A qcow2 image: its mapping in memory, the program does what it has a place for.
# gate: 7.3 (qcow2_behaviour.bats is gone through on 6.12)
load qcow2_image

random() { head -c "$2" /dev/urandom >"$1"; }

# What add says when it refuses, as a regular expression.
refused() {
	run ublk-bpf add qcow2 -n 0 -f image "${@:2}"
	is "$status" 1
	has "$output" "^ublk-bpf: cannot add qcow2 over image: .*$1"
}

# The same random list on the device and in memory, then by QEMU.
operated() {
	seeded
	"$CHECKOUT/$tools/compare" /dev/ublkb0 seed="$SEED" "$@"
	is "$(of failed)" 0
	dd if=/dev/ublkb0 of=disk bs=1M iflag=direct status=none
	clean
	qemu-img compare -f qcow2 -F raw image disk
}

# What is written at random by fio with further options is read back.
verified() {
	seeded
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=32 --io_size=16M --verify=crc32c --do_verify=1 --verify_fatal=1 \
		--verify_state_save=0 --serialize_overlap=1 --randseed="$SEED" "$@"
}

@test "new_image_does_random_operations" {
	for cluster in 64k 512 4k 2M; do
		image cluster_size=$cluster 64M
		device
		operated
	done
}

@test "image_over_others_does_random_operations" {
	random base 5000000
	qemu-img create -q -f qcow2 -b base -F raw middle 40M
	qemu-io -f qcow2 -c "write -P 1 3M 2M" -c "write -z 1M 1M" middle >/dev/null
	qemu-img create -q -f qcow2 -o cluster_size=4k -b middle -F qcow2 image 64M
	device
	md5=$(qemu-img convert -U -O raw image disk && md5sum <disk)
	is "$(dd if=/dev/ublkb0 bs=1M iflag=direct status=none | md5sum)" "$md5"
	ublk-bpf del -n 0
	qemu-img create -q -f qcow2 -o extended_l2=on -b middle -F qcow2 image 64M
	device
	verified --size=32M
	clean
}

@test "image_with_a_snapshot_compressed_clusters_or_a_data_file" {
	random full 20000000
	for options in "-c" "-c -o compression_type=zstd" "-o extended_l2=on" "-o compat=0.10" ""; do
		# shellcheck disable=SC2086
		qemu-img convert -O qcow2 $options full image
		qemu-img resize -q image 64M
		[[ $options = *-c* ]] || qemu-img snapshot -c taken image
		device
		is "$(head -c 20000000 <(dd if=/dev/ublkb0 bs=1M iflag=direct status=none) | md5sum)" "$(md5sum <full)"
		verified --size=32M
		clean
		[[ $options = *-c* ]] || qemu-img convert -l taken -O raw image was
		[[ $options = *-c* ]] || cmp -n 20000000 full was
	done
	image data_file=data,data_file_raw=on 64M
	device
	operated
	qemu-img compare -f raw -F raw data disk
}

@test "cache_that_is_too_small_is_enough" {
	image cluster_size=512 64M
	device --cache 16k -q 2
	verified --bs=4k --numjobs=2 --size=32M --offset_increment=32M --iodepth=16
	is "$(of failed)" 0
	clean
}

@test "image_that_is_only_read_stays_as_it_is" {
	image lazy_refcounts=on 64M
	qemu-io -f qcow2 -c "write -P 7 1M 1M" image >/dev/null
	before=$(md5sum <image)
	device -r
	is "$(dd if=/dev/ublkb0 bs=1M skip=1 count=1 iflag=direct status=none | tr -d '\7' | wc -c)" 0
	run dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct
	[ "$status" -ne 0 ]
	ublk-bpf del -n 0
	is "$(md5sum <image)" "$before"
}

@test "qemu_and_the_device_keep_each_other_out" {
	image cluster_size=64k 64M
	device
	run qemu-img check image
	has "$output" "lock"
	run qemu-io -f qcow2 -c "write 0 4k" image
	has "$output" "lock"
	qemu-img info -U image >/dev/null
	ublk-bpf del -n 0
	qemu-nbd -t -f qcow2 --fork --pid-file=pid -k "$PWD/nbd.socket" image
	refused "it is in use, such as by QEMU; end that use"
	refused "somebody writes it" -r
	kill "$(cat pid)"
	soon device
	ublk-bpf del -n 0
	device -r
	refused "locked"
	qemu-img check image
	ublk-bpf del -n 0
	# what it lies over
	random base 1M
	qemu-img create -q -f qcow2 -b base -F raw image
	qemu-nbd -t -f raw --fork --pid-file=pid -k "$PWD/nbd.socket" base
	refused "backing file 'base': somebody writes it"
	kill "$(cat pid)"
	soon device
	run qemu-io -f raw -c "write 0 4k" base
	has "$output" "lock"
	ublk-bpf del -n 0
	qemu-io -f raw -c "write 0 4k" base
	{
		flock 9
		refused "backing file 'base': somebody writes it"
	} 9<base
}

@test "names_in_an_image_are_not_trusted" {
	mkdir -p elsewhere
	random elsewhere/base 64M
	qemu-img create -q -f qcow2 -b elsewhere/base -F raw image
	refused "its backing file 'elsewhere/base' is elsewhere, .*allow it by -b FILE or --allow DIR"
	device -b elsewhere/base
	ublk-bpf del -n 0
	device --allow elsewhere
	clean
	qemu-img rebase -u -f qcow2 -b "" image
	for name in 'json:{"driver":"raw","file":{"driver":"file","filename":"elsewhere/base"}}' nbd://localhost; do
		qemu-img rebase -u -f qcow2 -F raw -b "$name" image
		refused "is no name of a file" --allow /
	done
	qemu-img rebase -u -f qcow2 -F vmdk -b elsewhere/base image
	refused "is of format 'vmdk'; raw and qcow2 are known" --allow /
	qemu-img rebase -u -f qcow2 -F qcow2 -b image image
	refused "backing file 'image': it would lie over itself"
	qemu-img create -q -f qcow2 -o data_file=elsewhere/data image 64M
	refused "its data file 'elsewhere/data' is elsewhere"
}

@test "what_is_no_image_of_ours_is_refused" {
	random image 1M
	refused "it is no qcow2 image"
	: >image
	refused "it is no qcow2 image"
	qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s image 1M
	refused "it is encrypted"
	image compat=1.1 64M
	run ublk-bpf add qcow2 -f image,start=512
	is "$status" 2
	has "$output" "target qcow2 uses image as a whole; leave out start and length"
}

counted() { ublk-bpf stats -n 0 --json | jq -c '.[0]'; }

@test "preallocated_image_is_served_by_its_program" {
	image preallocation=metadata 64M
	device
	settled /dev/ublkb0
	# the first write has the server say in the file that it is being changed
	io /dev/ublkb0 write 0 4096
	before=$(of redirected)
	verified
	is "$(of redirected)" "$before"
	is "$(of failed)" 0
	ublk-bpf del -n 0
	# its tables are fetched, and then it is asked again
	device -q 2
	settled /dev/ublkb0
	ok /dev/ublkb0 write 0 4k
	[ "$(of rerun)" -ge 1 ]
	is "$(of redirected)" "$(of rerun)"
	before=$(counted)
	verified
	jq -en --argjson before "$before" --argjson after "$(counted)" '
		($after.hits - $before.hits) as $hits | ($after.misses - $before.misses) as $misses |
		$hits > 8000 and $hits / ($hits + $misses) > 0.999'
	has "$(ublk-bpf stats -n 0)" "^    [0-9]+ hits \([0-9.]+ %\), [0-9]+ misses, 1 fills, 0 evictions, 0 allocations, 0 leaks$"
	counted | jq -e '.misses == .redirected and .hits_percent > 99'
	clean
}

@test "device_whose_program_is_gone_is_its_servers" {
	image cluster_size=4k 64M
	device --fallback --cache 64k -q 2
	verified --size=48M --io_size=48M >fio.log 2>&1 3>&- &
	sleep 1
	bpftool link detach pinned /sys/fs/bpf/ublk-bpf/0/link
	wait $! || { cat fio.log; return 1; }
	# also what is freed meanwhile
	fio --name=t --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randtrim --bs=4k --size=48M
	verified --size=48M
	ublk-bpf del -n 0
	# what was in use when it went may be leaked
	run qemu-img check image
	[ "$status" = 0 ] || [ "$status" = 3 ]
}

written() { [ "$(awk '{ print $5 }' /sys/block/ublkb0/stat)" -ge "$1" ]; }

# Write 64 KiB at $1 with FUA, pattern $2: it is in the file before there is any flush, and so
# is what must be there with the same pattern before it.
durable() {
	local before
	# the flush that a file's write makes of it in the end waits
	dmsetup create ill --table "0 131072 delay /dev/ublkb0 0 0 /dev/ublkb0 0 0 /dev/ublkb0 0 3600000"
	before=$(awk '{ print $5 }' /sys/block/ublkb0/stat)
	ok /dev/mapper/ill write "$1" 64k pattern="$2" fua 3>&- &
	soon written $((before + 1))
	cp image crashed
	dmsetup suspend ill
	dmsetup resume ill
	wait $!
	udevadm settle
	dmsetup remove --retry ill
	run qemu-img check -f qcow2 crashed
	[ "$status" = 0 ] || [ "$status" = 3 ]
	qemu-img convert -f qcow2 -O raw crashed disk
	ok disk read 0 $(($1 + 65536)) pattern="$2"
}

@test "write_that_is_to_be_durable_is_in_the_file" {
	image cluster_size=64k 64M
	device
	modprobe dm-delay
	# it has no place
	durable 0 1
	# it has one in memory only: its program does not do that
	ok /dev/ublkb0 write 64k 64k pattern=2
	ok /dev/ublkb0 write 0 64k pattern=3
	durable 65536 3
	clean
}

@test "image_that_proves_to_be_corrupt_fails_writes_and_says_why" {
	image cluster_size=64k 64M
	qemu-io -f qcow2 -c "write -P 5 0 64k" image >/dev/null
	# header, refcount table and block, L1 table, L2 table: whose first entry names the L1 table
	printf '\x80\0\0\0\0\x03\0\0' | dd of=image bs=1 seek=$((4 << 16)) conv=notrunc status=none
	device
	run dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 seek=1 oflag=direct
	[ "$status" -ne 0 ]
	told() { has "$(ublk-bpf list -n 0)" "writes fail: entry 0 of its L2 table 0 names cluster 3, which is .*L1 table"; }
	soon told
	has "$(ublk-bpf list --json)" '"trouble":"writes fail: entry 0 '
	run dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct
	[ "$status" -ne 0 ]
	ublk-bpf del -n 0
	has "$(qemu-img info image)" "corrupt: true"
	refused "it is marked as corrupt; qemu-img check -r all may mend it"
}

bytes() { blockdev --getsize64 /dev/ublkb0; }

@test "image_grows_while_it_is_used" {
	local options
	for options in "" -q2 --fallback; do
		rm -f image
		# both of its tables have to move
		qemu-img create -q -f qcow2 -o cluster_size=512 image 1M
		device --recover wait $options
		ublk-bpf reload -n 0		# nothing has changed
		seeded
		fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randrw --bs=4k \
			--iodepth=16 --size=1M --io_size=1G --time_based --runtime=15 --verify=crc32c \
			--verify_fatal=1 --verify_state_save=0 --serialize_overlap=1 \
			--randseed="$SEED" >fio.log 2>&1 3>&- &
		sleep 1
		for size in 2 3 24 64; do
			ublk-bpf reload -n 0 qemu-img resize -q image ${size}M
			is "$(bytes)" $((size << 20))
			sleep 0.$((RANDOM % 9))
		done
		wait $! || { cat fio.log; return 1; }
		is "$(of failed)" 0
		kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
		soon served_again
		operated bytes=64M ops=500
	done
}

is_left() { pgrep -f '^sleep 1000' >/dev/null; }

@test "image_is_left_to_others_for_a_while" {
	image cluster_size=4k 64M
	device --recover wait
	dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=16 oflag=direct status=none
	run qemu-img snapshot -c before image
	[ "$status" -ne 0 ]
	ublk-bpf reload -n 0 qemu-img snapshot -c before image
	md5=$(dd if=/dev/ublkb0 bs=1M count=1 iflag=direct status=none | md5sum)
	verified
	run qemu-img snapshot -c after image
	[ "$status" -ne 0 ]
	# a command that fails, or is killed with who asked for it, or a server that is
	run ublk-bpf reload -n 0 sh -c 'exit 3'
	is "$status" 1
	has "$output" "sh has failed; the device has what is behind it again"
	run ublk-bpf reload -n 0 ./no-such-command
	is "$status" 1
	verified
	ublk-bpf reload -n 0 sleep 1000 3>&- &
	soon is_left
	kill -KILL $!
	pkill -f "sleep 1000"
	verified
	ublk-bpf reload -n 0 sleep 1000 3>&- &
	soon is_left
	kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
	soon served_again
	pkill -f "sleep 1000"
	verified
	# who ends the device does not wait for it
	ublk-bpf reload -n 0 sleep 1000 3>&- &
	soon is_left
	is "$(of failed)" 0
	ublk-bpf del -n 0
	pkill -f "sleep 1000"
	qemu-img check image
	is "$(qemu-img convert -l before -O raw image disk && head -c 1M disk | md5sum)" "$md5"
}

# QEMU goes past the locks: that is for who knows that nothing is written.
resized() {
	qemu-img resize -q --shrink --image-opts driver=qcow2,file.driver=file,file.filename=image,file.locking=off "$1"
}

fails() { has "$(ublk-bpf list -n 0)" "its I/O fails: $1"; }

@test "image_that_somebody_else_has_changed_is_not_written" {
	local ways=("ublk-bpf reload -n 0" "ublk-bpf reload -n 0 true") way
	for way in "${ways[@]}"; do
		image cluster_size=4k 64M
		device
		verified
		resized 128M
		md5=$(md5sum image)
		run $way
		is "$status" 1
		has "$output" "cannot reload device 0: somebody else has changed it while it was in use"
		is "$(bytes)" $((64 << 20))
		fails "somebody else has changed it while it was in use"
		for op in "if=/dev/zero of=/dev/ublkb0 oflag=direct" "if=/dev/ublkb0 of=/dev/null iflag=direct"; do
			run dd bs=4k count=1 $op
			[ "$status" -ne 0 ]
		done
		# what was lost does not come back by asking again
		run $way
		is "$status" 1
		has "$output" "cannot reload device 0: somebody else has changed it while it was in use"
		ublk-bpf del -n 0
		is "$(md5sum image)" "$md5"
	done
	# nor when the device ends
	image cluster_size=4k 64M
	device
	verified
	resized 128M
	md5=$(md5sum image)
	ublk-bpf del -n 0
	is "$(md5sum image)" "$md5"
	# nothing was lost of what was not written yet
	for way in "" -r; do
		image cluster_size=4k 64M
		device $way
		resized 96M
		ublk-bpf reload -n 0
		is "$(bytes)" $((96 << 20))
		[ "$way" ] || verified --size=96M
		clean
	done
}

@test "image_that_has_become_another_is_not_the_devices" {
	image cluster_size=4k 64M
	device
	verified
	for change in "qemu-img resize -q --shrink image 32M" "qemu-img create -q -f qcow2 image 64M" \
			"qemu-img create -q -f qcow2 -o cluster_size=4k -b disk -F raw -u image 64M" \
			"truncate -s 0 image" "qemu-img resize -q image 1T"; do
		cp --sparse=always image before
		run ublk-bpf reload -n 0 $change
		is "$status" 1
		has "$output" "its disk has become smaller, 33554432 bytes|an image of another kind|names other files than before|it is no qcow2 image|has grown by more than a device in use has room for"
		fails
		run dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct
		[ "$status" -ne 0 ]
		# when it is as it was, all is well
		ublk-bpf reload -n 0 cp --sparse=always before image
		is "$(ublk-bpf list -n 0 --json | jq '.[0].trouble')" null
		verified
	done
	run ublk-bpf reload -n 0 sh -c "cp image other && mv other image"
	is "$status" 1
	has "$output" "another file has been put in its place"
	ublk-bpf del -n 0

	# nor the next server's
	for change in "qemu-img create -q -f qcow2 image 64M" "qemu-img resize -q --shrink image 32M"; do
		image cluster_size=4k 64M
		device --recover wait
		ublk-bpf reload -n 0 sleep 1000 3>&- &
		soon is_left
		kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
		$change
		run ublk-bpf recover -n 0
		is "$status" 1
		has "$output" "it is not the image that it was when its server died"
		pkill -f "sleep 1000"
		ublk-bpf del -n 0
	done
	image cluster_size=4k 64M
	device
	run ublk-bpf reload -n 0 -f image
	is "$status" 1
	has "$output" "a qcow2 device keeps its file; delete it and add it again"
	run ublk-bpf reload -n 0 -f image true
	is "$status" 2
}

# Device 0, with writes that are in memory, over an image that lies on a disk which stands still.
stuck() {
	null_blk slow 128
	echo "0 $((128 << 11)) linear /dev/slow 0" | dmsetup create slow
	mkfs.ext4 -q /dev/mapper/slow
	mkdir -p /mnt/slow
	mount /dev/mapper/slow /mnt/slow
	qemu-img create -q -f qcow2 -o cluster_size=4k /mnt/slow/image 64M
	ublk-bpf add qcow2 -n 0 -f /mnt/slow/image
	dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=16 oflag=direct status=none
	settled /dev/ublkb0
	dmsetup suspend --nolockfs --noflush slow
}

unstuck() {
	dmsetup resume slow
	soon has_ended
	qemu-img check /mnt/slow/image
	umount /mnt/slow
	dmsetup remove slow
	no_null_blk slow
}

has_ended() { ! kill -0 "$server" 2>/dev/null; }

@test "deletion_tells_of_a_server_that_still_writes" {
	stuck
	server=$(jq .server_pid /run/ublk-bpf/0.json)
	run ublk-bpf del -n 0
	is "$status" 1
	has "$output" "/dev/ublkb0 is deleted, but its server, process $server, still has to write what is behind it"
	unstuck
}

@test "server_whose_image_lies_over_something_else_by_now_is_none" {
	random base 5000000
	qemu-img create -q -f qcow2 -b base -F raw image
	for change in "touch -d 2020-01-01 base" "truncate -s 4M base" "cp base other && mv other base"; do
		device --recover wait
		kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
		soon served_again
		is "$(dd if=/dev/ublkb0 bs=1M iflag=direct status=none | md5sum)" "$(qemu-img convert -U -O raw image disk && md5sum <disk)"
		kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
		eval "$change"
		run ublk-bpf recover -n 0
		is "$status" 1
		has "$output" "what it lies over is not what it was when its server died"
		ublk-bpf del -n 0
	done
}

# Bytes: of the server, which are in memory; and of its program's maps.
resident() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$(jq .server_pid /run/ublk-bpf/0.json)/status"; }

mapped() {
	local map
	for map in /sys/fs/bpf/ublk-bpf/0/maps/*; do
		bpftool -j map show pinned "$map"
	done | jq -s 'map(.bytes_memlock) | add'
}

@test "large_image_takes_little_memory" {
	local size
	for size in 1T 16T; do
		qemu-img create -q -f qcow2 image $size
		device
		seeded
		# as many tables as there is room for, and more
		fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
			--iodepth=8 --size=$size --io_size=4M --norandommap --randseed="$SEED" \
			--verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0
		is "$(of failed)" 0
		echo "$size: $(resident) bytes of the server, $(mapped) of maps"
		# the maps are among them, and what is reserved for I/O
		[ "$(resident)" -le $((96 << 20)) ]
		# the cache, an index of at most 16 MiB, and what is known of a table
		[ "$(mapped)" -le $((32 + 16 + 1 << 20)) ]
		clean
	done
}

@test "pages_of_an_image_on_a_disk_are_not_older_than_it" {
	null_blk raw 128
	qemu-img create -q -f qcow2 -o preallocation=metadata,cluster_size=64k /dev/raw 64M
	is "$(ublk-bpf add qcow2 -n 0 -f /dev/raw)" /dev/ublkb0
	for pattern in 1 2; do
		is "$(io /dev/ublkb0 write 0 1M pattern=$pattern)" "ok 1048576"
		# by its page cache
		ublk-bpf reload -n 0 qemu-img convert -f qcow2 -O raw /dev/raw disk
		is "$(io disk read 0 1M pattern=$pattern)" "ok 1048576"
	done
	ublk-bpf reload -n 0 qemu-img snapshot -c now /dev/raw
	verified
	ublk-bpf del -n 0
	qemu-img check /dev/raw
	no_null_blk raw
}
