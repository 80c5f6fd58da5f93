# Programs that must not load, with what says so: each is an ops table of
# tests/progs/refused.bpf.c.
# shellcheck disable=SC2154 # tools, progs, background are common.bash's
# kernels: 7.3 (the verifier's words differ between kernels)
load common

# add prog with ops $1 fails and names callback $2; $3 is what the verifier says in
# its log, whose end, that add prog shows, differs much between kernels.
refused() {
	run ublk-bpf add prog -n 0 -o "$progs/refused.bpf.o" --ops "$1_ops"
	is "$status" 1
	has "$output" "^ublk-bpf: cannot add prog .*refused.bpf.o: the BPF verifier refuses callback $2 \(struct_ops(\.s)?/$2\)"
	run "$tools/loader" "$progs/refused.bpf.o" 42 "$1_ops"
	is "$status" 1
	has "$output" "$3"
	has "$output" "^load E(ACCES|INVAL)\$"
	[ ! -e /dev/ublkb0 ]
}

@test "write_to_the_descriptor_is_refused" { refused write_iod write_iod 'only read is supported'; }

@test "write_to_the_io_is_refused" { refused write_io write_io 'only read is supported'; }

@test "descriptor_must_be_checked_for_null" { refused read_null_iod read_null_iod "invalid mem access '(trusted_|rcu_)?ptr_or_null_'"; }

@test "null_for_an_io_is_refused" { refused null_io null_io 'NULL pointer passed to trusted|R1 .*NULL'; }

@test "number_for_an_io_is_refused" { refused scalar_io scalar_io 'R1|arg#?0'; }

@test "another_pointer_for_an_io_is_refused" { refused other_io other_io 'arg#?0|R1'; }

@test "access_beyond_the_io_is_refused" { refused read_beyond read_beyond 'access beyond struct|invalid access|outside'; }

@test "hold_that_is_lost_is_refused" { refused leaks leaks 'Unreleased reference'; }

@test "hold_that_is_ended_twice_is_refused" { refused ends_twice ends_twice 'R1|arg#?0'; }

@test "hold_must_be_checked_for_null" { refused null_hold null_hold 'R1|arg#?0'; }

@test "io_for_a_hold_is_refused" { refused io_for_hold io_for_hold 'R1|arg#?0'; }

@test "queue_io_cmd_cannot_sleep" { refused sleeps sleeps 'attach to unsupported member queue_io_cmd of struct ublk_bpf_ops'; }

@test "release_io_cmd_cannot_sleep" { refused release_sleeps release_sleeps 'attach to unsupported member release_io_cmd of struct ublk_bpf_ops'; }

@test "ops_that_are_never_asked_are_einval" {
	run ublk-bpf add prog -n 0 -o "$progs/refused.bpf.o" --ops no_queue_ops
	is "$status" 1
	has "$output" 'Invalid argument'
	is "$("$tools/loader" "$progs/refused.bpf.o" 42 no_queue_ops 2>/dev/null || true)" "register EINVAL"
}

@test "unknown_kfunc_is_named" {
	run ublk-bpf add prog -n 0 -o "$progs/no_such_kfunc.bpf.o"
	is "$status" 1
	has "$output" bpf_aio_no_such
	is "$("$tools/loader" "$progs/no_such_kfunc.bpf.o" 42 2>/dev/null || true)" "load EINVAL"
}

@test "tracing_program_cannot_call_kfuncs" {
	run bpftool prog load "$progs/tracing.bpf.o" /sys/fs/bpf/tracing
	[ "$status" -ne 0 ]
	has "$output" 'calling kernel function ublk_bpf_complete_io is not allowed'
}

@test "programs_of_other_ops_cannot_call_kfuncs" {
	run "$tools/loader" "$progs/tcp.bpf.o" 0
	is "$status" 1
	has "$output" 'calling kernel function ublk_bpf_complete_io is not allowed'
}
