# shellcheck shell=bash
# Loaded by every file of tests/vm. Brackets each test: the kernel's log since
# its start must be clean, and no device may be left.

tools=build/tests-tools
progs=build/tests-progs

common_setup() {
	echo "$FILE $BATS_TEST_DESCRIPTION" >>"$BEGUN"
	sync "$BEGUN"
	mark="ublk_bpf test $BATS_TEST_DESCRIPTION $$"
	echo "$mark" >/dev/kmsg
	cd "$BATS_TEST_TMPDIR/../../.." 2>/dev/null || true
	cd "$CHECKOUT" || return
}

# The kernel's log since the test began.
klog() { dmesg | sed -n "/$mark/,\$p"; }

common_teardown() {
	local bad ids
	ids=$(ublk-bpf list --json 2>/dev/null | jq -r '.[].id' 2>/dev/null)
	for id in $ids; do
		ublk-bpf del --force -n "$id" || echo "# cannot delete device $id"
	done
	bad=$(klog | grep -E 'WARNING:|BUG:|Oops|refcount_t|Call Trace|general protection|INFO: task .* blocked|lockdep' || true)
	if [ -n "$bad" ]; then
		echo "the kernel complained:"
		klog | tail -n 60
		return 1
	fi
}

setup() { common_setup; }
teardown() { common_teardown; }

# The one word of statistics $2 of device $1.
stat_of() { ublk-bpf list --json -n "$1" | jq -r ".[0].stats.$2"; }

# A memory-backed null_blk of $2 MB named $1, with further SETTING=VALUE.
null_blk() {
	local dir=/sys/kernel/config/nullb/$1 setting
	modprobe null_blk nr_devices=0 2>/dev/null
	mkdir "$dir"
	for setting in size="$2" memory_backed=1 completion_nsec=0 "${@:3}"; do
		echo "${setting#*=}" >"$dir/${setting%%=*}"
	done
	echo 1 >"$dir/power"
	udevadm settle
}

no_null_blk() {
	echo 0 >"/sys/kernel/config/nullb/$1/power"
	rmdir "/sys/kernel/config/nullb/$1"
}
