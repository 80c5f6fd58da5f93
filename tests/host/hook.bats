# driver/hook: a build that lacks a hook must be impossible. Runs on copies of
# driver/ and of the kernel's file; without a machine.

setup() {
	cp -r driver "$BATS_TEST_TMPDIR/driver"
	cd "$BATS_TEST_TMPDIR" || return
}

# $source: the kernel's own file of series $1.
kernels_file() {
	source=$BATS_FILE_TMPDIR/ublk_drv-$1.c
	[ -s "$source" ] ||
		xz -dc "/usr/src/linux-source-$1.tar.xz" 2>/dev/null |
		tar -xOf - --occurrence=1 "linux-source-$1/drivers/block/ublk_drv.c" >"$source" || true
	[ -s "$source" ]
}

# Hook the file of series $1; leaves $status and $output.
hook() {
	kernels_file "$1"
	run driver/hook "$1.0-test" out.c "${2:-$source}"
}

# Break rule $1 of the copy by the sed expression $2: series $3 is refused, and
# the rule is named.
broken_rule_is_named() {
	cp driver/hooks.cocci good
	sed -i "/^@$1@/,/^\$/$2" driver/hooks.cocci
	run cmp -s good driver/hooks.cocci
	[ "$status" -eq 1 ]
	hook "$3"
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"rule $1 of hooks.cocci: "* ]]
	[ ! -e out.c ]
}

@test "kernels_file_is_hooked" {
	for series in 6.12 7.3; do
		hook $series
		echo "$output"
		[ "$status" -eq 0 ]
		[ -z "$output" ]
		[ "$(grep -c UBLK_BPF_SITE_ out.c)" -ge 10 ]
	done
}

@test "rule_that_does_not_match_is_named" {
	broken_rule_is_named queue_rq 's/ublk_queue_rq(\.\.\.)/ublk_queue_nothing(...)/' 6.12
}

@test "rule_that_does_not_match_is_named_on_the_other_series" {
	broken_rule_is_named queue_rqs 's/ublk_queue_rqs(\.\.\.)/ublk_queue_nothing(...)/' 7.3
}

@test "no_rule_can_be_missing" {
	kernels_file 7.3
	cp driver/hooks.cocci good
	for rule in alloc_tag_set free_dev features batch_queue_rq dispatch_req \
		complete_rq stop_dev; do
		awk -v rule="@$rule@" '/^@[a-z]/ { skip = $0 == rule } !skip' good >driver/hooks.cocci
		run driver/hook 7.3.0-test out.c "$source"
		echo "$rule: $output"
		[ "$status" -eq 1 ]
		[[ $output == *"rule $rule of hooks.cocci: "* ]]
	done
}

@test "submission_path_without_a_hook_is_named" {
	for series in 6.12 7.3; do
		kernels_file $series
		cp "$source" new.c
		printf '\nstatic void ublk_new_way(struct ublk_queue *ubq, struct request *rq)\n{\n\tublk_queue_cmd(ubq, rq);\n}\n' >>new.c
		hook $series new.c
		echo "$output"
		[ "$status" -eq 1 ]
		[[ $output == *"no hook before the server in: ublk_new_way"* ]]
		[ ! -e out.c ]
	done
}

@test "changed_kernel_file_is_refused" {
	kernels_file 6.12
	sed 's/blk_mq_free_tag_set(&ub->tag_set)/blk_mq_free_tags(ub)/' "$source" >changed.c
	hook 6.12 changed.c
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"rule free_dev of hooks.cocci: "*"the driver's source has changed"* ]]
}

@test "unknown_series_is_refused_and_the_known_are_named" {
	kernels_file 7.3
	for release in 6.13.1-amd64 7.4.0-amd64 7.30.1-amd64 16.12.1-amd64 6.1.2-amd64 nonsense; do
		run driver/hook $release out.c "$source"
		echo "$output"
		[ "$status" -eq 1 ]
		[[ $output == *"kernel $release is not of a supported series (6.12, 7.3)"* ]]
		[ ! -e out.c ]
	done
}

# dpkg-query that knows version $1 of the source, $2 of the headers, $3 of the
# image of 7.3.0-test.
fake_versions() {
	mkdir -p bin
	cat >bin/dpkg-query <<-END
		#!/bin/sh
		case \$4 in
		linux-source-7.3) printf '%s' '$1' ;;
		linux-headers-7.3.0-test) printf '%s' '$2' ;;
		linux-image-7.3.0-test) printf '%s' '$3' ;;
		esac
	END
	chmod +x bin/dpkg-query
	PATH=$PWD/bin:$PATH
}

@test "source_of_another_version_is_refused_with_both_names" {
	fake_versions 7.3.4-1 7.3.5-1 7.3.5-1
	run driver/hook 7.3.0-test out.c
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"linux-source-7.3 is version 7.3.4-1, linux-headers-7.3.0-test is version 7.3.5-1"* ]]
}

@test "image_of_another_version_is_refused_with_both_names" {
	fake_versions 7.3.5-1 7.3.5-1 7.3.4-1
	run driver/hook 7.3.0-test out.c
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"linux-image-7.3.0-test is version 7.3.4-1, linux-headers-7.3.0-test is version 7.3.5-1"* ]]
}

@test "missing_packages_are_named" {
	fake_versions 7.3.5-1 '' ''
	run driver/hook 7.3.0-test out.c
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"linux-headers-7.3.0-test is not installed: apt install"* ]]
	fake_versions '' 7.3.5-1 ''
	run driver/hook 7.3.0-test out.c
	[ "$status" -eq 1 ]
	[[ $output == *"linux-source-7.3 is not installed: apt install linux-source-7.3=7.3.5-1"* ]]
}
