# Images that qemu-img makes, in all shapes, after random operations by our engine: QEMU
# finds them clean, and what it reads there is what was written. No machine.

size=32M

has_compressed() { qemu-img check --output=json image | jq -e '."compressed-clusters"'; }

# An empty image, with options $1.
empty() {
	rm -f model data
	qemu-img create -q -f qcow2 -o "$1" image $size
	truncate -s $size model
}

# One over a raw file that ends before it does.
over_a_file() {
	rm -f data
	random base
	qemu-img create -q -f qcow2 -o "$1" -b base -F raw image $size
	cp base model
	truncate -s $size model
}

# One with clusters of $1 over one with clusters of $2, over a raw file.
over_two_files() {
	over_a_file cluster_size="$2"
	qcow2 image model 400
	mv image middle
	qemu-img create -q -f qcow2 -o cluster_size="$1" -b middle -F qcow2 image $size
}

# One that has the data itself, with further options of qemu-img convert.
full() {
	random base
	qemu-img convert -O qcow2 -o "$1" "${@:2}" base image
	qemu-img resize -q image $size
	cp base model
	truncate -s $size model
}

# That can be compressed, to clusters that end anywhere.
random() { base64 -w0 /dev/urandom | head -c 20M >"$1"; }

qcow2() { "$BATS_TEST_DIRNAME/../../build/tests-tools/qcow2" "$@"; }

# Operations on the image, the rest as the tool wants it; what QEMU says to it.
operated() {
	qcow2 image model 400 "$@"
	qemu-img check image
	qemu-img compare -f qcow2 -F raw image model
}

# The same of an image with a snapshot, which is not touched.
operated_beside_a_snapshot() {
	cp model taken
	qemu-img snapshot -c taken image
	operated "$@"
	qemu-img convert -l taken -O raw image snapshot
	qemu-img compare -f raw -F raw snapshot taken
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
}

clusters="512 4k 64k 2M"

@test "qcow2_of_both_versions" {
	for cluster in $clusters; do
		for version in 0.10 1.1; do
			empty compat="$version",cluster_size="$cluster"
			operated
			over_a_file compat="$version",cluster_size="$cluster"
			operated
		done
	done
}

@test "qcow2_over_two_files" {
	for cluster in 4k 64k; do
		for below in 4k 64k; do
			over_two_files $cluster $below
			operated
			operated_beside_a_snapshot
		done
	done
}

@test "qcow2_with_refcounts_of_any_width" {
	for cluster in $clusters; do
		for bits in 1 2 4 8 32 64; do
			over_a_file cluster_size="$cluster",refcount_bits="$bits"
			operated
		done
	done
}

@test "qcow2_with_compressed_clusters" {
	for cluster in $clusters; do
		for type in zlib zstd; do
			full cluster_size="$cluster",compression_type="$type" -c
			has_compressed
			operated
		done
	done
}

@test "qcow2_with_a_snapshot" {
	for cluster in $clusters; do
		full cluster_size="$cluster"
		operated_beside_a_snapshot
		full cluster_size="$cluster" -c
		operated_beside_a_snapshot
	done
	over_a_file compat=0.10
	operated_beside_a_snapshot
}

@test "qcow2_that_was_preallocated" {
	for cluster in $clusters; do
		empty cluster_size="$cluster",preallocation=metadata
		operated
	done
}

@test "qcow2_with_subclusters" {
	for cluster in 16k 64k 2M; do
		empty cluster_size="$cluster",extended_l2=on
		operated
		over_a_file cluster_size="$cluster",extended_l2=on
		operated
		full cluster_size="$cluster",extended_l2=on -c
		operated_beside_a_snapshot
		empty cluster_size="$cluster",extended_l2=on,preallocation=metadata
		operated
	done
}

@test "qcow2_with_a_data_file" {
	empty data_file=data
	operated data
	over_a_file data_file=data
	operated data
	empty data_file=data,data_file_raw=on
	operated data
	qemu-img compare -f raw -F raw data model
}

# A bitmap that was to tell of our writes is not to be trusted, others are as they were.
@test "qcow2_with_bitmaps" {
	for cluster in $clusters; do
		full cluster_size="$cluster"
		qemu-img bitmap --add image tracks
		qemu-img bitmap --add --disable image still
		operated
		is=$(qemu-img info --output=json image |
			jq -c '."format-specific".data.bitmaps[] | [.name, .flags[]]')
		[ "$is" = '["tracks","in-use","auto"]
["still"]' ]
		qemu-img bitmap --clear --enable image still
		run qemu-img bitmap --clear image tracks
		[ "$status" -ne 0 ]
		qemu-img bitmap --remove image tracks
		qemu-img check image
	done
}

# Is the bit of a header that was not closed set?
is_dirty() { [ "$(od -An -tu1 -j79 -N1 image)" -eq 1 ]; }

# The number of 8 bytes at $1.
number() { od -An -tu8 --endian=big -j"$1" -N8 image | tr -d ' '; }

# The image was not closed, and each of its refcounts is anything.
damaged() {
	local cluster=$1 table block at bits
	bits=$(od -An -tu1 -j79 -N1 image)
	printf '%b' "\\x$(printf %x $((bits | 1)))" | dd of=image bs=1 seek=79 conv=notrunc status=none
	table=$(number 48)
	for ((at = table; at < table + cluster; at += 8)); do
		block=$(number "$at")
		[ "$block" -ne 0 ] || break
		dd if=/dev/urandom of=image bs="$cluster" seek=$((block / cluster)) count=1 \
			conv=notrunc status=none
	done
}

@test "qcow2_with_lazy_refcounts" {
	for cluster in $clusters; do
		full cluster_size="$cluster",lazy_refcounts=on
		qemu-img snapshot -c taken image
		KILLED=1 qcow2 image model 400
		is_dirty
		qcow2 image model 0
		run is_dirty
		[ "$status" -ne 0 ]
		qemu-img check image
		qemu-img compare -f qcow2 -F raw image model
		operated
	done
}

@test "qcow2_that_qemu_did_not_close" {
	full lazy_refcounts=on
	qemu-img snapshot -c taken image
	run qemu-io -c "write -P 1 0 3M" -c "discard 5M 3M" -c "write -P 2 30M 1M" -c flush -c abort image
	is_dirty
	qemu-io -f raw -c "write -P 1 0 3M" -c "write -z 5M 3M" -c "write -P 2 30M 1M" model
	operated
}

@test "qcow2_that_was_not_closed" {
	for cluster in 4096 65536 2097152; do
		for how in "" -c; do
			full cluster_size="$cluster" $how
			qemu-img bitmap --add image tracks
			qemu-img bitmap --add --disable image still
			cp model taken
			qemu-img snapshot -c taken image
			qcow2 image model 100
			damaged "$cluster"
			run qemu-img check image
			[ "$status" -ne 0 ]
			qcow2 image model 0
			qemu-img check image
			qemu-img compare -f qcow2 -F raw image model
			qemu-img convert -l taken -O raw image snapshot
			qemu-img compare -f raw -F raw snapshot taken
			operated
		done
	done
	for options in extended_l2=on data_file=data refcount_bits=1; do
		empty "$options"
		more=()
		[ "$options" != data_file=data ] || more=(data)
		qcow2 image model 100 "${more[@]}"
		damaged 65536
		qcow2 image model 0 "${more[@]}"
		qemu-img check image
		qemu-img compare -f qcow2 -F raw image model
	done
}

# Of each kind of image, at some points of a random history; what it has lost are free clusters.
@test "what_a_crash_leaves_is_clean_to_qemu" {
	local image options checked=0
	mkdir states
	STATES=states "$BATS_TEST_DIRNAME/../../build/tests-unit/qcow2_image"
	for image in states/*.image; do
		options=driver=qcow2,file.driver=file,file.filename=$image
		[ ! -e "${image%image}data" ] ||
			options+=,data-file.driver=file,data-file.filename=${image%image}data
		run qemu-img check --image-opts "$options"
		echo "$image: $output"
		[ "$status" -eq 0 ] || [ "$status" -eq 3 ]
		checked=$((checked + 1))
	done
	[ "$checked" -ge 40 ]
}

# The second cluster of the disk is said to be where the refcount table is.
@test "qcow2_that_is_damaged" {
	for cluster in 4k 64k 2M; do
		full cluster_size="$cluster"
		l2=$((0x$(od -An -tx8 --endian=big -j"$(number 40)" -N8 image | tr -d ' ') & 0xfffffffffffe00))
		dd if=image of=image bs=8 skip=6 seek=$((l2 / 8 + 1)) count=1 conv=notrunc status=none
		run qcow2 image model 400
		[ "$status" -ne 0 ]
		# QEMU does not write to it any more, either
		run qemu-io -c "write 0 1M" image
		[[ $output = *"Image is corrupt"* ]]
	done
}
