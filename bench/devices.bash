# shellcheck shell=bash
# Sourced in the machine: makes every device that is measured, once. Afterwards ${path[NAME
# QUEUES]} is its node; remove_devices takes all of them away.
size_mb=1024 file_mb=256 ram_mb=256

declare -A path	# "DEVICE QUEUES": its node
dir=$(mktemp -d)

say() { printf 'bench: %s\n' "$*" >&2; }

# A null_blk that completes within the submission: name, MB, SETTING=VALUE...
null_blk() {
	local item=/sys/kernel/config/nullb/$1 setting
	mkdir "$item"
	for setting in size="$2" queue_mode=2 irqmode=0 completion_nsec=0 hw_queue_depth=128 "${@:3}"; do
		echo "${setting#*=}" >"$item/${setting%%=*}"
	done
	echo 1 >"$item/power"
}

kernel_loop() { losetup --find --show --direct-io=on "$1"; }

# A device mapper device over all of a disk: NAME, DISK.
dm_linear() {
	dmsetup create "$1" --table "0 $(blockdev --getsz "$2") linear $2 0"
	echo "/dev/$(basename "$(realpath "/dev/mapper/$1")")"
}

# The same over four, in chunks of 64 KiB: NAME, DISK...
dm_stripe() {
	local disk words=
	for disk in "${@:2}"; do
		words+=" $disk 0"
	done
	dmsetup create "$1" --table "0 $((4 * $(blockdev --getsz "$2"))) striped 4 128$words"
	echo "/dev/$(basename "$(realpath "/dev/mapper/$1")")"
}

# All of a file or disk is written: $2 MB.
fill() { dd if=/dev/zero of="$1" bs=1M count="$2" oflag=direct status=none; }

# An ext4 of its own in memory, which what is removed leaves: NAME, MB. Sets $file.
ext4() {
	null_blk "$1" "$2" memory_backed=1 discard=1
	mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "/dev/$1"
	mkdir "$dir/$1"
	mount -o discard "/dev/$1" "$dir/$1"
	file=$dir/$1/file
}

# A file there, all of it written: NAME.
ext4_file() {
	ext4 "$1" $((file_mb + 128))
	fill "$file" $file_mb
	sync -f "$file"
}

say "making the devices"
modprobe null_blk nr_devices=0
modprobe loop
for q in 1 2; do
	null_blk bare$q $size_mb submit_queues=$q
	null_blk under_kloop$q $size_mb submit_queues=$q
	null_blk under_loop$q $size_mb submit_queues=$q
	path[null_blk $q]=/dev/bare$q
	path[null_bpf $q]=$(ublk-bpf add null -q $q -s ${size_mb}M)
	path[null_server $q]=$(ublk-bpf add null -q $q -s ${size_mb}M --server)
	path[kloop_null $q]=$(kernel_loop /dev/under_kloop$q)
	path[loop_null $q]=$(ublk-bpf add loop -q $q -f /dev/under_loop$q)
done
for q in 1 2; do
	null_blk under_linear$q $size_mb submit_queues=$q
	null_blk under_dm_linear$q $size_mb submit_queues=$q
	for i in 1 2 3 4; do
		null_blk under_stripe$q$i $((size_mb / 4)) submit_queues=$q
		null_blk under_dm_stripe$q$i $((size_mb / 4)) submit_queues=$q
	done
	path[linear $q]=$(ublk-bpf add linear -q $q -f /dev/under_linear$q)
	path[dm_linear $q]=$(dm_linear dm_linear$q /dev/under_dm_linear$q)
	path[stripe $q]=$(ublk-bpf add stripe -q $q -f /dev/under_stripe${q}1 \
		-f /dev/under_stripe${q}2 -f /dev/under_stripe${q}3 -f /dev/under_stripe${q}4)
	path[dm_stripe $q]=$(dm_stripe dm_stripe$q /dev/under_dm_stripe"$q"{1,2,3,4})
done
path[linear2 1]=$(ublk-bpf add linear -f "${path[linear 1]}")
path[linear3 1]=$(ublk-bpf add linear -f "${path[linear2 1]}")
path[dm_linear2 1]=$(dm_linear dm_linear12 "${path[dm_linear 1]}")
path[dm_linear3 1]=$(dm_linear dm_linear13 "${path[dm_linear2 1]}")
null_blk under_server $size_mb
path[server1 1]=$(ublk-bpf add linear --server -f /dev/under_server)
path[server2 1]=$(ublk-bpf add linear --server -f "${path[server1 1]}")
path[server3 1]=$(ublk-bpf add linear --server -f "${path[server2 1]}")
modprobe brd rd_nr=1 rd_size=$((ram_mb << 10))
path[brd 1]=/dev/ram0
path[ram 1]=$(ublk-bpf add ram -s ${ram_mb}M)
for node in "${path[brd 1]}" "${path[ram 1]}"; do	# no holes
	fill "$node" $ram_mb
done
ext4_file ext4_kloop
path[kloop_ext4 1]=$(kernel_loop "$file")
ext4_file ext4_loop
path[loop_ext4 1]=$(ublk-bpf add loop -f "$file")

# The disk in image $2, served by QEMU as /dev/nbd$1.
qemu_nbd() {
	qemu-nbd -k "$dir/nbd$1" -f qcow2 --aio=io_uring --cache=none -c "/dev/nbd$1" "$2"
	until [ "$(blockdev --getsize64 "/dev/nbd$1")" != 0 ]; do sleep 0.1; done
}

no_qemu_nbd() {
	qemu-nbd -d "/dev/nbd$1" >&2
	until [ "$(blockdev --getsize64 "/dev/nbd$1")" = 0 ]; do sleep 0.1; done
}

# The same of the disk in an image.
modprobe nbd
for device in ext4_qcow2 ext4_nbd; do
	ext4 $device $((file_mb + 128))
	qemu-img create -q -f qcow2 -o preallocation=full "$file" ${file_mb}M
done
path[qcow2 1]=$(ublk-bpf add qcow2 -f "$dir/ext4_qcow2/file")
qemu_nbd 0 "$dir/ext4_nbd/file"
path[qemu_nbd 1]=/dev/nbd0
for node in "${path[qcow2 1]}" /dev/nbd0; do
	fill "$node" $file_mb
	sync "$node"
done
sync -f "$dir/ext4_qcow2" "$dir/ext4_nbd"

# Images of 64 GiB: all has a place, and nothing is known of it yet; or nothing has one.
for device in cold_qcow2 cold_nbd; do
	ext4 $device $file_mb
	qemu-img create -q -f qcow2 -o preallocation=metadata "$file" 64G
done
for device in new_qcow2 new_nbd; do
	ext4 $device 1024
done
path[qcow2 cold]=/dev/ublkb60 path[qemu_nbd cold]=/dev/nbd1
path[qcow2 new]=/dev/ublkb61 path[qemu_nbd new]=/dev/nbd2
renewed=""

# The devices over those are new, and have done nothing: cold or new.
renew() {
	local id=60 nbd=1 node
	if [ "$1" = new ]; then id=61 nbd=2; fi
	case " $renewed " in *" $1 "*)
		ublk-bpf del -n $id
		no_qemu_nbd $nbd
	esac
	if [ "$1" = new ]; then
		rm -f "$dir"/new_*/file
		for node in new_qcow2 new_nbd; do
			qemu-img create -q -f qcow2 "$dir/$node/file" 64G
		done
	fi
	ublk-bpf add qcow2 -n $id -f "$dir/$1_qcow2/file" >/dev/null
	qemu_nbd $nbd "$dir/$1_nbd/file"
	renewed+=" $1"
	udevadm settle
	for node in "/dev/ublkb$id" "/dev/nbd$nbd"; do
		equal "$node"
	done
}

# No scheduler anywhere: one-queue devices would get mq-deadline, peers or not.
# iostats stay on, as users have them.
equal() {
	local queue=/sys/block/${1#/dev/}/queue
	[ ! -e "$queue/scheduler" ] || echo none >"$queue/scheduler"
	echo 1 >"$queue/iostats"
}

udevadm settle
for node in "${path[@]}" /dev/under_* /dev/ext4_* /dev/cold_* /dev/new_*; do
	[ ! -e "$node" ] || equal "$node"
done
# A peer must be what it says it is.
for q in 1 2; do
	[ "$(losetup --noheadings --output DIO "${path[kloop_null $q]}" | tr -d ' ')" = 1 ]
done
[ "$(losetup --noheadings --output DIO "${path[kloop_ext4 1]}" | tr -d ' ')" = 1 ]

remove_devices() {
	local nbd
	ublk-bpf del -a
	for nbd in 0 1 2; do
		no_qemu_nbd $nbd
	done
	dmsetup remove dm_linear13 dm_linear12 dm_linear1 dm_linear2 dm_stripe1 dm_stripe2
	losetup -D
	umount "$dir"/*/
}
