# docs/errors.md: each row names a test that shows its errno, and each errno that the
# interfaces document has a row. Without a machine.
# shellcheck disable=SC2016 # backquotes are Markdown's

documented="include/uapi/linux/ublk_bpf.h include/ublk_bpf.bpf.h driver/kfuncs.c"

# Each errno's name, number and words.
setup_file() {
	perl -MErrno -e 'for (sort keys %!) { $! = my $n = Errno->can($_)->(); print "$_ $n $!\n" }' \
		>"$BATS_FILE_TMPDIR/errnos"
}

# The rows of table $1, their cells apart by tabs: section, errno, trigger, what is
# seen, test.
rows() {
	awk -F ' *[|] *' '
		/^## / { section = substr($0, 4) }
		/^[|]/ && $2 != "errno" && $2 !~ /^-/ {
			print section "\t" $2 "\t" $3 "\t" $4 "\t" $5
		}' "$1"
}

# What test $2 of file $1 does: all but its name and what it says of itself.
body() {
	grep -v '^[[:space:]]*#' "tests/vm/$1" | awk -v start="@test \"$2\" {" '
		index($0, start) == 1 {
			found = 1
			$0 = substr($0, length(start) + 1)
			if (/}$/) { print; exit }
		}
		/^}/ { if (found) exit }
		found'
}

# Does text $1 have errno $2: its name, its number as a return value, or its words?
has_errno() {
	local name number words
	read -r name number words < <(grep "^$2 " "$BATS_FILE_TMPDIR/errnos")
	[ -n "$name" ] && grep -qE -- "\<$name\>|-$number\>|$words" <<<"$1"
}

# Has text $1 any of the words that "$2" has between backquotes?
has_quoted() {
	local quoted
	quoted=$(grep -o '`[^`]*`' <<<"$2" | tr -d '`')
	[ -n "$quoted" ] && grep -qF -- "$quoted" <<<"$1"
}

# Each row of table $1 whose tests are not there or show something else.
wrong_rows() {
	local section errno trigger seen tests named text
	rows "$1" | while IFS=$'\t' read -r section errno trigger seen tests; do
		for named in ${tests//,/ }; do
			text=$(body "${named%%:*}" "${named#*:}" 2>/dev/null)
			if [ -z "$text" ]; then
				echo "$errno, $trigger: there is no test $named"
			elif [[ $section == *"verifier refuses" ]]; then
				has_quoted "$text" "$seen" || echo "$errno, $trigger: no $seen in $named"
			elif [[ $errno == E* ]]; then
				has_errno "$text" "$errno" || echo "$errno, $trigger: not in $named"
			fi
		done
		[ -n "$tests" ] || echo "$errno, $trigger: no test"
	done
}

# "NAME ERRNO" of each errno in a comment of file $1; NAME, of what the comment is
# about, is - when that is nothing of its own.
errnos_of() {
	perl -0777 -ne '
		while (m{/\*(.*?)\*/(?=[ \t]*\n([^\n]*))}gs) {
			my ($comment, $next, $name) = ($1, $2, "-");
			if ($comment =~ /^\*\n \* (?:struct )?(\w+) - /) { $name = $1 }
			elsif ($next =~ /^#define\s+(\w+)/ || $next =~ /\b(ublk_bpf_\w+)\(/) { $name = $1 }
			print "$name $1\n" while $comment =~ /-(E[A-Z]+)\b/g;
		}' "$1" | sort -u
}

# Each errno that file $2 documents without a row for it in table $1, which names, or
# the section of which, what it is about.
missing_rows() {
	local name errno
	errnos_of "$2" | while read -r name errno; do
		rows "$1" | awk -F '\t' -v errno="$errno" '$2 == errno' |
			grep -qw -- "${name/#-/$errno}" || echo "$2: $name: $errno"
	done
}

# Fail, and show it, if there is any of $1.
none() {
	[ -z "$1" ] || { echo "$1"; return 1; }
}

@test "each_row_names_a_test_that_shows_its_errno" {
	[ "$(rows docs/errors.md | wc -l)" -ge 90 ]
	none "$(wrong_rows docs/errors.md)"
}

@test "each_documented_errno_has_a_row" {
	for file in $documented; do
		[ -n "$(errnos_of "$file")" ]
		none "$(missing_rows docs/errors.md "$file")"
	done
}

@test "wrong_row_is_found" {
	table=$BATS_TEST_TMPDIR/errors.md
	sed 's/:second_attach_is_ebusy/:second_attach_is_fine/' docs/errors.md >"$table"
	[ "$(wrong_rows "$table")" = "EBUSY, attach: the device has a program: there is no test control.bats:second_attach_is_fine" ]
	sed 's/^| EBUSY \(.*second_attach_is_ebusy\)/| EAGAIN \1/' docs/errors.md >"$table"
	[ "$(wrong_rows "$table")" = "EAGAIN, attach: the device has a program: not in control.bats:second_attach_is_ebusy" ]
	[[ $(missing_rows "$table" include/uapi/linux/ublk_bpf.h) == *"ublk_bpf_attach: EBUSY" ]]
	sed 's/`only read is supported`/`nothing`/' docs/errors.md >"$table"
	[[ $(wrong_rows "$table") == *'no `nothing` in refused.bats:write_to_the_io_is_refused'* ]]
	grep -v '^| ESTALE ' docs/errors.md >"$table"
	[ "$(missing_rows "$table" driver/kfuncs.c)" = "driver/kfuncs.c: ublk_bpf_hold_forward: ESTALE" ]
}
