# What other volumes are made of: our devices below LVM, md and dm-crypt, and above them.
# shellcheck disable=SC2154 # tools is common.bash's
# gate: 7.3 (a device is a device to them)
load common

setup() {
	common_setup
	for name in a b; do
		null_blk $name 96 discard=1
	done
}

teardown() {
	local status=0
	ublk-bpf del --force -n 5 2>/dev/null
	lvm_do vgremove -ff -y volumes 2>/dev/null
	mdadm --stop /dev/md0 2>/dev/null
	cryptsetup close secret 2>/dev/null
	common_teardown || status=1
	no_background
	return $status
}

# The random list on disk $1, the first 16 MiB of it.
compared() {
	seeded
	"$tools/compare" "$1" seed="$SEED" bytes=16M ops=500 "${@:2}"
}

# Over /dev/a and /dev/b: /dev/ublkb0 and /dev/ublkb1.
two_of_ours() {
	ublk-bpf add loop -n 0 -f /dev/a
	ublk-bpf add linear -n 1 -f /dev/b,length=40M -f /dev/b,start=40M
}

# Device 5 over "$@", compared by random operations.
ours_over() {
	local words=()
	for disk in "$@"; do
		words+=(-f "$disk")
	done
	if [ $# -gt 1 ]; then
		ublk-bpf add stripe -n 5 "${words[@]}"
	else
		ublk-bpf add loop -n 5 "${words[@]}"
	fi
	compared /dev/ublkb5
	is "$(stat_of 5 failed) $(stat_of 5 redirected)" "0 0"
	ublk-bpf del -n 5
}

# Command $1 of LVM, which is to look at the disks $scan only.
lvm_do() {
	"$1" --config "devices { types = [ \"nullb\", 16 ] filter = [ \"a|^/dev/$scan|\", \"r|.*|\" ] }" \
		"${@:2}" 3>&-
}

volumes() {
	lvm_do vgcreate volumes "$@"
	lvm_do lvcreate -y -n one -L 48M volumes
	lvm_do lvcreate -y -n two -L 48M -i 2 volumes
	udevadm settle
}

@test "lvm_on_ours" {
	two_of_ours
	scan=ublkb
	volumes /dev/ublkb0 /dev/ublkb1
	compared /dev/volumes/one
	compared /dev/volumes/two
	is "$(stat_of 0 failed) $(stat_of 1 failed)" "0 0"
	run ublk-bpf del -n 0
	is "$status" 1
	has "$output" "in use: /dev/dm-[0-9]+ is on it"
	lvm_do vgremove -ff -y volumes
}

@test "ours_on_lvm" {
	scan="[ab]\$"
	volumes /dev/a /dev/b
	ours_over /dev/volumes/one /dev/volumes/two
	lvm_do vgremove -ff -y volumes
}

mirror() {
	modprobe raid1
	mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --assume-clean "$@" 2>&1
	udevadm settle
}

@test "md_on_ours" {
	two_of_ours
	mirror /dev/ublkb0 /dev/ublkb1
	compared /dev/md0
	# without one of the two, which comes back
	mdadm /dev/md0 --fail /dev/ublkb0 --remove /dev/ublkb0
	compared /dev/md0
	mdadm /dev/md0 --add /dev/ublkb0
	mdadm --wait /dev/md0 || true
	is "$(cat /sys/block/md0/md/degraded)" 0
	mdadm /dev/md0 --fail /dev/ublkb1
	compared /dev/md0
	mdadm --stop /dev/md0
	is "$(stat_of 0 failed) $(stat_of 1 failed)" "0 0"
}

@test "ours_on_md" {
	mirror /dev/a /dev/b
	ours_over /dev/md0
	mdadm --stop /dev/md0
}

# md keeps stripes in a task's plug until that is flushed, and takes no others meanwhile.
@test "ours_on_md_in_one_plug_with_md" {
	modprobe raid456
	null_blk c 64
	mdadm --create /dev/md0 --run --level=5 --raid-devices=3 --assume-clean /dev/a /dev/b /dev/c 2>&1
	udevadm settle
	ublk-bpf add linear -n 5 -f /dev/md0
	seeded
	fio --name=both --filename=/dev/md0:/dev/ublkb5 --file_service_type=roundrobin:240 \
		--direct=1 --ioengine=libaio --rw=randwrite --bs=4k --iodepth=512 \
		--iodepth_batch_submit=512 --iodepth_batch_complete_min=512 --io_size=32M --size=64M \
		--randseed="$SEED"
	stat_reaches 5 fwd_worker 1
	is "$(stat_of 5 failed)" 0
	ublk-bpf del -n 5
	mdadm --stop /dev/md0
	no_null_blk c
}

secret() {
	echo 0123456789abcdef0123456789abcdef | cryptsetup open --type plain --key-file - \
		--cipher aes-xts-plain64 --key-size 256 "$1" secret
	udevadm settle
}

@test "dm_crypt_on_ours" {
	two_of_ours
	secret /dev/ublkb1
	compared /dev/mapper/secret
	cryptsetup close secret
	is "$(stat_of 1 failed)" 0
}

@test "ours_on_dm_crypt" {
	secret /dev/a
	ours_over /dev/mapper/secret
	cryptsetup close secret
}
