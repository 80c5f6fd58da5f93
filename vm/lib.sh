# shellcheck shell=bash
# What the scripts of vm/ share: where things are, how they speak, how a cache
# entry is made. Sourced, never run.

vm_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top_dir=$(dirname "$vm_dir")
cache_dir=${UBLK_BPF_CACHE:-/var/cache/ublk-bpf}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

need_root() {
	[ "$(id -u)" = 0 ] || die "must run as root: it makes a root file system and mounts it (try sudo)"
}

# Install what is missing on the host: need_tool COMMAND PACKAGE
need_tool() {
	command -v "$1" >/dev/null && return
	say "installing $2 (apt)"
	apt-get -qq update >&2 || die "apt-get update failed: check the network and /etc/apt"
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
		install "$2" >&2 </dev/null || die "cannot install $2: try 'apt-get install $2'"
}

# A key of 12 digits for the contents of the files named and the words on stdin.
recipe_key() { { cat "$@"; cat; } | sha256sum | cut -c1-12; }

# Run "$@" again in a mount namespace of its own, so that what it mounts goes
# when it ends, whatever ended it.
own_mount_namespace() {
	[ "${UBLK_BPF_OWN_NS:-}" != "$$" ] || return 0
	UBLK_BPF_OWN_NS=$$ exec unshare --mount --propagation private -- "$@"
}

# Mount a throw-away copy of the root file system with this checkout in it, and
# set $sandbox to its path: writes go to an overlay that leave_sandbox removes,
# so neither a test nor a crash spoils the cache. Needs own_mount_namespace.
# $1: a layer of vm/kernel to lay over it, if any.
enter_sandbox() {
	local root layer=${1:-}
	root=$("$vm_dir/rootfs") || exit 1
	exec 8<"$root"
	flock -s 8		# vm/rootfs does not remove what somebody runs from
	if [ -n "$layer" ]; then
		exec 7<"$layer"
		flock -s 7
	fi
	scratch=$(mktemp -d "$cache_dir/run.XXXXXX")
	sandbox=$scratch/root
	mkdir "$scratch/root" "$scratch/upper" "$scratch/work"
	mount -t overlay overlay "$sandbox" \
		-o "lowerdir=${layer:+$layer:}$root,upperdir=$scratch/upper,workdir=$scratch/work"
	mount -t proc proc "$sandbox/proc"
	mount -t sysfs sysfs "$sandbox/sys"
	mount -t tmpfs tmpfs "$sandbox/tmp"
	mount --rbind /dev "$sandbox/dev"
	mountpoint -q "$sandbox/dev/shm" || { mkdir -p "$sandbox/dev/shm"; mount -t tmpfs tmpfs "$sandbox/dev/shm"; }
	mkdir -p "$sandbox$top_dir"
	mount --bind "$top_dir" "$sandbox$top_dir"
}

leave_sandbox() {
	umount -R -l "$sandbox" 2>/dev/null || true
	rm -rf --one-file-system "$scratch"
}

sandbox_env=(/usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	HOME=/root LC_ALL=C.UTF-8 TERM=dumb)

# Run "$@" in the sandbox, as root, in this checkout.
in_sandbox() {
	chroot "$sandbox" "${sandbox_env[@]}" /bin/sh -c 'cd "$0" && exec "$@"' "$top_dir" "$@"
}
