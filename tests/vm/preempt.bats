# A program that is preempted in its middle is replaced, or goes away, meanwhile: other users
# of struct_ops have had programs freed under a preempted task.
# shellcheck disable=SC2154 # tools, progs, background, object are others'
# kernels: debug (the only one that preempts its own code anywhere)
load common
load ops
object=behave

# A load that is verified, of tasks that take the only CPU from each other. Each reads its
# eight blocks back when it has written as many: else fio writes until the time is over.
preempted_load() {
	at BUSY
	verify_load /dev/ublkb0 "$([ -n "${FULL:-}" ] && echo 240 || echo 60)" --ioengine=psync \
		--numjobs=4 --cpus_allowed=1 --offset="$at" --size=32k --offset_increment=32k \
		--verify_backlog=8
}

# Return: is the load still there, now that another task ran while the program did?
is_preempted() {
	while kill -0 "$load" 2>/dev/null; do
		[ "$(noted BUSY 0)" -le 0 ] || return 0
		sleep 0.05
	done
	return 1
}

@test "program_is_replaced_while_it_is_preempted" {
	local times=0 before
	apart SERVE
	before=$(stat_of 0 redirected)
	preempted_load
	while is_preempted; do
		times=$((times + 1))
		update $times
	done
	load_is_verified
	[ $times -ge 3 ]
	is "$(stat_of 0 failed)" 0
	is "$(stat_of 0 redirected)" "$before"
}

@test "program_goes_away_while_it_is_preempted" {
	local times=0
	apart SERVE 1
	preempted_load
	while is_preempted; do
		times=$((times + 1))
		kill_loader
		is "$(ctrl detach 0)" ok
		background "$tools/loader" "$progs/behave.bpf.o" 4711
		loader=$background
		is "$(ctrl attach 0 prog_id=4711 flags=1)" ok
	done
	load_is_verified
	[ $times -ge 3 ]
	is "$(stat_of 0 failed)" 0
}
