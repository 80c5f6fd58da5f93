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
