/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR LGPL-2.1-or-later */
/*
 * What ublk-bpf adds to ublk's user interface: a device flag and the control
 * commands of a device that has it. Everything else is linux/ublk_cmd.h.
 *
 * The commands go to /dev/ublk-control as ublk's own do: an io_uring command
 * with struct ublksrv_ctrl_cmd in a 128-byte SQE, whose dev_id names the
 * device and whose addr and len are the buffer of the structure below that
 * belongs to the command. queue_id must be (__u16)-1. All reserved and pad
 * fields must be zero. All of them need CAP_SYS_ADMIN, as ublk's do.
 *
 * Errors common to all:
 *   -ENODEV      no such device
 *   -EPERM       without CAP_SYS_ADMIN
 *   -EOPNOTSUPP  the device was added without UBLK_F_BPF, or unknown command
 *   -EINVAL      len is not the structure's size, a reserved field or an
 *                unknown flag is set
 *   -EFAULT      addr cannot be read or written
 */
#ifndef _UAPI_LINUX_UBLK_BPF_H
#define _UAPI_LINUX_UBLK_BPF_H

#include <linux/types.h>
#include <linux/ioctl.h>

/*
 * The device can take a program. Asked for in ublksrv_ctrl_dev_info.flags at
 * ADD_DEV; a driver that knows nothing of it clears it there. ADD_DEV fails
 * with -EINVAL when it comes with UBLK_F_ZONED, UBLK_F_NEED_GET_DATA (unless
 * UBLK_F_USER_COPY makes the driver clear that), UBLK_F_UNPRIVILEGED_DEV (which the
 * driver clears for who has CAP_SYS_ADMIN) or UBLK_F_INTEGRITY; with -ENOMEM when
 * there is no memory for the state of its I/Os.
 */
#define UBLK_F_BPF		(1ULL << 63)

/* The highest number of backings a device can have: slots 0 .. 31. */
#define UBLK_BPF_MAX_SLOTS	32

#define UBLK_U_CMD_BPF_ATTACH		_IOWR('u', 0xb0, struct ublk_bpf_attach)
#define UBLK_U_CMD_BPF_DETACH		_IOWR('u', 0xb1, struct ublk_bpf_detach)
#define UBLK_U_CMD_BPF_SET_SLOT		_IOWR('u', 0xb2, struct ublk_bpf_slot)
#define UBLK_U_CMD_BPF_CLEAR_SLOT	_IOWR('u', 0xb3, struct ublk_bpf_slot)
#define UBLK_U_CMD_BPF_GET_SLOT		_IOWR('u', 0xb4, struct ublk_bpf_slot)
#define UBLK_U_CMD_BPF_GET_STATS	_IOWR('u', 0xb5, struct ublk_bpf_stats)
#define UBLK_U_CMD_BPF_SET_SIZE		_IOWR('u', 0xb6, struct ublk_bpf_size)

/* Without its program the device is served by its server, not with errors. */
#define UBLK_BPF_ATTACH_FALLBACK	(1U << 0)

/**
 * struct ublk_bpf_attach - bind a device to a registered program
 * @prog_id:	the id member of its struct ublk_bpf_ops
 * @flags:	UBLK_BPF_ATTACH_*
 * @cookie:	what ublk_bpf_get_cookie() tells the program of this device
 * @reserved:	zero
 *
 * Errors: -ENOENT no program with that id; -EBUSY the device has one already;
 * what attach_dev of the program answers, -EINVAL if that is neither 0 nor a
 * negative errno.
 */
struct ublk_bpf_attach {
	__u32	prog_id;
	__u32	flags;
	__u64	cookie;
	__u64	reserved[2];
};

/**
 * struct ublk_bpf_detach - take the program off a device; the server serves it
 * @reserved:	zero
 *
 * Also clears what a program that was unregistered left: -EOPNOTSUPP to I/O.
 * Errors: -ENOENT there is none and there was none.
 */
struct ublk_bpf_detach {
	__u64	reserved[2];
};

/* struct ublk_bpf_slot.flags, set: forget what the page cache holds of the disk */
#define UBLK_BPF_SLOT_DROP_CACHE	(1U << 0)

/* set: a regular file's page cache is used; else I/O is direct, of blocks that it says */
#define UBLK_BPF_SLOT_BUFFERED		(1U << 1)

/**
 * struct ublk_bpf_slot - set, clear or get a backing of a device
 * @slot:	its number, below UBLK_BPF_MAX_SLOTS
 * @fd:		set: an open block device or regular file, whose access mode
 *		says whether it can be written; get: a new descriptor of that
 *		very open file is stored here; clear: zero
 * @flags:	set: UBLK_BPF_SLOT_*, else zero. DROP_CACHE is for other content than
 *		before: what was read from the old backing is not found in memory any
 *		more. Written data that is still there stays: sync before; so do pages
 *		that somebody uses
 * @pad:	zero
 * @reserved:	zero
 *
 * Errors: -EINVAL slot out of range, or the file cannot be a backing (no
 * regular file or block device, opened write-only, no direct I/O unless buffered, a
 * block device that is to be buffered), or on a started disk one that cannot take all
 * that the disk lets in: it needs larger blocks or memory aligned more, has a cache and
 * the disk no flush, needs pages that do not change, or the disk discards, the old
 * backing can and the new one cannot;
 * -EINTR killed, and where the old backing's I/O was waited for the slot is changed; -EBADF no
 * such descriptor; -ENOENT clear, get: empty; -EMFILE get: no descriptor is free;
 * -ENOMEM set: no memory; -EBUSY UBLK_BPF_SLOT_DROP_CACHE while there is no server, for
 * which pages may wait;
 * -ELOOP it is this very device, or a device whose backings lead to this one, or lies in
 * a file system on such a device (a btrfs before 6.17: or there is any btrfs on one), or
 * makes a stack of more than 16 on one. Other drivers' devices between two of ours are
 * not looked through.
 * Setting a used slot replaces the backing; I/O in flight ends on the old one
 * before the command returns.
 */
struct ublk_bpf_slot {
	__u32	slot;
	__s32	fd;
	__u32	flags;
	__u32	pad;
	__u64	reserved[2];
};

/**
 * struct ublk_bpf_size - change the size of a started disk
 * @bytes:	the new one
 * @reserved:	zero
 *
 * Whoever has the disk open learns of it as of any disk's, by a uevent. What the
 * program and its backings make of the new size is theirs.
 * Errors: -EINVAL 0, too large, or no multiple of the disk's logical block; -EBUSY the
 * disk is not there (yet, or any more).
 */
struct ublk_bpf_size {
	__u64	bytes;
	__u64	reserved[3];
};

/* struct ublk_bpf_stats.state */
enum ublk_bpf_state {
	UBLK_BPF_STATE_NONE	= 0,	/* no program: the server */
	UBLK_BPF_STATE_ATTACHED	= 1,
	UBLK_BPF_STATE_GONE	= 2,	/* unregistered: -EOPNOTSUPP, or the server with fallback */
	UBLK_BPF_STATE_EJECTED	= 3,	/* likewise, for what eject_reason says */
};

#define UBLK_BPF_REASON_SIZE	96

/**
 * struct ublk_bpf_stats - what a device did since it was added
 * @state:	enum ublk_bpf_state
 * @flags:	UBLK_BPF_ATTACH_* of the last attach
 * @prog_id:	program of the last attach
 * @pad:	zero
 * @cookie:	cookie of the last attach
 * @slots:	bit mask of the slots that are set
 * @done:	I/Os a program completed by ublk_bpf_complete_io()
 * @done_bytes:	their bytes
 * @fwd_inline:	ranges forwarded from the submitter's context
 * @fwd_worker:	ranges forwarded by a worker
 * @fwd_bytes:	bytes of both
 * @redirected:	times the server was given an I/O (or the rest of one)
 * @rerun:	times a program was asked again because the server said -EAGAIN
 * @failed:	I/Os ended with an error of the backing or of the program
 * @unfinished:	of @failed, those a program took and never finished
 * @misused:	calls and return values of programs that were refused
 * @held:	I/Os a program held
 * @stale:	calls on holds whose I/O had been taken away before
 * @waiting:	I/Os that wait for a new server, now
 * @eject_reason: why the program was ejected, a text with a zero at its end
 * @reserved:	zero
 */
struct ublk_bpf_stats {
	__u32	state;
	__u32	flags;
	__u32	prog_id;
	__u32	pad;
	__u64	cookie;
	__u64	slots;
	__u64	done;
	__u64	done_bytes;
	__u64	fwd_inline;
	__u64	fwd_worker;
	__u64	fwd_bytes;
	__u64	redirected;
	__u64	rerun;
	__u64	failed;
	__u64	unfinished;
	__u64	misused;
	__u64	held;
	__u64	stale;
	__u64	waiting;
	char	eject_reason[UBLK_BPF_REASON_SIZE];
	__u64	reserved[2];
};

#endif
