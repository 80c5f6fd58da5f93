# shellcheck shell=bash
# An image on ext4 in memory, device 0 of it, and a file that has what its disk is to have.
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
	umount /mnt/big 2>/dev/null
	umount /mnt/below
	dmsetup remove ill 2>/dev/null
	no_background
	return $status
}

io() { "$CHECKOUT/$tools/io" "$@"; }
of() { "$CHECKOUT/$tools/ctrl" stats 0 print="$1"; }

# An image of $2, 8M if it is not said, with options $1.
image() { qemu-img create -q -f qcow2 -o "$1" image "${2:-8M}"; }

# One with options $1 over a raw file of $2 that has a pattern; the model is what its disk has.
image_over_a_base() {
	filled base "$2" 1
	qemu-img create -q -f qcow2 -o "$1" -b base -F raw image "${3:-$2}"
	cp base model
	truncate -s "${3:-$2}" model
}

# A file $1 of $2 bytes, with pattern $3.
filled() {
	rm -f "$1"
	truncate -s "$2" "$1"
	ok "$1" write 0 "$2" pattern="$3"
}

# An empty file of $1 bytes, which is what the image's disk has.
model() {
	rm -f model
	truncate -s "$1" model
}

# The model is what QEMU reads in the image.
modelled() { qemu-img convert -f qcow2 -O raw image model; }

# Device 0 of the image.
device() { device_on image "$@"; }
device_on() { is "$(ublk-bpf add qcow2 -n 0 -f "$@")" /dev/ublkb0; }

# Without the device, QEMU finds nothing wrong with the image.
clean() {
	ublk-bpf del -n 0
	qemu-img check -f qcow2 "${1:-image}"
}

# QEMU finds clusters that are lost at most.
clean_but_for_leaks() {
	ublk-bpf del -n 0
	run qemu-img check -f qcow2 "${1:-image}"
	[ "$status" = 0 ] || [ "$status" = 3 ] || { echo "$output"; return 1; }
}

# A new server for device 0.
served_again() { ublk-bpf recover -n 0; }

# All of an I/O is done, and a read finds what it should.
ok() {
	local said
	said=$(io "$@")
	[[ $said = "ok "* ]] || { echo "io $*: $said"; return 1; }
}

# The same I/O on the device and on the model.
both() {
	ok /dev/ublkb0 "$@"
	ok model "$@"
}

# Zeroes for $2 bytes from $1 on, whose clusters may go; likewise, they keep their places; and
# whole clusters that are discarded.
zero() { both zeroes "$@"; }
zero_in_place() {
	blkdiscard -f -z -o "$1" -l "$2" /dev/ublkb0
	ok model zeroes "$@"
}
discard() {
	ok /dev/ublkb0 discard "$@"
	ok model zeroes "$@"
}

# Several I/Os at once, each of a string of io's words.
at_once() {
	local words pid pids=()
	for words in "$@"; do
		# shellcheck disable=SC2086
		ok /dev/ublkb0 $words 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
}

# The same, and on the model one after the other: they do not touch each other.
both_at_once() {
	local words
	at_once "$@"
	for words in "$@"; do
		# shellcheck disable=SC2086
		ok model $words
	done
}

# The device has what the model has: all of it, or $2 bytes from $1 on.
same() { cmp model <(dd if=/dev/ublkb0 bs=1M iflag=direct status=none); }
same_at() {
	cmp <(dd if=model bs=64k skip="$1" count="$2" iflag=skip_bytes,count_bytes status=none) \
		<(dd if=/dev/ublkb0 bs=64k skip="$1" count="$2" iflag=direct,skip_bytes,count_bytes status=none)
}

# So it has, and so has QEMU without the device.
compared() {
	same
	clean
	qemu-img compare -f qcow2 -F raw image model
}

# The number at byte $1 of the image, of 8 bytes, or of $2; in hexadecimal.
hex() { od -An -tx"${2:-8}" --endian=big -j"$1" -N"${2:-8}" image | tr -d ' '; }

# Where the image's L1 table, its first L2 table and its first refcount block are.
l1() { echo $((0x$(hex 40))); }
l2() { echo $((0x$(hex "$(l1)") & 0xfffffffffffe00)); }
refcount_block() { echo $((0x$(hex $((0x$(hex 48)))))); }

# The 8 bytes at $1 of the image become the number $2.
poke() {
	printf '%b' "$(printf %016x "$2" | sed 's/../\\x&/g')" |
		dd of=image bs=1 seek="$1" conv=notrunc status=none
}

# The clusters that have a place in the image, while the device may be there.
allocated() {
	[ ! -e /dev/ublkb0 ] || ok /dev/ublkb0 flush 0 0
	qemu-img check -U -f qcow2 --output=json image | jq '."allocated-clusters" // 0'
}

# /dev/mapper/ill is 32M that can be read and written but for bytes $1 to $2. It is made, or
# becomes that.
ill() {
	local from=$((${1:-0} / 512)) to=$((${2:-0} / 512)) all=65536
	{
		[ $from -eq 0 ] || echo "0 $from linear /dev/a 0"
		[ $to -eq $from ] || echo "$from $((to - from)) error"
		[ $to -eq $all ] || echo "$to $((all - to)) linear /dev/a $to"
	} >"$BATS_TEST_TMPDIR/table"
	ill_by_table
}
ill_by_table() {
	# with a cache, else nothing is flushed
	[ -e /sys/kernel/config/nullb/a ] || null_blk a 32 cache_size=4
	if ! dmsetup info ill >/dev/null 2>&1; then
		dmsetup create ill "$BATS_TEST_TMPDIR/table"
		return
	fi
	dmsetup suspend ill
	dmsetup load ill "$BATS_TEST_TMPDIR/table"
	dmsetup resume ill
}

# Cluster $1, of 64 KiB, of what is on it.
ill_cluster() { ill $(($1 << 16)) $((($1 + 1) << 16)); }

# Nothing on it can be read, written or flushed.
flakey() {
	echo "0 65536 flakey /dev/a 0 0 3600" >"$BATS_TEST_TMPDIR/table"
	ill_by_table
}

# The image is on /dev/mapper/ill, and device 0 is of that. Its clusters of 64 KiB are the
# header, the refcount table, a refcount block, the L1 table; then what comes first.
image_on_ill() {
	ill
	qemu-img create -q -f qcow2 -o "$1" /dev/mapper/ill "${2:-8M}"
}
