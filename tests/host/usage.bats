# Wrong usage of the command: exit status 2 and a sentence, before anything is asked
# of the kernel. Without a machine.

# "ublk-bpf WORD..." is wrong usage, and says $1.
usage_error() {
	run build/user/ublk-bpf "${@:2}"
	echo "$output"
	[ "$status" -eq 2 ]
	[[ ${lines[0]} == "ublk-bpf"*": $1" ]]
}

@test "wrong_times_and_shares_are_told_with_an_example" {
	usage_error "--delay 5: a time such as 10ms is needed: a number and ns, us, ms or s" \
		add null --delay 5
	usage_error "--error-rate 101%: a share such as 0.1% is needed: 0% to 100%, with at most 9 decimals" \
		add null --error-rate 101%
	usage_error "--error-rate 5: a share such as 0.1% is needed: 0% to 100%, with at most 9 decimals" \
		add null --error-rate 5
}

@test "wrong_sizes_are_told_apart" {
	usage_error "-s 1000: a multiple of 512 bytes is needed, and not 0" add null -s 1000
	usage_error "-s 0: a multiple of 512 bytes is needed, and not 0" add null -s 0
	usage_error "-s 8388608T: too large; less than 8388608T is needed" add null -s 8388608T
	usage_error "-s much: a size such as 1G is needed: a number, and k, M, G, T or nothing" \
		add null -s much
}

@test "wrong_parts_of_a_file_are_told_apart" {
	usage_error "-f img,length=0: length must not be 0; leave it out for all that is left" \
		add loop -f img,length=0
	usage_error "-f img,start=8388608T: start and length are too large, no file goes that far" \
		add loop -f img,start=8388608T
	usage_error "-f img,start=x: FILE[,start=BYTES][,length=BYTES] is needed" add loop -f img,start=x
}

@test "queues_and_depth_are_told_with_their_range" {
	for number in 0 99999 x; do
		usage_error "-q $number: a number from 1 to 4096 is needed" add null -q $number
		usage_error "-d $number: a number from 1 to 4096 is needed" add null -d $number
	done
	usage_error "-n 99999999: a number from 0 to 1048575 is needed" add null -n 99999999
}

@test "one_device_and_all_exclude_each_other" {
	usage_error "-n ID and -a exclude each other: one device, or all" del -n 0 -a
	usage_error "which device? -n ID, or -a for all of ublk-bpf" del
}

@test "output_that_is_lost_is_an_error" {
	run bash -c 'build/user/ublk-bpf --help >/dev/full'
	[ "$status" -eq 1 ]
	[ "$output" = "ublk-bpf: cannot write to standard output: No space left on device" ]
}
