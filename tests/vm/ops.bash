# shellcheck shell=bash
# What a program can do to an I/O, chosen by where the I/O is: the program is
# tests/progs/$object.bpf.c, over two memory-backed disks.
#
# A test that only does I/O uses the device that the one before it has left, when
# it is of the kind that it needs: a boot without KVM takes seconds for another.
# shellcheck disable=SC2154 # tools, progs, background, object are others'

# udev is not to read the devices: its I/O would be in the counters.
rules=/run/udev/rules.d/99-ublk-bpf-tests.rules

udev_looks_away() {
	local rule='KERNEL=="ublkb*|a|b|c", OPTIONS="nowatch", ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1"'

	mkdir -p "${rules%/*}"
	echo "$rule" >"$rules"
	echo "$rule" >"${rules/99-/59-}"
	udevadm control --reload
}

udev_looks() {
	rm -f "$rules" "${rules/99-/59-}"
	udevadm control --reload
}

setup_file() {
	udev_looks_away
	# shellcheck disable=SC2086
	null_blk a 128 ${disk_settings:-}
	# shellcheck disable=SC2086
	null_blk b 128 ${disk_settings:-}
}

teardown_file() {
	ublk-bpf del --force -a
	all_background=
	no_background
	udev_looks
}

# Only a good device of the kinds below is left.
teardown() {
	local status=0
	[ -n "${BATS_TEST_COMPLETED:-}" ] || fresh
	[ -z "$all_background" ] || fresh
	log_is_clean || status=1
	return $status
}

fresh() {
	rm -f "$BATS_FILE_TMPDIR/kind"
	ublk-bpf del --force -a
	# shellcheck disable=SC2086
	[ -z "$all_background" ] || kill -KILL $all_background 2>/dev/null || true
	all_background=
}

io() { "$tools/io" "$@"; }
ctrl() { "$tools/ctrl" "$@"; }

# What is held is not to time out where everything is slow.
no_timeout() { echo 600000 >/sys/block/ublkb0/queue/io_timeout; }

# Device 0 with the program, $1 its ops, over /dev/a and /dev/b.
device() {
	local kind=${1:-${object}_ops}
	[ "$(cat "$BATS_FILE_TMPDIR/kind" 2>/dev/null)" != "$kind" ] || return 0
	fresh
	ublk-bpf add prog -n 0 -o "$progs/$object.bpf.o" --ops "$kind" -f /dev/a -f /dev/b
	udevadm settle
	no_timeout
	echo "$kind" >"$BATS_FILE_TMPDIR/kind"
}

# The same with the program loaded by one process and the device served by
# another, which says $1 to what it is given; $2 flags of attach, $3 the ops.
apart() {
	fresh
	background "$tools/loader" "$progs/$object.bpf.o" 4711 "${3:-${object}_ops}"
	loader=$background
	background "$tools/server" 0 "$1" /dev/a /dev/b
	udevadm settle
	no_timeout
	is "$(ctrl attach 0 prog_id=4711 flags="${2:-0}")" ok
}

kill_loader() {
	kill -KILL "$loader"
	wait "$loader" || true
	soon unregistered
}

unregistered() { [[ $(ctrl stats 0) != *state=1* ]]; }

# What loader has said so often: $1 times the word $2.
has_said() { [ "$(cat "$BATS_TEST_TMPDIR"/said.* | grep -c "^$2")" -ge "$1" ]; }

# The program of $loader is replaced, for the $1th time.
update() {
	kill -USR1 "$loader"
	soon has_said "$1" updated
}

# Of device $1, or 0, as the command has it.
state() { ublk-bpf list -n "${1:-0}" --json | jq -r '.[0] | "\(.state) \(.served)"'; }

# Until the driver is done with the server's end.
without_server() {
	soon is_alone
}

is_alone() { [[ $(state) =~ ^(quiesced|fail-io) ]]; }

kill_server() {
	kill -KILL "$(server)"
	without_server
}

# 6.12 lets go of the last server's char device a while later.
recovery_starts() { [ "$(ctrl start_recovery 0)" = ok ]; }

# $at: where behaviour $1 is, in bytes. No loop: bats traces every command.
at() {
	at=$(sed -n "s/^\t$1\t*= \([0-9]*\),.*/\1/p" "tests/progs/$object.h")
	[ -n "$at" ] || { echo "no behaviour $1"; return 1; }
	at=$((at << 20))
}

# One I/O of behaviour $1: $2 read or write, $3 bytes, further words. Prints what
# came of it, what it did to the counters, and in which order the program was
# asked: 1 queue_io_cmd, 2 queue_io_cmd_daemon, 3 release_io_cmd.
do_io() {
	at "$1"
	io /dev/ublkb0 "$2" "$at" "$3" "${@:4}" stats seen
}

# What the program noted in that I/O: its words $2 to $2 + $3 - 1.
noted() {
	at "$1"
	"$tools/map" behaviour $((at >> 20)) $((5 + $2)) "${3:-1}"
}

# $1 bytes of behaviour $2 on backing $3 from byte $4 on hold pattern $5.
holds() {
	at "$2"
	is "$(io "/dev/$3" read $((at + $4)) "$1" pattern="$5")" "ok $1"
}

logged() { has "$(klog)" "ublk_bpf: dev 0: program [0-9]+ $1"; }
