# The module's build, for both kernels, in the sandbox without a machine.


# $1: a series. Builds everything from nothing and shows what the compiler says.
build_of() {
	local release out=$BATS_TEST_TMPDIR/out
	release=$(cd /lib/modules && compgen -G "$1.*") || skip "no kernel $1 in the sandbox"
	run make -C driver OUT="$out" KREL="$release" KCFLAGS=-Wextra\ -Wno-unused-parameter\ -Wno-missing-field-initializers\ -Wno-sign-compare\ -Wno-override-init
	echo "$output"
	[ "$status" -eq 0 ]
	[ -s "$out/driver/$release/ublk_drv.ko" ]
	# the kernel's own headers and file are not ours to judge
	names=$(cd driver && compgen -G '*.[ch]' | sed 's/\./\\./' | paste -sd '|')
	if grep -E "(^|/)($names):.*warning|hooks|Skipping BTF" <<<"$output"; then
		return 1
	fi
}

@test "module_for_6_12_builds_without_a_warning" {
	build_of 6.12
}

@test "module_for_7_3_builds_without_a_warning" {
	build_of 7.3
}
