# What QEMU's own tests of qcow2 images show of errors below: docs/qcow2.md has the table.
# gate: 6.12 (as qcow2_behaviour.bats)
load qcow2_image

@test "errors_of_any_part_of_the_image_are_told_and_pass" {
	# three L2 tables: nobody who looks what is on a new disk reads in the middle
	image_on_ill cluster_size=64k 1536M
	device_on /dev/mapper/ill
	# the refcounts, the first L2 table, the L1 table
	ok /dev/ublkb0 write 0 64k pattern=1
	for cluster in 2 4 3; do
		ill_cluster $cluster
		is "$(io /dev/ublkb0 flush 0 0)" EIO
	done
	ill
	ok /dev/ublkb0 flush 0 0
	ok /dev/ublkb0 read 0 64k pattern=1
	# an L2 table that is changed
	ok /dev/ublkb0 write 64k 64k pattern=2
	ill_cluster 4
	is "$(io /dev/ublkb0 flush 0 0)" EIO
	ill
	ok /dev/ublkb0 flush 0 0
	# data that is new, and data that is there
	ill_cluster 7
	is "$(io /dev/ublkb0 write 128k 64k pattern=3)" EIO
	ill_cluster 5
	is "$(io /dev/ublkb0 write 0 64k pattern=3)" EIO
	is "$(io /dev/ublkb0 read 0 64k nocheck)" EIO
	ill
	ok /dev/ublkb0 read 64k 64k pattern=2
	ok /dev/ublkb0 write 128k 64k pattern=3
	ok /dev/ublkb0 write 0 64k pattern=4
	ok /dev/ublkb0 write 600M 64k pattern=5
	clean /dev/mapper/ill
	# an L2 table that is read
	device_on /dev/mapper/ill
	ill_cluster 8
	is "$(io /dev/ublkb0 read 600M 64k nocheck)" EIO
	is "$(io /dev/ublkb0 write 600M 64k pattern=6)" EIO
	ill
	ok /dev/ublkb0 read 600M 64k pattern=5
	ok /dev/ublkb0 read 0 64k pattern=4
	ok /dev/ublkb0 read 64k 64k pattern=2
	ok /dev/ublkb0 read 128k 64k pattern=3
	clean /dev/mapper/ill
}

@test "write_that_fails_in_its_middle_leaks_nothing" {
	image_on_ill cluster_size=64k
	device_on /dev/mapper/ill
	# its second cluster
	ill_cluster 6
	is "$(io /dev/ublkb0 write 0 192k pattern=1)" EIO
	ill
	clean /dev/mapper/ill
	# zeroes that have a place: it is theirs then as before
	device_on /dev/mapper/ill
	ok /dev/ublkb0 write 0 192k pattern=2
	blkdiscard -f -z -o 0 -l 192k /dev/ublkb0
	ill $((5 << 16)) $((8 << 16))
	is "$(io /dev/ublkb0 write 0 4k pattern=3)" EIO
	ill
	ok /dev/ublkb0 read 0 192k
	clean /dev/mapper/ill
}

@test "counts_that_cannot_be_read_are_not_guessed" {
	image_on_ill cluster_size=64k
	qemu-io -f qcow2 -c "write -q -P 7 0 64k" /dev/mapper/ill
	device_on /dev/mapper/ill
	# what has a place needs none
	ill_cluster 2
	is "$(io /dev/ublkb0 write 64k 64k pattern=1)" EIO
	ok /dev/ublkb0 write 0 64k pattern=2
	is "$(io /dev/ublkb0 write 64k 4k pattern=1)" EIO
	ill
	ok /dev/ublkb0 read 64k 64k
	ok /dev/ublkb0 write 64k 64k pattern=1
	ok /dev/ublkb0 read 0 64k pattern=2
	clean /dev/mapper/ill
}

@test "errors_of_a_backing_file" {
	ill
	ok /dev/mapper/ill write 0 1M pattern=1
	qemu-img create -q -f qcow2 -o cluster_size=64k -b /dev/mapper/ill -F raw image
	model 32M
	ok model write 0 1M pattern=1
	device -b /dev/mapper/ill
	ill 0 $((2 << 16))
	is "$(io /dev/ublkb0 read 0 4k nocheck)" EIO
	# a part needs the rest, the whole cluster does not
	is "$(io /dev/ublkb0 write 4k 4k pattern=2)" EIO
	is "$(io /dev/ublkb0 write 60k 72k pattern=2)" EIO
	both write 64k 64k pattern=3
	both write 128k 4k pattern=3
	ill
	same_at 0 256k
	both write 4k 4k pattern=4
	both write 60k 72k pattern=5
	compared
}

@test "errors_while_the_table_of_refcounts_grows" {
	image_on_ill cluster_size=512,refcount_bits=64
	device_on /dev/mapper/ill
	# a table of one cluster can count 2 MiB; the new one lies behind that
	ill $((2 << 20)) $((3 << 20))
	is "$(io /dev/ublkb0 write 0 3M pattern=1)" EIO
	ill
	ok /dev/ublkb0 write 0 3M pattern=2
	ok /dev/ublkb0 read 0 3M pattern=2
	clean_but_for_leaks /dev/mapper/ill
	device_on /dev/mapper/ill
	ok /dev/ublkb0 read 0 3M pattern=2
}

@test "error_while_a_cluster_is_copied_spares_the_snapshot" {
	image_on_ill cluster_size=64k
	qemu-io -f qcow2 -c "write -q -P 1 0 64k" /dev/mapper/ill
	qemu-img snapshot -c taken /dev/mapper/ill
	qemu-img convert -f qcow2 -O raw /dev/mapper/ill was
	device_on /dev/mapper/ill
	# all that is behind the snapshot, where a table and the copy have to go
	ill $((8 << 16)) $((16 << 16))
	is "$(io /dev/ublkb0 write 4k 4k pattern=1)" EIO
	ill
	clean_but_for_leaks /dev/mapper/ill
	qemu-img compare -f qcow2 -F raw /dev/mapper/ill was
	qemu-img convert -f qcow2 -l taken -O raw /dev/mapper/ill is
	cmp was is
}

@test "errors_of_a_data_file" {
	ill
	qemu-img create -q -f qcow2 -o data_file=/dev/mapper/ill image 8M
	device -b /dev/mapper/ill
	ill 0 65536
	is "$(io /dev/ublkb0 write 0 64k pattern=1)" EIO
	ill
	ok /dev/ublkb0 write 64k 64k pattern=2
	# a flush is the data file's, too: the program's, when the mapping is in the file
	ok /dev/ublkb0 flush 0 0
	ok /dev/ublkb0 write 64k 64k pattern=3
	modprobe dm-flakey
	flakey
	is "$(io /dev/ublkb0 flush 0 0)" EIO
	is "$(io /dev/ublkb0 write 64k 64k pattern=2 fua)" EIO
	ill
	ok /dev/ublkb0 write 64k 64k pattern=2 fua
	ok /dev/ublkb0 flush 0 0
	# or the server's: when that fails, nobody knows what is there
	ok /dev/ublkb0 write 192k 64k pattern=2
	flakey
	is "$(io /dev/ublkb0 flush 0 0)" EIO
	ill
	is "$(io /dev/ublkb0 write 128k 64k pattern=3)" EIO
	is "$(io /dev/ublkb0 flush 0 0)" EIO
	clean_but_for_leaks
	device -b /dev/mapper/ill
	ok /dev/ublkb0 write 64k 64k pattern=3
	ok /dev/ublkb0 flush 0 0
	ok /dev/ublkb0 read 64k 64k pattern=3
	clean_but_for_leaks
}
