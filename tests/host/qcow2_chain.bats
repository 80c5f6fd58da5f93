# Images that lie over others: how many can, and what is said of those that cannot be had. No
# machine.

size=1M

setup() {
	cd "$BATS_TEST_TMPDIR" || return
	truncate -s $size model
}

qcow2() { "$BATS_TEST_DIRNAME/../../build/tests-tools/qcow2" "$@"; }

# Image $1, over file $2 of format $3, which need not be there.
over() { qemu-img create -q -u -f qcow2 -b "$2" -F "$3" "$1" $size; }

# The bytes from $2 of image $1 on become those of $3, in hexadecimal.
poke() {
	printf '%b' "$(fold -w 2 <<<"$3" | sed 's/^/\\x/' | tr -d '\n')" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# The image is refused for reason $1.
refused() {
	run qcow2 image model 0
	[ "$status" -eq 1 ]
	grep -qFx -- "qcow2: image: $1" <<<"$output" || { printf "no '%s' in:\n%s\n" "$1" "$output"; return 1; }
}

# Of the names a part, of the reason all.
@test "option_that_is_needed_is_told_at_any_depth_and_of_any_name" {
	long=$(printf 'long%.0s' {1..60})
	mkdir -p elsewhere
	truncate -s $size "elsewhere/$long"
	over "third$long" "$PWD/elsewhere/$long" raw
	over "second$long" "third$long" qcow2
	over "first$long" "second$long" qcow2
	over image "first$long" qcow2
	named="third$long" far="$PWD/elsewhere/$long"
	refused "backing file '${named::100}': its backing file '${far::100}' is elsewhere, which the image alone does not decide; allow it by -b FILE or --allow DIR"
}

# Holes take no room in the files, but they do in memory.
@test "tables_of_all_files_have_a_bound" {
	local table
	truncate -s $size image0
	over image1 image0 raw
	for i in {2..12}; do
		over image$i image$((i - 1)) qcow2
		# an L1 table of 32 MiB, behind all else
		table=1048576
		truncate -s $((table + (32 << 20))) image$i
		poke image$i 36 00400000
		poke image$i 40 "$(printf %016x "$table")"
	done
	over image image11 qcow2
	qcow2 image model 100
	qemu-img compare -f qcow2 -F raw image model
	over image image12 qcow2
	refused "backing file 'image12': to read it and those below it takes more than 512 MiB of memory; qemu-img rebase makes them fewer"
}

# Four tables and three clusters of 2 MiB each.
@test "large_clusters_of_all_files_have_a_bound" {
	over image0 model raw
	for i in {1..37}; do
		qemu-img create -q -u -f qcow2 -o cluster_size=2M -b image$((i - 1)) -F qcow2 image$i $size
	done
	over image image36 qcow2
	cp model now
	qcow2 image now 100
	over image image37 qcow2
	refused "backing file 'image37': to read it and those below it takes more than 512 MiB of memory; qemu-img rebase makes them fewer"
}

# The names of all are as long: an image is made of another by a word.
@test "up_to_256_files_lie_over_each_other" {
	local i below
	head -c $size /dev/urandom >file001
	cp file001 model
	over made file001 qcow2
	over file002 file001 raw
	for ((i = 3; i < 256; i++)); do
		printf -v below file%03d $((i - 1))
		LC_ALL=C sed "s/file001/$below/" made >"file$(printf %03d $i)"
	done
	# data of the first but one, of one in the middle and of the last
	for i in 002 128 255; do
		qemu-io -f qcow2 -c "write -q -P $((10#$i)) $((10#$i * 3))k 5k" file$i
		qemu-io -f raw -c "write -q -P $((10#$i)) $((10#$i * 3))k 5k" model
	done
	over image file255 qcow2
	qcow2 image model 0
	qcow2 image model 20
	LC_ALL=C sed "s/file001/file255/" made >file256
	over image file256 qcow2
	refused "backing file 'file001': more than 256 files lie over each other; qemu-img rebase makes them fewer"
}
