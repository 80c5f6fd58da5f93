# Images, and what they are made of, that may be anything: what cannot be true is refused or
# found, and nothing crashes, hangs, or reads what is not there. No machine.
#
# $SEED is where all choices begin; it is printed. What is found to fail is left in
# build/fuzz-found, and the corpus of a checkout in build/fuzz-corpus; inputs that once failed
# are in tests/fuzz/corpus, as text.

top=$BATS_TEST_DIRNAME/../..
found=$top/build/fuzz-found
seconds=${FULL:+600}
rounds=${FULL:+20000}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
	seed=${SEED:-$(($(od -An -tu4 -N4 /dev/urandom) / 4 + 1))}
	echo "seed $seed"
	mkdir -p "$found" seeds
}

# Lines "OFFSET: BYTES" of file $1, in hexadecimal, as the bytes themselves.
bytes() {
	perl -ne 's/#.*//; next unless /^\s*([0-9a-f]+):(.*)/;
		my ($at, $hex) = (hex $1, $2);
		$hex =~ s/\s//g; my $new = pack "H*", $hex;
		$all .= "\0" x ($at + length($new) - length($all)) if length($all) < $at + length $new;
		substr($all, $at, length $new) = $new;
		END { print $all }' "$1"
}

# Run fuzzer $1 for a while, with the inputs in seeds and those of the corpus.
fuzz() {
	local name=$1 corpus=$top/build/fuzz-corpus/$1 text

	mkdir -p "$corpus"
	for text in "$top/tests/fuzz/corpus/$name"/*.hex; do
		bytes "$text" >"seeds/${text##*/}"
	done
	if ! "$top/build/tests-fuzz/$name" -seed="$seed" -max_total_time="${seconds:-15}" \
		-timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1 \
		-artifact_prefix="$found/$name-" "${@:2}" "$corpus" seeds >log 2>&1; then
		tail -n 60 log
		return 1
	fi
	grep -E 'Done|stat::number_of_executed_units' log
}

create() { qemu-img create -q -f qcow2 "$@"; }

# What a disk of 1 MiB, or at least 64 KiB, may have: data, zeroes, and what was discarded.
write() {
	qemu-io -f qcow2 image -c "write -P 1 0 20k" -c "write -P 2 100k 5k" -c "write -z 64k 8k" \
		-c "discard 4k 4k" -c "write -P 3 500k 12k" >/dev/null
}

write_little() {
	qemu-io -f qcow2 image -c "write -P 1 0 2k" -c "write -P 2 40k 1k" -c "write -z 10k 1k" \
		-c "discard 0 512" >/dev/null
}

@test "qcow2_header_of_any_bytes" {
	local options
	truncate -s 1M base
	for options in compat=0.10 compat=1.1 cluster_size=512 lazy_refcounts=on refcount_bits=64 \
		extended_l2=on data_file=data compression_type=zstd; do
		create -o "$options" image 1M
		head -c 1024 image >"seeds/$options"
		rm -f data
	done
	create -o backing_file=base,backing_fmt=raw image 1M
	head -c 1024 image >seeds/backing
	qemu-img create -q -f qcow2 image 1M
	qemu-img bitmap --add image tracks
	head -c 1024 image >seeds/bitmaps
	fuzz qcow2_header -max_len=4096
}

@test "qcow2_tables_of_any_bytes" {
	fuzz qcow2_entries -max_len=16400
}

@test "qcow2_compressed_cluster_of_any_bytes" {
	local i
	# clusters of 512 bytes to 64 KiB, by zlib
	for i in 0 1 2 3 4 5 6 7; do
		{ printf '%b' "\\x$(printf %02x $((i * 4)))"
		  seq 20000 | head -c $((512 << i)) | gzip -nc | tail -c +11; } >"seeds/zlib$i"
		# and what is to be compressed first, in both ways
		{ printf '%b' "\\x$(printf %02x $((i * 4 + 2)))"; seq 50; } >"seeds/there$i"
		{ printf '%b' "\\x$(printf %02x $((i * 4 + 3)))"; seq 50; } >"seeds/back$i"
	done
	# memory is not theirs to ask for
	fuzz qcow2_compressed -max_len=8192 -malloc_limit_mb=4
}

# What is done to the disk of an image is at its end.
with_choices() {
	cat "$1"
	seq -s '' 100 | head -c 64
}

@test "qcow2_image_of_any_bytes" {
	local options
	for options in compat=0.10 compat=1.1 lazy_refcounts=on refcount_bits=1 refcount_bits=64; do
		create -o cluster_size=512,"$options" image 64k
		write_little
		with_choices image >"seeds/$options"
	done
	qemu-img snapshot -c taken image
	with_choices image >seeds/snapshot
	write_little
	with_choices image >seeds/shared
	qemu-img bitmap --add image tracks
	with_choices image >seeds/bitmaps
	seq 3000 >base
	truncate -s 64k base
	qemu-img convert -f raw -c -O qcow2 -o cluster_size=512 base image
	with_choices image >seeds/compressed
	create -o cluster_size=512,data_file=data image 64k
	with_choices image >seeds/data
	create -o cluster_size=512,backing_file=base,backing_fmt=raw image 64k
	write_little
	with_choices image >seeds/backing
	fuzz qcow2_image -max_len=65536
}

compress() { qemu-img convert -f raw -c -O qcow2 "$@" base image; }

# One of the kinds of images that QEMU makes, as small as they can be.
shape() {
	rm -f image data
	case $1 in
	v2) create -o compat=0.10,cluster_size=512 image 1M ;;
	v3) create -o cluster_size=512 image 1M ;;
	large) create -o cluster_size=64k image 1M ;;
	lazy|dirty) create -o cluster_size=4k,lazy_refcounts=on image 1M ;;
	one_bit) create -o cluster_size=4k,refcount_bits=1 image 1M ;;
	wide) create -o cluster_size=512,refcount_bits=64 image 1M ;;
	subclusters) create -o cluster_size=16k,extended_l2=on image 1M ;;
	data) create -o cluster_size=4k,data_file=data image 1M ;;
	backing) create -o cluster_size=4k,backing_file=base,backing_fmt=raw image 1M ;;
	bitmaps) create -o cluster_size=4k image 1M ;;
	snapshot) create -o cluster_size=4k image 1M ;;
	zlib) compress -o cluster_size=4k ;;
	zstd) compress -o compression_type=zstd ;;
	esac
	write
	case $1 in
	dirty) printf '\1' | dd of=image bs=1 seek=79 conv=notrunc status=none ;;
	bitmaps)
		qemu-img bitmap --add image tracks
		qemu-img bitmap --add --disable image still
		;;
	snapshot|zlib)
		qemu-img snapshot -c first image
		write
		qemu-img snapshot -c second image
		qemu-io -f qcow2 image -c "write 300k 9k" >/dev/null
		;;
	esac
}

shapes="v2 v3 large lazy dirty one_bit wide subclusters data backing bitmaps snapshot zlib zstd"

# Try images that are changed, with the rest as the tool wants it. What came of that is in told.
mutate() {
	local more=()

	[ ! -e data ] || more=(-d data)
	mkdir -p "$found/mutated-$1"
	if ! "$top/build/tests-tools/qcow2_mutate" -k "$found/mutated-$1" "${more[@]}" "${@:2}" \
		>out 2>err; then
		tail -n 60 err
		cat out
		return 1
	fi
	rmdir --ignore-fail-on-non-empty "$found/mutated-$1"
	echo "$1: $(tail -n 1 out)" | tee -a told
}

base() {
	seq 200000 | head -c 600k >base
	truncate -s 1M base
}

@test "qcow2_whose_metadata_is_changed" {
	local shape accepted
	base
	for shape in $shapes; do
		shape "$shape"
		qemu-img check -q image
		mutate "$shape" image "$seed" "${rounds:-200}"
	done
	# it is worth it: not all are refused, and some are found out later
	accepted=$(awk '{ sum += $4 + $6 + $11 } END { print sum }' told)
	[ "$accepted" -ge 500 ]
}

# How many errors QEMU finds in an image; nothing if it cannot be opened.
errors_of() {
	timeout 60 qemu-img check --output=json "$1" 2>/dev/null |
		jq '(.corruptions // 0) + ."check-errors"'
}

# What QEMU finds no error in has none after it was used.
@test "qcow2_whose_metadata_is_changed_is_as_good_to_qemu" {
	local shape before after was is compared=0 worse=0
	base
	for shape in $shapes; do
		shape "$shape"
		mkdir pairs
		mutate "$shape" -p pairs image "$seed" $((${rounds:-400} / 20))
		for before in pairs/*.before; do
			[ -e "$before" ] || continue
			after=${before%before}after
			# names in it are beside it
			mv "$before" before
			mv "$after" after
			was=$(errors_of before)
			is=$(errors_of after)
			[ -n "$was" ] || continue
			compared=$((compared + 1))
			if [ "$was" -eq 0 ] && [ "$is" != 0 ]; then
				cp before after "$found"
				echo "$shape, ${after##*/}: errors that were not there: $is"
				return 1
			fi
			[ "$is" -le "$was" ] || worse=$((worse + 1))
		done
		rm -r pairs
	done
	echo "$compared compared; $worse of those that had errors before have more"
	[ "$compared" -ge 50 ]
}
