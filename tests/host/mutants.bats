# The mutants of tests/mutants are changes of the sources as they are now. That a test
# finds each of them takes a machine, and time: tests/mutants/run.

@test "each_mutant_is_a_change_of_our_sources" {
	[ "$(ls tests/mutants/*.mutant | wc -l)" -ge 20 ]
	tests/mutants/run --check
}

@test "mutant_whose_line_is_gone_is_named" {
	cp -r tests driver include lib cli targets vm "$BATS_TEST_TMPDIR"
	cd "$BATS_TEST_TMPDIR"
	sed -i 's/^-/-another /' tests/mutants/own_backing.mutant
	run tests/mutants/run --check
	[ "$status" -ne 0 ]
	[[ $output == *"own_backing.mutant: its lines are not in driver/slot.c any more"* ]]
}
