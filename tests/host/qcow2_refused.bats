# Images that were damaged: what cannot be true is refused, with the reason, and what is found
# only when it is used ends the use of the image. Either way nothing is made worse. No machine.
# docs/qcow2.md says which of QEMU's own tests these are.

size=64M

setup() {
	cd "$BATS_TEST_TMPDIR" || return
	truncate -s $size model
}

qcow2() { "$BATS_TEST_DIRNAME/../../build/tests-tools/qcow2" "$@"; }

# Fail, and say what there is, unless $1 is $2.
is() { [ "$1" = "$2" ] || { echo "there is '$1', not '$2'"; return 1; }; }

# An empty image, with further options of qemu-img create.
image() {
	rm -f image
	qemu-img create -q -f qcow2 "$@" image "$size"
}

# One with data in its first clusters, as many as $1.
used() {
	image "${@:2}"
	qemu-io -f qcow2 -c "write -q -P 1 0 $(($1 * 64))k" image
}

# The bytes from $1 of the image on become those of $2, in hexadecimal.
poke() {
	printf '%b' "$(fold -w 2 <<<"$2" | sed 's/^/\\x/' | tr -d '\n')" |
		dd of=image bs=1 seek=$(($1)) conv=notrunc status=none
}

# The number at byte $1 of the image, of 8 bytes, or of $2.
number() { echo $((0x$(od -An -tx"${2:-8}" --endian=big -j$(($1)) -N"${2:-8}" image | tr -d ' '))); }

# Where fields of the header, and what they lead to, are.
version=4 backing=8 backing_bytes=16 size_of_disk=24 l1_entries=36 l1=40 reftable=48
reftable_clusters=56 snapshots=60 snapshot_table=64 incompatible=72 autoclear=88 header_bytes=100
compression=104
l1_table() { number $l1; }
l2_table() { echo $(($(number "$(l1_table)") & 0xfffffffffffe00)); }
refcount_block() { number "$(number $reftable)"; }

# The tool says this, and fails.
says() {
	is "$status" 1
	grep -qFx -- "qcow2: $1" <<<"$output" || { printf "no '%s' in:\n%s\n" "$1" "$output"; return 1; }
}

# The image is refused for reason $1, and stays as it is.
refused() {
	local before
	before=$(md5sum <image)
	run qcow2 image model 0
	says "image: $1"
	is "$(md5sum <image)" "$before"
}

# It can be opened, and that changes nothing.
opened() {
	local before
	before=$(md5sum <image)
	qcow2 image model 0
	is "$(md5sum <image)" "$before"
}

# It can be opened; when it is used, what is wrong is found. It is marked as corrupt then, and
# no other byte of it changes.
corrupt() {
	cp image before
	run qcow2 image model 400
	says "an operation: Input/output error"
	is "$(number $incompatible)" $(($(od -An -tu1 -j79 -N1 before) | 2))
	cmp <(head -c 79 image) <(head -c 79 before)
	cmp <(tail -c +81 image) <(tail -c +81 before)
	refused "it is marked as corrupt; qemu-img check -r all may mend it"
}

@test "features_that_are_not_known_are_named" {
	image
	names=$(number $header_bytes 4)
	is "$(number "$names" 4)" $((0x6803f857))
	entry=$((names + 8))
	poke $incompatible 8000000000000000
	refused "it has a feature that is not known: bit 63"
	# by the name that the image has for it
	poke $entry "003f$(printf 'Test feature' | od -An -tx1 | tr -d ' \n')00"
	refused "it has a feature that is not known: bit 63 ('Test feature')"
	# the first of several
	poke $incompatible e000000000000000
	refused "it has a feature that is not known: bit 61"
	poke $entry 003d
	refused "it has a feature that is not known: bit 61 ('Test feature')"
	# names of features that are not incompatible are no names of this one
	poke $entry 013d
	refused "it has a feature that is not known: bit 61"
}

@test "autoclear_features_that_are_not_known_go_with_the_first_write" {
	image
	poke $autoclear 8000000000000000
	opened
	qcow2 image model 50
	is "$(number $autoclear)" 0
	qemu-img check image
	qemu-img compare -f qcow2 -F raw image model
}

@test "headers_that_cannot_be_true" {
	image
	poke $header_bytes ffffffff
	refused "its header cannot have 4294967295 bytes"
	poke $header_bytes 7fffffff
	refused "its header cannot have 2147483647 bytes"
	image
	at=$(number $header_bytes 4)
	poke "$at" 123456787fffffff
	poke $backing ffffffffffffffff
	refused "the name of its backing file cannot be 0 bytes at 18446744073709551615"
	poke $backing "$(printf %016x $((at + 4)))"
	refused "the name of its backing file cannot be 0 bytes at $((at + 4))"
	poke $backing 0000000000000000
	refused "its header extension 0x12345678 of 2147483647 bytes goes past the header"
	image
	poke $backing 0000000000001000
	poke $backing_bytes ffffffff
	refused "the name of its backing file cannot be 4294967295 bytes at 4096"
	image
	poke $version 00000004
	refused "it is of version 4; 2 and 3 are known"
	image
	poke 32 00000001
	refused "it is encrypted"
}

@test "disks_that_are_too_large" {
	# such as QEMU does not make them
	run qemu-img create -q -f qcow2 image 1048576T
	[ "$status" -ne 0 ]
	image
	poke $size_of_disk 1000000000000000
	refused "its L1 table of 1 entries is too small for a disk of 1152921504606846976 bytes"
	poke $size_of_disk 8000000000000000
	refused "its disk cannot have 9223372036854775808 bytes"
}

@test "refcount_tables_that_cannot_be_true" {
	image
	poke $reftable_clusters ffffffff
	refused "its refcount table is too large: 281474976645120 bytes"
	poke $reftable_clusters 00020001
	refused "its refcount table is too large: 8590000128 bytes"
	poke $reftable_clusters 00000000
	refused "it has no refcount table; try qemu-img check -r all"
	image
	poke $reftable 1234567890abcdef
	refused "its refcount table is at 1311768467294899695, which is no multiple of a cluster"
	poke $reftable ffffffffffff0000
	poke $reftable_clusters 0000007f
	refused "its refcount table of 8323072 bytes cannot be at 18446744073709486080"
	image
	poke $reftable 0000000000000000
	refused "its refcount table of 65536 bytes cannot be at 0"
	# nothing counts the header
	image
	table=$(number $reftable)
	poke "$table" 0000000000000000
	refused "entry 0 of its refcount table, 0x0, cannot be true"
	used 1
	poke "$table" 0000000000000000
	refused "entry 0 of its refcount table, 0x0, cannot be true"
	poke "$table" 0000000000022a00
	refused "entry 0 of its refcount table, 0x22a00, cannot be true"
	# also when it was not closed
	poke "$table" 00000000ffff2a00
	poke $incompatible 0000000000000001
	refused "entry 0 of its refcount table, 0xffff2a00, cannot be true"
	# others than the first
	image
	poke $((table + 8)) 00ffffff00000000
	refused "a refcount block at cluster 1099511562240 goes past the end of the file; qemu-img check -r all may mend it"
	image -o refcount_bits=1
	poke $((table + 16)) 0000000000000200
	refused "entry 2 of its refcount table, 0x200, cannot be true"
	# a small one, that counts two of the clusters of a write
	image -o refcount_bits=64,cluster_size=1k
	qemu-io -f qcow2 -c "write -q 0 124k" image
	poke $(($(number $reftable) + 14)) 06
	refused "entry 1 of its refcount table, 0x$(printf %x "$(number $(($(number $reftable) + 8)))"), cannot be true"
}

@test "snapshot_tables_that_cannot_be_true" {
	image
	poke $snapshots ffffffff
	refused "it cannot have 4294967295 snapshots"
	poke $snapshots 7fffffff
	refused "it cannot have 2147483647 snapshots"
	poke $snapshots 00020000
	refused "it cannot have 131072 snapshots"
	poke $snapshots 0000ffff
	poke $snapshot_table ffffffffffff0000
	refused "its snapshot table of 0 bytes cannot be at 18446744073709486080"
	poke $snapshot_table 1234567890abcdef
	refused "its snapshot table is at 1311768467294899695, which is no multiple of a cluster"
	# where there is none, nobody looks
	poke $snapshots 00000000
	opened
	# as many as there can be, behind the file's end
	poke $snapshots 00010000
	poke $snapshot_table 0000000001000000
	refused "its snapshot table at cluster 256 goes past the end of the file; qemu-img check -r all may mend it"
}

@test "snapshots_that_cannot_be_true" {
	used 1
	qemu-img snapshot -c test image
	cp image good
	table=$(number $snapshot_table)
	# their L1 tables
	for bad in 0000000000400200:00000001 0000000000060000:10000000 ff00000000060000:00000001; do
		cp good image
		poke "$table" "${bad%:*}${bad#*:}"
		refused "entry 0 of its snapshot table cannot be true; qemu-img check -r all may mend it"
	done
	cp good image
	poke "$table" "$(printf %016x "$(l1_table)")"
	refused "a snapshot's L1 table and its L1 table overlap at cluster $(($(l1_table) >> 16)); qemu-img check -r all may mend it"
	# more data than there is room for
	cp good image
	poke $((table + 36)) 04000000
	refused "entry 0 of its snapshot table cannot be true; qemu-img check -r all may mend it"
	poke $((table + 36)) 00010000
	run qcow2 image model 0
	is "$status" 1
	grep -E "^qcow2: image: its snapshot table (and .* overlap|at cluster .* goes past)" <<<"$output"
	# the image's own table cannot be shorter than the disk, whatever snapshots have
	cp good image
	poke $l1_entries 00000000
	refused "its L1 table of 0 entries is too small for a disk of 67108864 bytes"
}

# Of version 2, where there need be none; with some that nobody knows.
@test "snapshots_with_any_extra_data_are_kept" {
	for extra in 00000000 00000008 00000040; do
		used 1 -o compat=0.10
		qemu-img snapshot -c test image
		qemu-img convert -f qcow2 -O raw image model
		cp model taken
		table=$(number $snapshot_table)
		lengths=$(printf %08x "$(number $((table + 12)) 4)")
		known=$(printf %08x "$(number $((table + 36)) 4)")
		# the id and the name follow, of a byte each
		poke $((table + 36)) $extra
		poke $((table + 12)) 00010001
		entry=$(tail -c +$((table + 1)) image | head -c 64 | md5sum)
		qcow2 image model 100
		is "$(tail -c +$((table + 1)) image | head -c 64 | md5sum)" "$entry"
		qemu-img check image
		qemu-img compare -f qcow2 -F raw image model
		poke $((table + 36)) "$known"
		poke $((table + 12)) "$lengths"
		qemu-img convert -f qcow2 -l test -O raw image was
		cmp taken was
	done
}

@test "l1_tables_that_cannot_be_true" {
	image
	poke $l1_entries ffffffff
	refused "its L1 table is too large: 34359738360 bytes"
	poke $l1_entries 7fffffff
	refused "its L1 table is too large: 17179869176 bytes"
	poke $l1_entries 0000ffff
	poke $l1 7fffffffffff0000
	refused "its L1 table of 524280 bytes cannot be at 9223372036854710272"
	poke $l1_entries 00000001
	poke $l1 1234567890abcdef
	refused "its L1 table is at 1311768467294899695, which is no multiple of a cluster"
	# entries that are no place of a table
	used 1
	poke "$(l1_table)" 8000000000042a00
	refused "entry 0 of its L1 table, 0x8000000000042a00, cannot be true"
	poke "$(l1_table)" 0000000000042a00
	refused "entry 0 of its L1 table, 0x42a00, cannot be true"
}

@test "tables_that_lie_in_one_place" {
	image
	poke "$(l1_table)" "8000$(printf %012x "$(l1_table)")"
	refused "an L2 table and its L1 table overlap at cluster 3; qemu-img check -r all may mend it"
	poke "$(l1_table)" 8000000000000000
	refused "entry 0 of its L1 table, 0x8000000000000000, cannot be true"
	poke "$(l1_table)" "8000$(printf %012x "$(refcount_block)")"
	refused "an L2 table and a refcount block overlap at cluster 2; qemu-img check -r all may mend it"
	poke "$(l1_table)" 8000000001000000
	refused "an L2 table at cluster 256 goes past the end of the file; qemu-img check -r all may mend it"
}

@test "data_that_would_lie_where_it_cannot" {
	used 2
	cp image good
	# in a refcount block, within a cluster, as zeroes within the header, far behind the end, and
	# with bits that mean nothing
	for entry in 8000000000020000 8000000000052a00 8000000000052a01 8000000000002a01 \
		800000ffffff0000 bfffffffffff0000; do
		cp good image
		poke "$(l2_table)" $entry
		corrupt
	done
	# compressed, and behind the end
	cp good image
	poke "$(l2_table)" 4000000001000000
	corrupt
}

@test "subclusters_that_cannot_be_true" {
	used 2 -o extended_l2=on
	cp image good
	# allocated and zero, allocated without a place, not where a cluster can be, and what only
	# clusters without subclusters have: QEMU takes no notice of that
	for entry in 8000000000050000:0000000100000001 0000000000000000:0000000000000001 \
		8000000000050200:0000000000000001 8000000000050001:0000000000000001; do
		cp good image
		poke "$(l2_table)" "${entry%:*}${entry#*:}"
		corrupt
	done
	# the bitmap of a compressed cluster means nothing
	image -o extended_l2=on
	qemu-io -f qcow2 -c "write -q -c -P 11 0 64k" image
	qemu-img convert -f qcow2 -O raw image model
	poke $(($(l2_table) + 8)) 0000000180000000
	qcow2 image model 50
	qemu-img compare -f qcow2 -F raw image model
}

@test "clusters_that_are_said_to_be_free_and_are_not" {
	# all of them: the refcount table would be the first
	image
	poke "$(refcount_block)" 0000000000000000
	corrupt
	# the L2 table of the next 512M
	size=1G image
	truncate -s 1G model
	qemu-io -f qcow2 -c "write -q -P 1 0 64k" -c "write -q -P 2 512M 64k" image
	second=$(($(number $(($(l1_table) + 8))) & 0xfffffffffffe00))
	poke $(($(refcount_block) + 2 * (second >> 16))) 0000
	corrupt
	# the header is never taken, whatever is said of it
	rm model
	truncate -s $size model
	image
	poke "$(refcount_block)" 0000
	head=$(head -c 64k image | md5sum)
	qcow2 image model 100
	is "$(head -c 64k image | md5sum)" "$head"
	qemu-img compare -f qcow2 -F raw image model
}

@test "compression_types_that_are_not_said_twice" {
	image
	poke $incompatible 0000000000000008
	refused "its compression type is 0, its feature bits say otherwise"
	image -o compression_type=zstd
	is "$(number $incompatible)" 8
	is "$(number $compression 1)" 1
	poke $incompatible 0000000000000000
	refused "its compression type is 1, its feature bits say otherwise"
	poke $incompatible 0000000000000008
	poke $compression 02
	refused "its clusters are compressed in a way that is not known (2)"
}

@test "formats_of_backing_files_are_not_guessed" {
	qemu-img create -q -f qcow2 base $size
	image -b base -F qcow2
	at=$(number $header_bytes 4)
	is "$(number "$at" 4)" $((0xe2792aca))
	cp image good
	poke $((at + 8)) "$(printf foofo | od -An -tx1 | tr -d ' ')"
	refused "its backing file is of format 'foofo'; raw and qcow2 are known"
	cp good image
	# an extension that nobody knows in its place
	poke "$at" 12345678
	refused "it does not say of which format its backing file is, and nobody guesses; qemu-img rebase -u -F FORMAT does"
	cp good image
	rm base
	refused "its backing file 'base' cannot be found: No such file or directory"
}

@test "images_that_would_lie_over_themselves" {
	image
	qemu-img rebase -u -f qcow2 -F qcow2 -b image image
	over="it would lie over itself; qemu-img rebase -u changes its backing file"
	refused "backing file 'image': $over"
	# by way of another
	qemu-img create -q -f qcow2 base $size
	image -b base -F qcow2
	qemu-img rebase -u -f qcow2 -F qcow2 -b image base
	refused "backing file 'image': $over"
	# below the first
	qemu-img create -q -f qcow2 first $size
	qemu-img create -q -f qcow2 -b first -F qcow2 second
	qemu-img create -q -f qcow2 -b second -F qcow2 third
	image -b third -F qcow2
	qcow2 image model 50
	qemu-img rebase -u -f qcow2 -F qcow2 -b second first
	refused "backing file 'second': $over"
}

@test "data_files_that_cannot_be_had" {
	image -o data_file=data
	cp image good
	qcow2 image model 0 data
	refused "its header and what is given differ in that it has a data file"
	poke $snapshots 00000001
	poke $snapshot_table 0000000000020000
	refused "it has a data file and snapshots, which exclude each other"
	# no cluster of it can be compressed, nor be anywhere but at its own place
	for entry in 4000000000050000 8000000000010000; do
		cp good image
		qemu-io -f qcow2 -c "write -q -P 1 0 64k" image
		poke "$(l2_table)" $entry
		run qcow2 image model 400 data
		says "an operation: Input/output error"
		is "$(number $incompatible)" 6
	done
	image -o data_file=data,data_file_raw=on
	poke $backing 0000000000000400
	poke $backing_bytes 00000004
	refused "its data file is raw, and yet it has a backing file"
	image
	poke $autoclear 0000000000000002
	refused "its data file is raw, but it has none"
	# an image that has none is not given one
	image
	run qcow2 image model 0 data
	says "image: its header and what is given differ in that it has a data file"
}

@test "widths_and_sizes_that_there_are_not" {
	image
	poke 96 00000007
	refused "its refcounts cannot have 2^7 bits"
	image
	poke 20 00000016
	refused "its clusters have 2^22 bytes; 512 bytes to 2 MiB are possible"
	poke 20 00000008
	refused "its clusters have 2^8 bytes; 512 bytes to 2 MiB are possible"
	image -o extended_l2=on,cluster_size=16k
	poke 20 0000000d
	refused "its clusters of 8192 bytes are too small for subclusters"
}
