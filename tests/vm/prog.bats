# add prog: object files that do not do, and a sentence for each.
# shellcheck disable=SC2154 # tools, progs, background are common.bash's
# gate: 7.3 (nothing here differs between kernels)
load common

# "add prog WORD..." fails with a first line that has $1, and leaves nothing.
fails() {
	local says=$1
	shift
	run ublk-bpf add prog -n 0 "$@"
	is "$status" 1
	has "${lines[0]}" "^ublk-bpf: cannot add prog $2.*: .*$says"
	[ ! -e /dev/ublkc0 ]
	[ ! -e /sys/fs/bpf/ublk-bpf/0 ]
}

@test "missing_object_is_named" { fails 'cannot open it as a BPF object: No such file' -o /tmp/no_such.bpf.o; }

@test "file_that_is_no_object_is_refused" {
	fails 'cannot open it as a BPF object' -o tests/vm/prog.bats
	fails 'cannot open it as a BPF object' -o "$tools/io"
	: >"$BATS_TEST_TMPDIR/empty"
	fails 'cannot open it as a BPF object' -o "$BATS_TEST_TMPDIR/empty"
}

@test "object_without_an_ops_table_is_refused" { fails 'no struct ublk_bpf_ops in it' -o "$progs/no_ops.bpf.o"; }

@test "object_with_several_ops_tables_needs_a_choice" {
	fails 'several struct ublk_bpf_ops in it; pick one by --ops: .*done_ops.*error_ops.*server_ops' -o "$progs/three.bpf.o"
}

@test "unknown_ops_table_is_refused_and_others_are_named" {
	fails "no struct ublk_bpf_ops 'what' in it; it has: .*done_ops" -o "$progs/three.bpf.o" --ops what
}

@test "refusal_of_the_verifier_shows_callback_and_last_lines" {
	fails 'the BPF verifier refuses callback write_io \(struct_ops/write_io\): Permission denied' \
		-o "$progs/refused.bpf.o" --ops write_io_ops
	[ "${#lines[@]}" -ge 3 ]
	has "$output" 'only read is supported'
}

@test "missing_options_are_usage_errors" {
	run ublk-bpf add prog
	is "$status" 2
	has "$output" 'target prog needs -o FILE.bpf.o'
	run ublk-bpf add prog -o "$progs/complete.bpf.o" --server
	is "$status" 2
	run ublk-bpf add null --ops x
	is "$status" 2
}

@test "missing_backing_is_named" {
	run ublk-bpf add prog -n 0 -o "$progs/complete.bpf.o" -f /tmp/no_such_file
	is "$status" 1
	has "$output" 'there is no such file'
	[ ! -e /dev/ublkc0 ]
}

@test "taken_device_number_is_named" {
	ublk-bpf add prog -n 0 -o "$progs/complete.bpf.o"
	run ublk-bpf add prog -n 0 -o "$progs/complete.bpf.o"	# EEXIST
	is "$status" 1
	has "$output" 'device number 0 is taken'
	# and the one that was there is none the worse
	is "$("$tools/io" /dev/ublkb0 write 32M 4096)" "ok 4096"
}

@test "map_of_a_program_is_opened_by_its_name" {
	ublk-bpf add null -n 0 --delay 50ms
	has "$("$tools/map" 0/null_bpf.rodata 0)" "(^| )50000000( |$)"
	run "$tools/map" 0/no_such_map 0
	is "$status" 1
	run "$tools/map" "0/$(printf 'n%.0s' {1..300})" 0
	is "$status" 1
}
