# What changes behind a device while it is used: its file grows, or is another one.
# shellcheck disable=SC2154 # tools is common.bash's
load common

setup() {
	common_setup
	mkdir -p /mnt/below
	mount -t tmpfs none /mnt/below
	image=/mnt/below/image
	truncate -s 16M $image
}

teardown() {
	local status=0
	common_teardown || status=1
	no_background
	umount /mnt/below /mnt/above 2>/dev/null || umount /mnt/below || true
	return $status
}

io() { "$tools/io" "$@"; }

bytes() { blockdev --getsize64 /dev/ublkb0; }

# A file of $2 whose bytes are those of pattern $3.
filled() {
	truncate -s "$2" "$1"
	ublk-bpf add loop -n 9 -f "$1"
	is "$(io /dev/ublkb9 write 0 1M pattern="$3")" "ok 1048576"
	ublk-bpf del -n 9
}

# How many uevents have told of another size.
resizes() { grep -c RESIZE=1 "$BATS_TEST_TMPDIR/events"; }
resizes_reach() { [ "$(resizes)" -ge "$1" ]; }

@test "file_that_grows_makes_its_device_grow" {
	ublk-bpf add loop -n 0 -f $image
	udevadm settle
	command udevadm monitor --kernel --property >"$BATS_TEST_TMPDIR/events" 3>&- &
	monitor=$!
	soon grep -q "KERNEL - " "$BATS_TEST_TMPDIR/events"	# it listens
	verify_load /dev/ublkb0 5 --size=1M
	truncate -s 24M $image
	is "$(bytes)" $((16 << 20))
	ublk-bpf reload -n 0
	is "$(bytes)" $((24 << 20))
	is "$(io /dev/ublkb0 write 20M 4096 pattern=3)" "ok 4096"
	is "$(ublk-bpf list -n 0 --json | jq '.[0].size')" $((24 << 20))
	truncate -s 20M $image
	ublk-bpf reload -n 0
	is "$(bytes)" $((20 << 20))
	load_is_verified
	is "$(stat_of 0 failed)" 0
	soon resizes_reach 2
	kill $monitor
	is "$(resizes)" 2
}

@test "part_of_a_file_does_not_grow" {
	ublk-bpf add loop -n 0 -f $image,start=1M,length=4M
	truncate -s 24M $image
	ublk-bpf reload -n 0
	is "$(bytes)" $((4 << 20))
	truncate -s 2M $image
	run ublk-bpf reload -n 0
	is "$status" 1
	has "$output" "start 1048576, length 4194304 is outside of its 2097152 bytes"
	is "$(bytes)" $((4 << 20))
}

@test "file_is_replaced_under_load" {
	# no tmpfs, where I/O ends in the call
	null_blk fs 64 irqmode=2 completion_nsec=10000000
	mkfs.ext4 -q /dev/fs
	umount /mnt/below
	mount /dev/fs /mnt/below
	dd if=/dev/zero of=$image bs=1M count=16 conv=fsync
	ln $image /mnt/below/other
	ublk-bpf add loop -n 0 -f $image -q 2
	verify_load /dev/ublkb0 6 --size=1M
	for _ in 1 2 3; do
		ublk-bpf reload -n 0 -f /mnt/below/other
		ublk-bpf reload -n 0 -f $image
	done
	load_is_verified
	is "$(stat_of 0 failed)" 0
	ublk-bpf del -n 0
	umount /mnt/below
	mount -t tmpfs none /mnt/below
}

@test "another_file_has_its_own_content" {
	filled $image 16M 1
	filled /mnt/below/other 12M 2
	ublk-bpf add loop -n 0 -f $image --fallback --recover wait
	# by the page cache, too
	cmp -n 1M /dev/ublkb0 $image
	ublk-bpf reload -n 0 -f /mnt/below/other
	is "$(bytes)" $((12 << 20))
	cmp -n 1M /dev/ublkb0 /mnt/below/other
	is "$(io /dev/ublkb0 read 0 1M pattern=2)" "ok 1048576"
	is "$(ublk-bpf list -n 0 --json | jq -r '.[0].files[0].path')" /mnt/below/other
	# the old one is free, the new one is not
	ublk-bpf add loop -n 1 -f $image
	run ublk-bpf add loop -n 2 -f /mnt/below/other
	is "$status" 1
	# for the next server too, and when the program is gone
	kill -KILL "$(ublk-bpf list -n 0 --json | jq '.[0].server_pid')"
	is "$(ublk-bpf recover -n 0)" /dev/ublkb0
	settled /dev/ublkb0
	has "$(io /dev/ublkb0 read 0 1M pattern=2 stats)" "^ok 1048576 fwd_[a-z]+=2 fwd_bytes=1048576$"
	is "$("$tools/ctrl" detach 0)" ok
	ublk-bpf reload -n 0 -f /mnt/below/other
	settled /dev/ublkb0
	is "$(io /dev/ublkb0 read 0 1M pattern=2 stats)" "ok 1048576 redirected=2"
}

@test "server_serves_the_file_that_has_come" {
	filled $image 16M 1
	filled /mnt/below/other 16M 2
	ublk-bpf add loop -n 0 -f $image
	is "$("$tools/ctrl" detach 0)" ok
	is "$(io /dev/ublkb0 read 0 4096 pattern=1)" "ok 4096"
	ublk-bpf reload -n 0 -f /mnt/below/other
	is "$(io /dev/ublkb0 read 0 4096 pattern=2)" "ok 4096"
}

@test "device_does_not_lie_in_its_own_file_system" {
	null_blk a 192
	mkdir -p /mnt/above /mnt/merged
	for fs in ext4 btrfs; do	# the second does not say what it is on
		ublk-bpf add loop -n 0 -f /dev/a
		ublk-bpf add linear -n 1 -f /dev/ublkb0
		wipefs -qa /dev/ublkb1
		"mkfs.$fs" -q /dev/ublkb1
		mount /dev/ublkb1 /mnt/above
		truncate -s 192M /mnt/above/image
		is "$("$tools/ctrl" set 0 slot=0 fd=9 9<>/mnt/above/image)" ELOOP
		run ublk-bpf reload -n 0 -f /mnt/above/image
		is "$status" 1
		has "$output" "cannot reload device 0: /mnt/above/image: it leads back to this device"
		# nor by way of another one
		ublk-bpf add loop -n 2 -f /mnt/above/image
		run ublk-bpf reload -n 0 -f /dev/ublkb2
		is "$status" 1
		has "$output" "it leads back to this device"
		ublk-bpf del -n 2
		# nor by one that shows the files of another
		mkdir /mnt/above/lower /mnt/above/upper /mnt/above/work
		truncate -s 192M /mnt/above/lower/image
		mount -t overlay overlay /mnt/merged \
			-o lowerdir=/mnt/above/lower,upperdir=/mnt/above/upper,workdir=/mnt/above/work
		is "$("$tools/ctrl" set 0 slot=0 fd=9 9<>/mnt/merged/image)" ELOOP
		umount /mnt/merged /mnt/above
		ublk-bpf del -a
	done
}

@test "btrfs_on_a_file_of_a_btrfs_is_no_circle" {
	null_blk a 384
	mkfs.btrfs -q /dev/a
	mkdir -p /mnt/base /mnt/above
	mount /dev/a /mnt/base
	truncate -s 128M /mnt/base/image /mnt/base/other
	ublk-bpf add loop -n 0 -f /mnt/base/image
	mkfs.btrfs -q /dev/ublkb0
	mount /dev/ublkb0 /mnt/above
	# nor for others
	ublk-bpf add loop -n 1 -f /mnt/base/other
	ublk-bpf add linear -n 2 -f /dev/ublkb1
	is "$(io /dev/ublkb2 write 0 4096)" "ok 4096"
	umount /mnt/above
	ublk-bpf del -a
	umount /mnt/base
}

nobody_serves() { [ "$(ublk-bpf list -n "$1" --json | jq -r '.[0].state')" != live ]; }

@test "server_that_stands_still_is_waited_for_and_told" {
	ublk-bpf add loop -n 0 -f $image
	truncate -s +1M $image
	kill -STOP "$(server 0)"
	ublk-bpf reload -n 0 2>"$BATS_TEST_TMPDIR/told" 3>&- &
	reload=$!
	soon grep -q "its server has not answered for 5 seconds; does it stand still?" "$BATS_TEST_TMPDIR/told"
	kill -CONT "$(server 0)"
	wait $reload
	ublk-bpf del -n 0
}

@test "wrong_reloads_are_told" {
	run ublk-bpf reload -n 7
	is "$status" 1
	has "$output" "there is no device 7"
	run ublk-bpf reload
	is "$status" 2
	ublk-bpf add loop -n 7 -f $image
	kill -KILL "$(server 7)"
	soon nobody_serves 7
	run ublk-bpf reload -n 7
	is "$status" 1
	has "$output" "cannot reload device 7: its server is gone, and it was not added with --recover"
	ublk-bpf del -n 7
	ublk-bpf add loop -n 7 -f $image --recover wait
	kill -KILL "$(server 7)"
	soon nobody_serves 7
	run ublk-bpf reload -n 7
	is "$status" 1
	has "$output" "cannot reload device 7: it has no server; bring one: ublk-bpf recover -n 7"
	ublk-bpf del -n 7
	run ublk-bpf reload -n 0 -f a -f b
	is "$status" 2
	ublk-bpf add null -n 0
	run ublk-bpf reload -n 0
	is "$status" 1
	has "$output" "a null device has nothing to reload"
	ublk-bpf del -n 0
	ublk-bpf add loop -n 0 -f $image,start=1M
	truncate -s 16M /mnt/below/other
	run ublk-bpf reload -n 0 -f /mnt/below/other
	is "$status" 1
	has "$output" "cannot reload device 0: /mnt/below/other: it would start"
	has "$output" "its program knows of 1048576; use start=1048576"
	run ublk-bpf reload -n 0 -f /mnt/below/none,start=1M
	is "$status" 1
	has "$output" "cannot reload device 0: /mnt/below/none: there is no such file"
	ublk-bpf reload -n 0 -f /mnt/below/other,start=1M
	ublk-bpf del -n 0
	ublk-bpf add loop -n 0 -f $image --server
	run ublk-bpf reload -n 0 -f /mnt/below/other
	is "$status" 1
	has "$output" "it has no program"
	truncate -s 24M $image
	run ublk-bpf reload -n 0
	is "$status" 1
	has "$output" "it has no program, only those can change their size"
}

@test "size_that_cannot_be_is_einval" {
	ublk-bpf add loop -n 0 -f $image
	for bytes in 0 1000 9223372036854776320; do
		is "$bytes $("$tools/ctrl" size 0 bytes=$bytes)" "$bytes EINVAL"
	done
	is "$("$tools/ctrl" size 0 bytes=$((1 << 20)))" ok
	is "$(bytes)" $((1 << 20))
	is "$("$tools/ctrl" add 1 flags=bpf)" "ok bpf"
	is "$("$tools/ctrl" size 1 bytes=$((1 << 20)))" EBUSY
	is "$("$tools/ctrl" del 1)" ok
}

@test "buffered_file_goes_by_its_page_cache" {
	null_blk fs 256
	mkfs.ext4 -q -b 4096 /dev/fs
	umount /mnt/below
	mount /dev/fs /mnt/below
	truncate -s $(((8 << 20) + 512)) $image
	# its end is no whole block of direct I/O, and neither are its parts
	ublk-bpf add loop -n 0 -f $image,start=512 --buffered
	is "$(bytes)" $((8 << 20))
	seeded
	"$tools/compare" /dev/ublkb0 seed="$SEED" bytes=8M ops=500 zeroes
	is "$(stat_of 0 failed)" 0
	is "$(stat_of 0 redirected)" 0
	# what is written is in memory, from where it is read by its submitter
	settled /dev/ublkb0
	is "$(io /dev/ublkb0 write 1M 64k pattern=5 stats)" "ok 65536 fwd_worker=1 fwd_bytes=65536"
	settled /dev/ublkb0		# udev reads what was written to
	is "$(io /dev/ublkb0 read 1M 64k pattern=5 stats)" "ok 65536 fwd_inline=1 fwd_bytes=65536"
	[ "$(grep -w Dirty /proc/meminfo | tr -dc 0-9)" -gt 0 ]
	# a flush has it on the disk
	is "$(io /dev/ublkb0 flush 0 0)" "ok 0"
	ublk-bpf del -n 0
	umount /mnt/below
	mount /dev/fs /mnt/below
	ublk-bpf add loop -n 0 -f $image,start=512 --buffered --server
	is "$(io /dev/ublkb0 read 1M 64k pattern=5)" "ok 65536"
	run ublk-bpf add loop -n 1 -f /dev/fs --buffered
	is "$status" 1
	has "$output" "it is a block device, of which nothing is buffered"
	run ublk-bpf add null -n 1 --buffered
	is "$status" 2
	ublk-bpf del -n 0
	umount /mnt/below
	mount -t tmpfs none /mnt/below
}
