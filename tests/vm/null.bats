# A null device: wholly in BPF, or in its server.
load common

@test "null_in_bpf_never_wakes_its_server" {
	dev=$(ublk-bpf add null -n 0 -s 64M)
	[ "$dev" = /dev/ublkb0 ]
	[ "$(blockdev --getsize64 "$dev")" = 67108864 ]
	fio --name=n --filename="$dev" --direct=1 --ioengine=io_uring --rw=randrw --bs=4k \
		--iodepth=32 --size=64M --io_size=16M
	[ "$(stat_of 0 "done")" -ge 4096 ]
	[ "$(stat_of 0 redirected)" = 0 ]
	[ "$(stat_of 0 failed)" = 0 ]
}

@test "null_in_the_server_is_stock_ublk" {
	dev=$(ublk-bpf add null -n 0 -s 64M --server)
	dd if="$dev" of=/dev/null bs=64k count=16 iflag=direct
	ublk-bpf list --json -n 0 | jq -e '.[0].served == "server"'
}

@test "writeback_is_not_throttled_by_a_disk_of_ours" {
	ublk-bpf add null -n 0
	wbt=/sys/block/ublkb0/queue/wbt_lat_usec
	[ -e $wbt ] || skip "Linux ${KERNEL} is built without it"
	# 6.12: made, and switched off; later: not made, which reads as an error
	if [ "$KERNEL" = 7.3 ]; then
		is "$(cat $wbt 2>/dev/null || echo none)" none
		echo 1000 >$wbt		# who wants it has it
		is "$(cat $wbt)" 1000
	else
		is "$(cat $wbt)" 0
	fi
}

@test "features_name_ours_beside_the_kernels" {
	features=$(ublk-bpf features)
	has "$features" BPF
	has "$features" USER_COPY
}

@test "devices_are_listed_and_deleted" {
	ublk-bpf add null -n 3
	ublk-bpf add null -n 5 --server
	[ "$(ublk-bpf list --json | jq -c '[.[].id]')" = "[3,5]" ]
	ublk-bpf del -n 3
	[ "$(ublk-bpf list --json | jq -c '[.[].id]')" = "[5]" ]
	ublk-bpf del -a
	[ "$(ublk-bpf list --json | jq -c '[.[].id]')" = "[]" ]
	[ ! -e /dev/ublkb5 ]
}

@test "null_with_a_delay_takes_that_long" {
	dev=$(ublk-bpf add null -n 0 -q 2 -s 64M --delay 100ms)
	echo 0 >/sys/block/ublkb0/queue/iostats
	start=$(date +%s%N)
	dd if="$dev" of=/dev/null bs=4k count=5 iflag=direct
	[ $(($(date +%s%N) - start)) -ge 500000000 ]
	# in parallel on both queues; each I/O is held
	held=$(stat_of 0 held)
	fio --name=n --filename="$dev" --direct=1 --ioengine=io_uring --rw=randrw --bs=4k \
		--iodepth=32 --size=64M --io_size=1M --numjobs=2
	[ "$(stat_of 0 held)" -ge $((held + 512)) ]
	[ "$(stat_of 0 failed)" = 0 ]
	[ "$(stat_of 0 redirected)" = 0 ]
}

@test "device_whose_io_is_delayed_is_deleted_at_once" {
	dev=$(ublk-bpf add null -n 0 -s 64M --delay 2s)
	dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct &
	reader=$!
	until [ "$(stat_of 0 held)" -gt 0 ]; do sleep 0.1; done
	ublk-bpf del --force -n 0
	wait $reader || true
	[ ! -e /sys/block/ublkb0 ]
}

@test "null_with_an_error_rate_fails_that_many" {
	dev=$(ublk-bpf add null -n 0 -s 64M --error-rate 100%)
	run dd if="$dev" of=/dev/null bs=4k count=1 iflag=direct
	[ "$status" -ne 0 ]
	[[ $output == *"Input/output error"* ]]
	ublk-bpf del -n 0
	dev=$(ublk-bpf add null -n 0 -s 64M --error-rate 25% --delay 1ms)
	fio --name=n --filename="$dev" --direct=1 --ioengine=io_uring --rw=randread --bs=4k \
		--iodepth=16 --size=64M --io_size=16M --continue_on_error=all
	# 4096 draws: 6 standard deviations are 166
	failed=$(stat_of 0 failed)
	echo "$failed of 4096"
	[ "$failed" -gt 858 ]
	[ "$failed" -lt 1190 ]
}

@test "wrong_options_of_null_are_told" {
	run ublk-bpf add null --delay 5
	[ "$status" = 2 ]
	[[ $output == *"--delay 5: a time such as 10ms is needed"* ]]
	run ublk-bpf add null --error-rate 101%
	[ "$status" = 2 ]
	[[ $output == *"--error-rate 101%: a share such as 0.1% is needed"* ]]
	run ublk-bpf add loop -f /dev/null --delay 5s
	[ "$status" = 2 ]
	[[ $output == *"target loop has no option --delay"* ]]
	run ublk-bpf add null --delay 1s --server
	[ "$status" = 1 ]
	[[ $output == *"leave out --server"* ]]
	run ublk-bpf add null --delay 60s
	[ "$status" = 1 ]
	[[ $output == *"--delay is at most 20s"* ]]
}

@test "fewer_queues_than_asked_for_are_told" {
	said=$BATS_TEST_TMPDIR/said
	[ "$(ublk-bpf add null -n 0 -q 4096 2>"$said")" = /dev/ublkb0 ]
	queues=$(ublk-bpf list --json -n 0 | jq '.[0].queues')
	[ "$(cat "$said")" = "ublk-bpf: $queues queues instead of 4096: the driver gives at most one a CPU" ]
	ublk-bpf del -n 0
	[ "$(ublk-bpf add null -n 0 -q "$queues" 2>"$said")" = /dev/ublkb0 ]
	[ ! -s "$said" ]
}
