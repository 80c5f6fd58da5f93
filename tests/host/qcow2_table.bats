# The table of QEMU's tests in docs/qcow2.md: each of its rows names tests that there are.

setup() {
	cd "$BATS_TEST_DIRNAME/../.." || return
}

rows() { grep -E '^\| [0-9]{3} \|' docs/qcow2.md; }

# The tests that are named, FILE:NAME each, with the folder.
named() {
	rows | grep -oE '((host|unit):)?[a-z0-9_]+\.(bats|c):[a-z0-9_]+' |
		sed -E '/^(host|unit):/! s/^/vm:/; s/:/\//; s/^/tests\//'
}

@test "tests_of_the_table_exist" {
	wrong=$(named | sort -u | while IFS=: read -r file name; do
		grep -qE "^(@test \"$name\" \{|static void $name\(void \*\*state\))" "$file" || echo "$file:$name"
	done)
	[ -z "$wrong" ] || { echo "$wrong"; return 1; }
	[ "$(named | wc -l)" -gt 60 ]
}

@test "tests_of_behaviour_are_in_the_table" {
	for file in tests/vm/qcow2_behaviour.bats tests/vm/qcow2_clusters.bats tests/vm/qcow2_errors.bats tests/host/qcow2_refused.bats; do
		sed -n 's/^@test "\([^"]*\)".*/\1/p' $file | while read -r name; do
			named | grep -qx "$file:$name" || { echo "$file:$name"; exit 1; }
		done
	done
}

@test "each_number_has_a_row_with_a_test" {
	[ "$(rows | cut -c 3-5 | sort | uniq -d)" = "" ]
	[ "$(rows | wc -l)" -eq 59 ]
	[ "$(rows | grep -vcE '\.(bats|c):')" -eq 0 ]
}
