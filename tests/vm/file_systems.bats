# File systems on each target and on a stack of them, and what fio verifies there.
# shellcheck disable=SC2154 # tools is common.bash's
# gate: 7.3 (what differs between kernels is in other files)
load common

setup() {
	common_setup
	for name in a b c; do
		null_blk $name 384 discard=1
	done
	mkdir -p /mnt/above
}

teardown() {
	local status=0
	umount /mnt/above 2>/dev/null
	common_teardown || status=1
	no_background
	return $status
}

# Device $top of each target in turn, some 400 MiB, given to "$@"; sound to the end.
on_each_target() {
	local id
	top=0
	for words in "loop -f /dev/a" \
		"linear -f /dev/a,start=1M,length=200M -f /dev/b" \
		"stripe --chunk 32k -f /dev/a -f /dev/b,length=200M" \
		"ram -s 320M"; do
		# shellcheck disable=SC2086
		ublk-bpf add -n 0 $words
		each "$@"
	done
	ublk-bpf add loop -n 0 -f /dev/a
	ublk-bpf add stripe -n 1 -f /dev/ublkb0 -f /dev/b -f /dev/c
	ublk-bpf add linear -n 2 -f /dev/ublkb1,start=300M,length=300M -f /dev/ublkb1,length=100M
	top=2
	each "$@"
}

each() {
	udevadm settle
	"$@"
	for id in $(seq 0 $top); do
		is "$(stat_of "$id" failed) $(stat_of "$id" redirected)" "0 0"
	done
	ublk-bpf del -a
}

verified() {
	seeded
	for words in "--bs=4k --iodepth=32" "--bsrange=512-256k --bs_unaligned=0 --blockalign=512 --iodepth=8" \
		"--rw=randtrimwrite --bs=64k --iodepth=4" \
		"--rw=randrw --bssplit=512/20:8k/60:1M/20 --iodepth=8 --fsync=32"; do
		# shellcheck disable=SC2086
		fio --name=v --filename=/dev/ublkb$top --direct=1 --ioengine=io_uring --rw=randwrite \
			--size=64M --io_size=8M --verify=crc32c --do_verify=1 --verify_fatal=1 \
			--verify_state_save=0 --serialize_overlap=1 --randseed="$SEED" $words
	done
}

@test "fio_verifies_each_target" { on_each_target verified; }

# mkfs, files, mount again, fsck.
keeps() {
	seeded
	"mkfs.$1" -q "${@:2}" /dev/ublkb$top
	mount -o discard /dev/ublkb$top /mnt/above
	fio --directory=/mnt/above --bs=4k --rw=randwrite --size=4M --verify=crc32c --verify_fatal=1 \
		--verify_state_save=0 --randseed="$SEED" --end_fsync=1 \
		--name=direct --direct=1 --ioengine=io_uring --iodepth=16 --name=buffered --ioengine=psync
	sums=$(md5sum /mnt/above/*.0.0)
	dd if=/dev/zero of=/mnt/above/gone bs=1M count=16 conv=fsync
	rm /mnt/above/gone	# discarded
	fstrim /mnt/above
	umount /mnt/above
	mount /dev/ublkb$top /mnt/above
	md5sum -c --quiet <<<"$sums"
	umount /mnt/above
	case $1 in
	ext4) e2fsck -fn /dev/ublkb$top ;;
	xfs) xfs_repair -n /dev/ublkb$top ;;
	btrfs) btrfs check /dev/ublkb$top ;;
	esac
}

@test "ext4_is_sound_on_each_target" { on_each_target keeps ext4; }

@test "xfs_is_sound_on_each_target" { on_each_target keeps xfs -f; }

@test "btrfs_is_sound_on_each_target" { on_each_target keeps btrfs -f; }
