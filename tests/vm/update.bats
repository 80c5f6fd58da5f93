# A program takes over from another one by an update of their link, under load.
# shellcheck disable=SC2154 # tools, progs, background, object are others'
load common
load ops
object=behave
seconds=$([ "$KERNEL" = debug ] && echo 40 || echo 15)	# of load, for some updates
disk_settings="irqmode=2 completion_nsec=10000000"	# so that what is forwarded is under way for a while

# What the next one is asked is in a map of its own.
next_is_asked() { [ "$("$tools/map" behaviour $((at >> 20)) 0)" -gt 0 ]; }

# The program is replaced as long as the load lasts; $below: what its disk had meanwhile.
updated_under_load() {
	local times=1
	below=0
	update 1
	soon next_is_asked
	while kill -0 "$load" 2>/dev/null; do
		times=$((times + 1))
		below=$((below + $(awk '{ print $1 + $2 }' /sys/block/a/inflight)))
		update $times
	done
	[ $times -ge 3 ]
	is "$(stat_of 0 failed)" 0
}

@test "program_is_replaced_while_it_forwards" {
	apart SERVE
	before=$(stat_of 0 redirected)
	at FORWARD
	verify_load /dev/ublkb0 $seconds --offset="$at" --size=1M
	updated_under_load
	load_is_verified
	[ "$below" -gt 0 ]
	is "$(stat_of 0 redirected)" "$before"
}

@test "program_is_replaced_while_it_redirects_and_splits" {
	apart SERVE
	before=$(stat_of 0 redirected)
	at SPLIT
	verify_load /dev/ublkb0 $seconds --offset="$at" --size=1M
	updated_under_load
	load_is_verified
	[ "$below" -gt 0 ]
	[ "$(stat_of 0 redirected)" -gt "$before" ]
}

@test "program_is_replaced_while_it_holds" {
	object=hold
	apart SERVE
	# what the old one held is given back, and held by the new one; there is room for one
	# of each behaviour: a second one is given back for it, and so on without an end
	at HOLD_TIMER_HALF
	half=$at
	at HOLD_TIMER
	seeded
	fio --filename=/dev/ublkb0 --direct=1 --ioengine=io_uring --rw=randwrite --bs=8k \
		--iodepth=1 --size=1M --time_based --runtime=$seconds \
		--randseed="$SEED" --name=all --offset="$at" --name=half --offset="$half" \
		>"$BATS_TEST_TMPDIR/fio" 2>&1 3>&- &
	load=$!
	updated_under_load
	wait "$load" || { cat "$BATS_TEST_TMPDIR/fio"; false; }
	[ "$(stat_of 0 held)" -gt 0 ]
}

@test "program_is_replaced_while_it_holds_and_then_forwards" {
	object=hold
	apart SERVE
	before=$(stat_of 0 fwd_worker)
	at HOLD_SEND
	verify_load /dev/ublkb0 $seconds --offset="$at" --size=256k
	updated_under_load
	load_is_verified
	[ "$(stat_of 0 fwd_worker)" -gt "$before" ]
	is "$(stat_of 0 misused)" 0
}

@test "held_io_is_the_next_programs" {
	object=hold
	apart SERVE
	at HOLD_KEEP
	io /dev/ublkb0 write "$at" 4096 >"$BATS_TEST_TMPDIR/io" 3>&- &
	pending=$!
	soon stat_reaches 0 held 1
	update 1
	# asked again
	soon stat_reaches 0 held 2
	kill -0 $pending
	is "$("$tools/act" complete $((at >> 20)) 4096)" ok
	wait $pending
	is "$(cat "$BATS_TEST_TMPDIR/io")" "ok 4096"
}

# The kernel has let go of the maps of the one that it refused.
one_behaviour() {
	[ "$(bpftool map list --json | jq '[.[] | select(.name == "behaviour")] | length')" = 1 ]
}

# An update to what loader's words "${@:2}" name is $1, and nothing has changed.
next_is() {
	fresh
	background "$tools/loader" "$progs/behave.bpf.o" 4711 behave_ops "${@:2}"
	loader=$background
	background "$tools/server" 0 SERVE /dev/a
	udevadm settle
	is "$(ctrl attach 0 prog_id=4711)" ok
	kill -USR1 "$loader"
	soon has_said 1 "update $1"
	soon one_behaviour
	is "$(do_io COMPLETE write 4096)" "ok 4096 done=1 done_bytes=4096 order=13"
	has "$(ctrl stats 0)" "state=1 flags=0 prog_id=4711"
}

@test "update_to_another_id_is_einval" {
	next_is EINVAL 4712
}

@test "update_to_other_callbacks_is_einval" {
	next_is EINVAL 4711 queue_only_ops
}

@test "devices_of_one_program_get_the_next_one_together" {
	apart SERVE
	background "$tools/server" 1 SERVE
	is "$(ctrl attach 1 prog_id=4711)" ok
	update 1
	at COMPLETE
	for id in 0 1; do
		is "$(io /dev/ublkb$id write "$at" 4096 stats)" "ok 4096 done=1 done_bytes=4096"
		has "$(ctrl stats $id)" "state=1"
	done
	kill -KILL "$loader"
	soon has_lost 0
	soon has_lost 1
}

has_lost() { [[ $(ctrl stats "$1") == *state=2* ]]; }
