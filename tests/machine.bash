# shellcheck shell=bash
# What all that runs in the machine shares.

# What the kernel must not have said, as an extended regular expression.
# shellcheck disable=SC2034 # others'
complaint='WARNING:|BUG:|Oops|refcount_t|Call Trace|general protection|INFO: task .* blocked|lockdep'

# BPF lets go of a program's module in its own time.
unload() {
	for _ in $(seq 100); do
		[ -e /sys/module/ublk_drv ] || return 0
		rmmod ublk_drv 2>/dev/null || sleep 0.1
	done
	rmmod ublk_drv
}
