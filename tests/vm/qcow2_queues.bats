# What is in flight while the mapping changes: nobody gets its place before it has ended.
# gate: 7.3
load qcow2_image

# Reads of cluster $1, of 64 KiB, of what the image is on do not end before ill.
ill_and_slow() {
	local from=$(($1 * 128))
	modprobe dm-delay
	{
		echo "0 $from linear /dev/a 0"
		echo "$from 128 delay /dev/a $from 3600000 /dev/a $from 0"
		echo "$((from + 128)) $((65536 - from - 128)) linear /dev/a $((from + 128))"
	} >"$BATS_TEST_TMPDIR/table"
	ill_by_table
}

# As many tables as the smallest cache has room for, and more: another one leaves it.
others_are_used() {
	local table
	for table in 3 4 5 6; do
		ok /dev/ublkb0 write $((table << 29)) 64k pattern=9
	done
}

@test "place_of_what_is_read_is_nobody_elses_before_that_has_ended" {
	image_on_ill cluster_size=64k 4G
	device_on /dev/mapper/ill --cache 4k -q 2
	settled /dev/ublkb0
	# not at the start, where udev looks; behind that, its table is in cluster 4
	ok /dev/ublkb0 write 1G 64k pattern=1
	ok /dev/ublkb0 flush 0 0
	ill_and_slow 5
	io /dev/ublkb0 read 1G 64k pattern=1 >"$BATS_TEST_TMPDIR/said" 3>&- &
	reader=$!
	soon reads_reach 1
	others_are_used
	ok /dev/ublkb0 discard 1G 64k
	ok /dev/ublkb0 flush 0 0
	ok /dev/ublkb0 write $(((1 << 30) + 65536)) 128k pattern=2
	ill
	wait $reader
	is "$(cat "$BATS_TEST_TMPDIR/said")" "ok 65536"
	# then it is
	ok /dev/ublkb0 flush 0 0
	ok /dev/ublkb0 write $(((1 << 30) + (3 << 16))) 64k pattern=3
	ok /dev/ublkb0 read 1G 64k
	ok /dev/ublkb0 read $(((1 << 30) + 65536)) 128k pattern=2
	is "$(of failed)" 0
	ln -s /dev/mapper/ill image
	clean
	is "$(hex $(((4 << 16) + 24)))" 8000000000050000
}

misses() { ublk-bpf stats -n 0 --json | jq '.[0].misses | floor'; }
misses_reach() { [ "$(misses)" -ge "$1" ]; }

@test "what_was_given_back_to_the_program_is_done_before_a_discard" {
	image cluster_size=64k 4G
	device --cache 4k -q 2
	settled /dev/ublkb0
	ok /dev/ublkb0 write 1G 64k pattern=1
	others_are_used
	udevadm settle
	before=$(misses) rerun=$(of rerun)
	server=$(jq .server_pid /run/ublk-bpf/0.json)
	# a second between what the server has decided, and the driver's hearing of it
	strace -f -o trace -e trace=io_uring_enter -e inject=io_uring_enter:delay_enter=1000000 \
		-p "$server" 3>&- &
	tracer=$!
	traced() { ! grep -q "^TracerPid:[[:space:]]*0" /proc/"$server"/task/*/status; }
	soon traced
	taskset -c 0 "$CHECKOUT/$tools/io" /dev/ublkb0 read 1G 4k pattern=1 >said 3>&- &
	reader=$!
	soon misses_reach $((before + 1))
	is "$(taskset -c 1 "$CHECKOUT/$tools/io" /dev/ublkb0 discard 1G 64k)" "ok 65536"
	wait $reader
	kill $tracer
	wait $tracer || true
	is "$(cat said)" "ok 4096"
	[ "$(of rerun)" -gt "$rerun" ]
	is "$(of failed)" 0
	ok /dev/ublkb0 read 1G 64k
	clean
}

# On both sides of the ends of tables two jobs write and read back; with further options of fio.
written() {
	fio --output=fio.log --filename="$1" --direct=1 --ioengine=io_uring --iodepth=16 --size=2M --randseed="$SEED" \
		--rw=randwrite --bs=4k --io_size=1M --verify=pattern --verify_pattern=%o --do_verify=1 \
		--verify_fatal=1 --verify_state_save=0 --name=a --offset=511M --name=b --offset=1023M "${@:2}"
}

@test "clusters_are_discarded_over_a_base_while_two_queues_write" {
	truncate -s 1540M base
	for at in 510 1022 1534; do
		ok base write ${at}M 4M pattern=1
	done
	qemu-img create -q -f qcow2 -o cluster_size=64k -b base -F raw image
	cp --sparse=always base model
	device --cache 4k -q 2
	seeded
	# of the third one's tables one is a job's, too; there is more than the cache has room for
	written /dev/ublkb0 --name=t --offset=1535M --rw=randtrimwrite --bs=64k --io_size=8M --verify=0 \
		--name=w --offset=1535M --rw=randrw --io_size=4M --verify=0
	written model
	discard 1535M 2M
	for at in 510 1022 1534; do
		same_at $((at << 20)) 4M
	done
	is "$(of failed)" 0
	ublk-bpf stats -n 0
	clean
	qemu-img compare -f qcow2 -F raw image model
}
