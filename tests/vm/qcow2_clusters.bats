# What QEMU's own tests show of clusters that are copied, zeroed, discarded or compressed.
# gate: 6.12 (as qcow2_behaviour.bats)
load qcow2_image

@test "sectors_of_the_backing_file_between_those_of_the_image" {
	for file in base model; do
		rm -f $file
		truncate -s 6G $file
		ok $file write 0 256k pattern=1
		ok $file write 4G 256k pattern=1
	done
	qemu-img create -q -f qcow2 -o cluster_size=64k -b base -F raw image 6G
	device
	for at in 0 $((4 << 30)); do
		for sector in $(seq 1 2 16); do
			both write $((at + sector * 512)) 512 pattern=2
		done
		both write $((at + 131072)) 64k pattern=3
		same_at $at 524288
	done
	clean
}

@test "copy_on_write_in_one_two_and_several_clusters" {
	image_over_a_base cluster_size=4k 128k 1M
	device
	for part in "0 2k" "6k 2k" "9k 2k" "16k 6k" "26k 6k" "33k 5k" "48k 15k" "66k 14k" "83k 15k"; do
		# shellcheck disable=SC2086
		both write $part pattern=2
	done
	compared
}

# Bytes $1 in some forty places of the disk, each up to 16 KiB from any sector on.
writes_anywhere() {
	for disk in /dev/ublkb0 model; do
		fio --output=fio.log --name=w --filename=$disk --direct=1 --rw=randwrite --bsrange=512-16k \
			--blockalign=512 --norandommap --io_size=320k --buffer_pattern="$1" \
			--randseed=$((SEED + $1))
	done
}

@test "copy_on_write_from_a_chain_and_from_a_snapshot" {
	seeded
	for cluster in 4k 64k; do
		filled base 1M 1
		qemu-img create -q -f qcow2 -o cluster_size=16k -b base -F raw middle 2100k
		qemu-io -f qcow2 -c "write -q -P 2 300k 500k" -c "write -q -z 600k 200k" \
			-c "write -q -P 3 1500k 300k" middle
		qemu-img create -q -f qcow2 -o cluster_size=$cluster -b middle -F qcow2 image
		modelled
		device
		writes_anywhere 17
		compared
		qemu-img snapshot -c taken image
		cp model taken
		device
		writes_anywhere 18
		compared
		qemu-img convert -f qcow2 -l taken -O raw image was
		cmp taken was
	done
}

@test "backing_file_that_ends_within_a_cluster" {
	size=$((1048576 + 1536))
	filled raw $size 1
	for format in raw qcow2; do
		qemu-img convert -f raw -O $format raw base
		qemu-img create -q -f qcow2 -o cluster_size=64k -b base -F $format image 2M
		cp raw model
		truncate -s 2M model
		device
		same
		for at in $(seq $((size - 4096)) 1024 $((size + 4096))); do
			both write "$at" 512 pattern=2
		done
		compared
	done
}

@test "image_that_was_made_shorter_and_longer_again" {
	image_over_a_base cluster_size=64k 1M
	qemu-io -f qcow2 -c "write -q -P 34 0 1M" image
	qemu-img resize -q --shrink image 520k
	qemu-img resize -q image 567k
	modelled
	device
	is "$(blockdev --getsize64 /dev/ublkb0)" $((567 << 10))
	ok /dev/ublkb0 read 520k 47k
	both write 519k 2k pattern=2
	compared
}

@test "part_of_a_new_cluster_leaves_zeroes_around_it" {
	image cluster_size=64k 1M
	model 1M
	device
	both write 64k 64k pattern=1
	both write 1k 2k pattern=2
	# the place of one that is given back, with what is in it
	discard 64k 64k
	ok /dev/ublkb0 flush 0 0
	both write 129k 2k pattern=3
	compared
}

@test "zeroes_with_and_without_a_place_at_all_offsets" {
	for zero in zero zero_in_place; do
		image cluster_size=64k 1M
		model 1M
		device
		both write 512 1024 pattern=1
		both write 128k 1536 pattern=2
		$zero 1k 128k
		same
		both write 64k 64k pattern=3
		$zero 64k 64k
		compared
		image_over_a_base cluster_size=4k 1M 2M
		device
		$zero 64k 192k
		$zero 513k 13k
		same
		for part in "60k 8k" "64k 8k" "76k 4k" "252k 8k" "248k 8k"; do
			# shellcheck disable=SC2086
			both write $part pattern=4
		done
		same
		$zero 64k 192k
		compared
	done
}

# Up to 16 units of 1 KiB each: data in the backing file (X), zeroed (0), both (x), or nothing.
zeroed="00.. ..00 .00. ...00... X.0. .X0. .0X. .0.X .x0. .0x. .xx. X..00... .X.00... ..X00...
	...00X.. ...00.X. ...00..X ..Xx|xX.. XX00000000... ..000xx00... ..00000000XX
	.Xxxxxxxxx.X"

@test "zeroes_beside_data_of_the_backing_file" {
	zeroed=${zeroed//|/}
	# shellcheck disable=SC2086
	printf '%s\n' $zeroed | awk '{
		for (i = 1; i <= 16; i++)
			for (j = 0; j < 64; j++)
				printf "%s", substr($1, i, 1) ~ /[Xx]/ ? "XXXXXXXXXXXXXXXX" : "................"
	}' | tr . '\0' >base
	# the last cluster is not whole, nor is the backing file's
	size=$(($(stat -c %s base) + 2048))
	head -c 1024 /dev/urandom >>base
	qemu-img create -q -f qcow2 -o cluster_size=4k -b base -F raw image $size
	cp base model
	truncate -s $size model
	device
	at=0 zero=zero other=zero_in_place
	for units in $zeroed; do
		before=${units%%[0x]*}
		those=${units#"$before"}
		those=${those%%[!0x]*}
		$zero $((at + ${#before} * 1024)) $((${#those} * 1024))
		at=$((at + 16384)) was=$zero zero=$other
		other=$was
	done
	same
	zero $((size - 512)) 512
	same
	zero $((size - 2048)) 512
	same
	zero_in_place $((size - 2048)) 2048
	compared
}

@test "zeroes_give_places_back_or_keep_them" {
	image_over_a_base cluster_size=64k 2M 4M
	device
	is "$(allocated)" 0
	# where nothing is, nothing is allocated
	zero 0 256k
	zero_in_place 1M 256k
	zero 3M 256k
	is "$(allocated)" 0
	both write 2M 1M pattern=2
	is "$(allocated)" 16
	zero 2M 256k
	is "$(allocated)" 12
	zero_in_place 2560k 384k
	is "$(allocated)" 12
	zero 2816k 128k
	is "$(allocated)" 10
	# again, where there are zeroes
	zero_in_place 2M 384k
	is "$(allocated)" 10
	compared
}

@test "what_is_discarded_is_zeroes_and_free" {
	for compat in 0.10 1.1; do
		image compat=$compat 256k
		model 256k
		device
		both write 0 256k pattern=1
		discard 64k 128k
		is "$(allocated)" 2
		compared
		image_over_a_base compat=$compat 256k
		device
		both write 0 256k pattern=2
		if [ $compat = 0.10 ]; then	# it has nothing else to hide the base
			ok /dev/ublkb0 discard 64k 128k
			is "$(allocated)" 4
		else
			discard 64k 128k
			is "$(allocated)" 2
		fi
		compared
	done
	# zeroes that have kept their places
	image compat=1.1 1M
	model 1M
	device
	both write 0 256k pattern=1
	zero_in_place 0 256k
	is "$(allocated)" 4
	discard 0 256k
	is "$(allocated)" 0
	compared
}

@test "discarded_compressed_cluster_leaves_its_neighbour" {
	image cluster_size=64k 128k
	qemu-io -f qcow2 -c "write -q -c -P 42 0 64k" -c "write -q -c -P 23 64k 64k" image
	modelled
	device
	discard 64k 64k
	compared
}

@test "compressed_cluster_whose_size_is_wrong" {
	image cluster_size=2M 8M
	qemu-io -f qcow2 -c "write -q -c -P 17 0 2M" -c "write -q -c -P 18 2M 2M" image
	modelled
	at=$(l2)
	first=$((0x$(hex "$at")))
	second=$((0x$(hex $((at + 8)))))
	# two sectors less than it takes; the others can be read
	poke "$at" $((first - (2 << 49)))
	device
	is "$(io /dev/ublkb0 read 0 512 nocheck)" EIO
	same_at $((2 << 20)) $((6 << 20))
	# no part of it can be written, but all be discarded
	is "$(io /dev/ublkb0 write 0 512 pattern=1)" EIO
	discard 0 2M
	both write 0 512 pattern=1
	compared
	# more than a cluster can take: no more of it is looked at
	poke $((at + 8)) $(((second & ((1 << 49) - 1)) | 4097 << 49 | 1 << 62))
	device
	same_at 0 $((8 << 20))
	ublk-bpf del -n 0
	is "$(hex 72)" 0000000000000000
}

@test "compressed_cluster_behind_4_gibibytes_of_the_file" {
	image cluster_size=2M,refcount_bits=2 8M
	truncate -s 4G image
	# all before that is taken: 01 01 01 01 in each byte
	head -c 512 /dev/zero | tr '\0' U |
		dd of=image bs=512 seek=$(($(refcount_block) / 512)) conv=notrunc status=none
	qemu-io -f qcow2 -c "write -q -c -P 42 0 2M" -c "write -q -c -P 43 2M 2M" image
	modelled
	device
	same
	both write 1M 2M pattern=1
	same
	is "$(of failed)" 0
	clean_but_for_leaks
	qemu-img compare -f qcow2 -F raw image model
}

@test "compressed_clusters_of_both_types_and_what_cannot_be_compressed" {
	filled raw 1M 1
	head -c 1M /dev/urandom >>raw
	for type in zlib zstd; do
		qemu-img convert -f raw -O qcow2 -c -o compression_type=$type raw image
		cp raw model
		device
		same
		for at in 65534 131070; do
			cmp -n 8 <(tail -c +$((at + 1)) model | head -c 8) <(tail -c +$((at + 1)) /dev/ublkb0 | head -c 8)
		done
		both write 96k 64k pattern=2
		both write 1000k 64k pattern=3
		compared
		# all of it
		device
		both write 0 2M pattern=4
		compared
		is "$(qemu-img check -f qcow2 --output=json image | jq '."compressed-clusters" // 0')" 0
	done
}
