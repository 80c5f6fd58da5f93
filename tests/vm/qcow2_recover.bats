# A qcow2 image whose server dies: the next one goes on with the mapping that is in memory.
load qcow2_image

@test "server_is_killed_while_it_allocates" {
	image cluster_size=4k 64M
	device -q 2 --recover wait --cache 64k
	seeded
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=16 --size=48M --verify=crc32c --do_verify=1 --verify_fatal=1 \
		--verify_state_save=0 --serialize_overlap=1 --randseed="$SEED" >fio.log 2>&1 3>&- &
	for _ in $(seq "${KILLS:-8}"); do
		sleep 0.$((RANDOM % 9))
		kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
		soon served_again
	done
	wait $! || { cat fio.log; return 1; }
	is "$(of failed)" 0
	ublk-bpf del -n 0
	# what the dead had not counted yet is leaked, at most
	run qemu-img check image
	[ "$status" = 0 ] || [ "$status" = 3 ]
	device -r
	fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=4k \
		--iodepth=16 --size=48M --verify=crc32c --verify_only --verify_fatal=1 \
		--verify_state_save=0 --serialize_overlap=1 --randseed="$SEED"
}

@test "files_of_a_device_without_a_server_are_locked" {
	image data_file=data
	device --recover wait
	ok /dev/ublkb0 write 0 64k pattern=1
	kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
	for file in "qcow2 image" "raw data"; do
		# shellcheck disable=SC2086
		run qemu-io -c "write 0 4k" -f $file
		[ "$status" -ne 0 ]
		has "$output" 'Failed to get .*lock'
	done
	soon served_again
	ok /dev/ublkb0 read 0 64k pattern=1
	clean
	qemu-io -c "write 0 4k" -f raw data
}

@test "nobody_goes_on_after_a_flush_that_failed" {
	ill
	modprobe dm-flakey
	qemu-img create -q -f qcow2 -o data_file=/dev/mapper/ill image 8M
	device --recover wait -b /dev/mapper/ill
	ok /dev/ublkb0 write 0 64k pattern=1
	flakey
	is "$(io /dev/ublkb0 flush 0 0)" EIO
	ill
	kill -KILL "$(jq .server_pid /run/ublk-bpf/0.json)"
	run ublk-bpf recover -n 0
	is "$status" 1
	has "$output" "its last server has lost what was not flushed \\(Input/output error\\)"
	clean_but_for_leaks
}
