# A qcow2 image: its mapping in memory, the program does what it has a place for.
load common

setup() {
	common_setup
	mkdir -p /mnt/below
	null_blk nb 512
	mkfs.ext4 -q /dev/nb
	mount /dev/nb /mnt/below
	cd /mnt/below || return
}

teardown() {
	local status=0
	cd "$CHECKOUT" || return
	common_teardown || status=1
	no_background
	umount /mnt/below
	no_null_blk nb
	return $status
}

# An image of 64 MB with options $1.
image() { qemu-img create -q -f qcow2 -o "$1" image 64M; }

# Device 0 of it.
device() { is "$(ublk-bpf add qcow2 -n 0 -f image "$@")" /dev/ublkb0; }

# Without the device, QEMU finds nothing wrong with the image.
clean() {
	ublk-bpf del -n 0
	qemu-img check image
}

# The same random list on the device and in memory, then by QEMU.
compared() {
	seeded
	"$CHECKOUT/$tools/compare" /dev/ublkb0 seed="$SEED" "$@"
	is "$("$CHECKOUT/$tools/ctrl" stats 0 print=failed)" 0
	dd if=/dev/ublkb0 of=disk bs=1M iflag=direct status=none
	clean
	qemu-img compare -f qcow2 -F raw image disk
}

@test "new_image_does_random_operations" {
	for cluster in 64k 512 4k 2M; do
		image cluster_size=$cluster
		device
		compared
	done
}

@test "preallocated_image_is_served_by_its_program" {
	image preallocation=metadata
	device
	settled /dev/ublkb0
	seeded
	before=$("$CHECKOUT/$tools/ctrl" stats 0 print=redirected)
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=32 --io_size=16M --verify=crc32c --do_verify=1 --verify_fatal=1 \
		--verify_state_save=0 --serialize_overlap=1 --randseed="$SEED"
	is "$("$CHECKOUT/$tools/ctrl" stats 0 print=redirected)" "$before"
	clean
}
