// SPDX-License-Identifier: GPL-2.0
/*
 * What a program can call. Visible to the programs of our struct_ops only.
 * All arguments come from a program and are checked here or where they go.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include "internal.h"

__bpf_kfunc_start_defs();

/**
 * ublk_bpf_get_iod - the I/O's descriptor
 * @io:	the I/O
 *
 * Operation, flags, position and size, as they are now: the rest, when a part
 * has completed. Its addr is zero: payload is not the server's buffer here.
 *
 * Context: any callback.
 * Return: the descriptor, read only.
 */
__bpf_kfunc const struct ublksrv_io_desc *ublk_bpf_get_iod(const struct ublk_bpf_io *io)
{
	return io->iod;
}

/**
 * ublk_bpf_get_dev_id - the number N of /dev/ublkbN
 * @io:	the I/O
 *
 * Context: any callback.
 */
__bpf_kfunc int ublk_bpf_get_dev_id(const struct ublk_bpf_io *io)
{
	return ublk_bpf_io_tag(io)->q->dev->dev_id;
}

/**
 * ublk_bpf_get_queue_id - the hardware queue the I/O came through
 * @io:	the I/O
 *
 * Context: any callback.
 */
__bpf_kfunc int ublk_bpf_get_queue_id(const struct ublk_bpf_io *io)
{
	const struct ublk_bpf_queue *q = ublk_bpf_io_tag(io)->q;

	return q - q->dev->queues;
}

/**
 * ublk_bpf_get_io_tag - the I/O's tag, unique in its queue until it ends
 * @io:	the I/O
 *
 * Context: any callback.
 */
__bpf_kfunc int ublk_bpf_get_io_tag(const struct ublk_bpf_io *io)
{
	const struct ublk_bpf_tag *tag = ublk_bpf_io_tag(io);

	return tag - tag->q->tags;
}

/**
 * ublk_bpf_get_cookie - what the attach command gave this device
 * @io:	the I/O
 *
 * Context: any callback.
 */
__bpf_kfunc u64 ublk_bpf_get_cookie(const struct ublk_bpf_io *io)
{
	return ublk_bpf_io_tag(io)->q->dev->cookie;
}

/**
 * ublk_bpf_complete_io - end the whole I/O
 * @io:		the I/O
 * @res:	bytes done, or a negative errno
 *
 * A short result shrinks the I/O and the program is asked again; 0 of an I/O
 * with data is -EIO; more than the I/O is all of it. Ignored, counted and
 * logged: a second completion, and one of an I/O with recorded ranges.
 *
 * Context: any callback.
 */
__bpf_kfunc void ublk_bpf_complete_io(const struct ublk_bpf_io *io, int res)
{
	struct ublk_bpf_tag *tag = ublk_bpf_io_tag(io);

	if (unlikely(ublk_bpf_io_fwd(io)))
		ublk_bpf_misused(tag, "completed an I/O in io_done");
	else
		ublk_bpf_completed(tag, res);
}

/**
 * ublk_bpf_forward - send a range of the I/O to a backing, without a copy
 * @io:		the I/O; its operation and flags are the range's
 * @off:	where the range starts in the I/O, in bytes
 * @bytes:	its length; 0 for a flush
 * @slot:	the backing
 * @pos:	where in the backing, in bytes; a flush is nowhere
 *
 * Only recorded here; sent when the callback has returned QUEUED or CONTINUE.
 * Ranges come in rising @off, each at or before the end of what is covered.
 * The I/O ends when all are back, the first error wins.
 *
 * In io_done: the range that replaces the one that is back, for the same part of
 * the I/O; sent when it has answered UBLK_BPF_DONE_RETRY.
 *
 * Context: queue_io_cmd, queue_io_cmd_daemon, io_done.
 * Return: 0; -EINVAL outside of the I/O, out of order, not a multiple of the
 * backing's block, past its end (a file's: what its file system can hold), not in
 * such a callback, completed or held before, or another part than the range that is
 * back; -ENOENT empty slot; -ENODEV its disk is gone; -EBADF slot not writable;
 * -EOPNOTSUPP a discard that the backing does not have; -ENOSPC when this call has
 * recorded 16 (answer CONTINUE), or io_done one.
 */
__bpf_kfunc int ublk_bpf_forward(struct ublk_bpf_io *io, u32 off, u32 bytes, u32 slot, u64 pos)
{
	struct ublk_bpf_fwd *fwd = ublk_bpf_io_fwd(io);

	return unlikely(fwd) ? ublk_bpf_record_retry(fwd, off, bytes, slot, pos) :
	       ublk_bpf_record_io(ublk_bpf_io_tag(io), off, bytes, slot, pos);
}

/**
 * ublk_bpf_payload_read - what a write carries, or a read has brought
 * @io:		the I/O
 * @off:	where in the I/O, in bytes
 * @dst:	where to copy it to
 * @dst__sz:	how many bytes
 *
 * Context: queue_io_cmd, queue_io_cmd_daemon; io_done.
 * Return: 0; -EPERM the I/O is no write, nor in io_done a read; -EINVAL outside of it, in
 * io_done of the range that is back, or in another callback.
 */
__bpf_kfunc int ublk_bpf_payload_read(struct ublk_bpf_io *io, u32 off, void *dst, u32 dst__sz)
{
	return ublk_bpf_payload(io, off, dst, dst__sz, true);
}

/**
 * ublk_bpf_payload_write - what a read is to get
 * @io:		the I/O
 * @off:	where in the I/O, in bytes
 * @src:	where to copy it from
 * @src__sz:	how many bytes
 *
 * Context: queue_io_cmd, queue_io_cmd_daemon, io_done.
 * Return: 0; -EPERM the I/O is no read; -EINVAL outside of it, in io_done of the range
 * that is back, or in another callback.
 */
__bpf_kfunc int ublk_bpf_payload_write(struct ublk_bpf_io *io, u32 off, const void *src,
				       u32 src__sz)
{
	return ublk_bpf_payload(io, off, (void *)src, src__sz, false);
}

/**
 * ublk_bpf_scratch - memory that is the I/O's own until it ends
 * @io:			the I/O
 * @rdwr_buf_size:	how much of it, a constant, 64 bytes at most
 *
 * Zeroes at first. An I/O that is asked about again as a new one (its rest, after a
 * part has completed) has a new one.
 *
 * Context: any callback.
 * Return: the memory; NULL: more than there is.
 */
__bpf_kfunc u8 *ublk_bpf_scratch(struct ublk_bpf_io *io, const size_t rdwr_buf_size)
{
	return ublk_bpf_io_scratch(ublk_bpf_io_tag(io), rdwr_buf_size);
}

/**
 * ublk_bpf_hold - keep an I/O, to finish it later and elsewhere
 * @io:	the I/O
 *
 * The hold can be kept in a map (as a kptr), and is finished by one of the three
 * below: from the callbacks of another I/O, from a BPF timer, from a SYSCALL
 * program. An I/O is held once a run of its callbacks, which answer QUEUED, or
 * CONTINUE, then; a REDIRECT takes it back. It can neither be completed nor
 * forwarded by @io any more.
 *
 * An I/O that is held for longer than the disk's queue/io_timeout (at most twice
 * that) fails with -ETIMEDOUT and the program is ejected from the device.
 *
 * Context: queue_io_cmd, queue_io_cmd_daemon.
 * Return: the hold, or NULL: no memory, the disk is being removed, or it was
 * held or completed before.
 */
__bpf_kfunc struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io)
{
	struct ublk_bpf_tag *tag = ublk_bpf_io_tag(io);

	if (unlikely(ublk_bpf_io_fwd(io))) {
		ublk_bpf_misused(tag, "held an I/O in io_done");
		return NULL;
	}
	return ublk_bpf_hold_io(tag);
}

/**
 * ublk_bpf_hold_complete - end the whole I/O, see ublk_bpf_complete_io()
 * @h:		the hold, which is gone after this
 * @res:	bytes done, or a negative errno
 *
 * Without effect, and counted, when the I/O was taken from the hold: it timed
 * out, or its program or device went.
 *
 * Context: any.
 */
__bpf_kfunc void ublk_bpf_hold_complete(struct ublk_bpf_hold *h, int res)
{
	ublk_bpf_complete_hold(h, res);
}

/**
 * ublk_bpf_hold_forward - send a range to a backing, see ublk_bpf_forward()
 * @h:		the hold
 * @off:	where the range starts in the I/O, in bytes
 * @bytes:	its length; 0 for a flush
 * @slot:	the backing
 * @pos:	where in the backing, in bytes; a flush is nowhere
 *
 * Only recorded here; sent by a worker when the hold is released. The I/O ends
 * when the ranges are back.
 *
 * Context: any.
 * Return: as ublk_bpf_forward(); -ESTALE the I/O was taken from the hold.
 */
__bpf_kfunc int ublk_bpf_hold_forward(struct ublk_bpf_hold *h, u32 off, u32 bytes, u32 slot,
				      u64 pos)
{
	return ublk_bpf_forward_hold(h, off, bytes, slot, pos);
}

/**
 * ublk_bpf_hold_release - let a hold go
 * @h:	the hold, which is gone after this
 *
 * What no range covers of the I/O is asked about again.
 *
 * Context: any.
 */
__bpf_kfunc void ublk_bpf_hold_release(struct ublk_bpf_hold *h)
{
	ublk_bpf_release_hold(h);
}

/* A map let go of a hold that was in it. Context: any, under any lock. */
__bpf_kfunc void ublk_bpf_hold_release_dtor(void *h)
{
	ublk_bpf_lose_hold(h);
}
CFI_NOSEAL(ublk_bpf_hold_release_dtor);

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(ublk_bpf_kfunc_ids)
BTF_ID_FLAGS(func, ublk_bpf_get_iod, KF_TRUSTED_ARGS | KF_RET_NULL)
BTF_ID_FLAGS(func, ublk_bpf_get_dev_id, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_get_queue_id, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_get_io_tag, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_get_cookie, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_complete_io, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_forward, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_payload_read, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_payload_write, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_scratch, KF_TRUSTED_ARGS | KF_RET_NULL)
BTF_ID_FLAGS(func, ublk_bpf_hold, KF_TRUSTED_ARGS | KF_ACQUIRE | KF_RET_NULL)
BTF_ID_FLAGS(func, ublk_bpf_hold_complete, KF_RELEASE)
BTF_ID_FLAGS(func, ublk_bpf_hold_forward, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_hold_release, KF_RELEASE)
BTF_KFUNCS_END(ublk_bpf_kfunc_ids)

/* What a server can do by a program of its own, with what it finds in a map. */
BTF_KFUNCS_START(ublk_bpf_syscall_kfunc_ids)
BTF_ID_FLAGS(func, ublk_bpf_hold_complete, KF_RELEASE)
BTF_ID_FLAGS(func, ublk_bpf_hold_forward, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, ublk_bpf_hold_release, KF_RELEASE)
BTF_KFUNCS_END(ublk_bpf_syscall_kfunc_ids)

BTF_ID_LIST(ublk_bpf_dtor_ids)
BTF_ID(struct, ublk_bpf_hold)
BTF_ID(func, ublk_bpf_hold_release_dtor)

static const struct btf *ublk_bpf_btf;	/* lives as long as the module */

/*
 * The set is registered for all struct_ops: ours are those of our BTF. Only asked
 * about kfuncs of this module. Their ids are not compared: the kernel relocates
 * its own copy of the set, not ours.
 */
static int ublk_bpf_kfunc_filter(const struct bpf_prog *prog, u32 kfunc_id)
{
	return prog->aux->attach_btf == ublk_bpf_btf ? 0 : -EACCES;
}

static const struct btf_kfunc_id_set ublk_bpf_kfunc_set = {
	.owner	= THIS_MODULE,
	.set	= &ublk_bpf_kfunc_ids,
	.filter	= ublk_bpf_kfunc_filter,
};

static const struct btf_kfunc_id_set ublk_bpf_syscall_kfunc_set = {
	.owner	= THIS_MODULE,
	.set	= &ublk_bpf_syscall_kfunc_ids,
};

int ublk_bpf_kfuncs_init(const struct btf *btf)
{
	const struct btf_id_dtor_kfunc dtor = {
		.btf_id		= ublk_bpf_dtor_ids[0],
		.kfunc_btf_id	= ublk_bpf_dtor_ids[1],
	};

	ublk_bpf_btf = btf;
	return register_btf_id_dtor_kfuncs(&dtor, 1, THIS_MODULE) ?:
	       register_btf_kfunc_id_set(BPF_PROG_TYPE_STRUCT_OPS, &ublk_bpf_kfunc_set) ?:
	       register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL, &ublk_bpf_syscall_kfunc_set);
}
