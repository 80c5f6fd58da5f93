/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * For BPF programs: the ops table a program fills in, what its callbacks
 * answer, and the kfuncs they can call. Include after vmlinux.h (or
 * linux/bpf.h and linux/types.h) and bpf/bpf_helpers.h. All types match the
 * kernel's by name, so one object file serves every supported kernel.
 */
#ifndef UBLK_BPF_BPF_H
#define UBLK_BPF_BPF_H

#include <linux/ublk_cmd.h>
#include "ublk_bpf_return.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/**
 * struct ublk_bpf_io - one I/O, as a program sees it
 * @iod:	operation, position and size; use ublk_bpf_get_iod()
 * @flags:	the driver's
 * @ref:	the driver's: submission and completion
 * @res:	the driver's
 */
struct ublk_bpf_io {
	const struct ublksrv_io_desc *iod;
	unsigned long flags;
	struct {
		struct {
			int counter;
		} refs;
	} ref;
	int res;
};

/**
 * struct ublk_bpf_ops - a program
 * @id:			devices are attached to a program by it
 * @queue_io_cmd:	an I/O was submitted and its first @off bytes are taken.
 *			Context: the submitter's; must not sleep.
 *			Return: ublk_bpf_return_val()
 * @queue_io_cmd_daemon: the same, asked when @queue_io_cmd is absent or
 *			redirects. Context: the server's task; may sleep.
 * @release_io_cmd:	the I/O's last reference was dropped. Context: any, hard
 *			interrupt too; must not sleep.
 * @attach_dev:		a device is about to be attached; a negative errno
 *			refuses it. Context: task; must not sleep.
 * @detach_dev:		a device was detached. Context: task; must not sleep.
 * @io_done:		a range that was forwarded is back: @slot, @off and @bytes as it
 *			was recorded; @res its bytes, or a negative errno. Those of one
 *			I/O may come at the same time on several CPUs. It can look at the
 *			payload, fill in a read's, and with ublk_bpf_forward() record one
 *			range in place of this one, of the same part of the I/O. Context:
 *			any, hard interrupt too; must not sleep.
 *			Return: 0, a negative errno, or enum ublk_bpf_done
 */
struct ublk_bpf_ops {
	unsigned int id;
	unsigned long (*queue_io_cmd)(struct ublk_bpf_io *io, unsigned int off);
	unsigned long (*queue_io_cmd_daemon)(struct ublk_bpf_io *io, unsigned int off);
	void (*release_io_cmd)(struct ublk_bpf_io *io);
	int (*attach_dev)(int dev_id);
	void (*detach_dev)(int dev_id);
	int (*io_done)(struct ublk_bpf_io *io, unsigned int slot, unsigned int off,
		       unsigned int bytes, int res);
};

/* An I/O that is held; kept in a map as "struct ublk_bpf_hold __kptr *". */
struct ublk_bpf_hold {
};

#pragma clang attribute pop

/* The I/O's descriptor, read only. NULL when there is none. */
extern const struct ublksrv_io_desc *ublk_bpf_get_iod(const struct ublk_bpf_io *io) __ksym;
extern int ublk_bpf_get_dev_id(const struct ublk_bpf_io *io) __ksym;
extern int ublk_bpf_get_queue_id(const struct ublk_bpf_io *io) __ksym;
/* Another one perhaps when it is asked about again after a hold, or for want of memory. */
extern int ublk_bpf_get_io_tag(const struct ublk_bpf_io *io) __ksym;

/* What the attach command gave this device. */
extern __u64 ublk_bpf_get_cookie(const struct ublk_bpf_io *io) __ksym;

/*
 * End the whole I/O: bytes done, or a negative errno. A short result shrinks
 * the I/O to its rest and the program is asked again.
 */
extern void ublk_bpf_complete_io(const struct ublk_bpf_io *io, int res) __ksym;

/*
 * Send [off, off + bytes) of the I/O to byte @pos of the backing in @slot,
 * after the callback returned. The I/O ends when all its ranges are back.
 * Return: 0; -EINVAL outside the I/O, unaligned, out of order, past the backing,
 * or completed or held before; -ENOENT empty slot; -ENODEV its disk is gone; -EBADF slot not
 * writable; -EOPNOTSUPP operation not supported; -ENOSPC 16 ranges in this call (answer CONTINUE).
 */
extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;

/*
 * Copy what a write carries from byte @off of the I/O on; or to where a read finds it.
 * Return: 0; -EPERM the other direction; -EINVAL outside of the I/O.
 */
extern int ublk_bpf_payload_read(struct ublk_bpf_io *io, __u32 off, void *dst,
				 __u32 dst__sz) __ksym;
extern int ublk_bpf_payload_write(struct ublk_bpf_io *io, __u32 off, const void *src,
				  __u32 src__sz) __ksym;

/* Memory that is the I/O's own until it ends, zeroes at first; NULL for more than 64 bytes. */
extern __u8 *ublk_bpf_scratch(struct ublk_bpf_io *io, const __u64 rdwr_buf_size) __ksym;

/*
 * Keep an I/O, to finish it later: from the callbacks of another, from a BPF
 * timer, from a SYSCALL program. Then answer QUEUED. Once a run of the callbacks;
 * a REDIRECT takes it back. An I/O that is held for longer than queue/io_timeout
 * fails with -ETIMEDOUT, and the program is ejected from the device.
 * Return: the hold, which must be kept or ended; NULL: not to be had.
 */
extern struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io) __ksym;

/* End the I/O, as ublk_bpf_complete_io(). Without effect when it was taken away. */
extern void ublk_bpf_hold_complete(struct ublk_bpf_hold *h, int res) __ksym;

/*
 * As ublk_bpf_forward(); a worker sends it when the hold is let go.
 * Return: likewise; -ESTALE the I/O was taken away.
 */
extern int ublk_bpf_hold_forward(struct ublk_bpf_hold *h, __u32 off, __u32 bytes, __u32 slot,
				 __u64 pos) __ksym;

/*
 * Let it go: what no range covers is asked about again. A map does so with what is
 * still in it when it is freed; but take a hold out of an element before deleting that:
 * the kernel may keep it until the element's memory is freed (7.3 does).
 */
extern void ublk_bpf_hold_release(struct ublk_bpf_hold *h) __ksym;

/*
 * Fail an I/O with @err, whatever was forwarded of it: what a callback is to return.
 * (After a range was recorded a completion is ignored; then the answer is what fails.)
 */
static __always_inline unsigned long ublk_bpf_fail_io(struct ublk_bpf_io *io, int err)
{
	ublk_bpf_complete_io(io, err);
	return ublk_bpf_return_val(UBLK_BPF_IO_CONTINUE, 0);
}

/*
 * What a callback is to return when it forwards: @ret > 0 bytes from its offset on, to
 * be asked for the rest; 0: all of it; or it failed.
 */
static __always_inline unsigned long ublk_bpf_answer(struct ublk_bpf_io *io, int ret)
{
	if (ret < 0)
		return ublk_bpf_fail_io(io, ret);
	if (ret)
		return ublk_bpf_return_val(UBLK_BPF_IO_CONTINUE, ret);
	return ublk_bpf_return_val(UBLK_BPF_IO_QUEUED, 0);
}

/* Forward a flush to slots 0 to @nr - 1, 16 at most. Return: 0 or a negative errno. */
static __always_inline int ublk_bpf_forward_flush(struct ublk_bpf_io *io, __u32 nr)
{
	int err = 0;

	for (__u32 slot = 0; slot < 16 && slot < nr && !err; slot++)
		err = ublk_bpf_forward(io, 0, 0, slot, 0);
	return err;
}

#define UBLK_BPF_STRUCT_OPS(name, args...) SEC("struct_ops/" #name) BPF_PROG(name, ##args)

/*
 * The ops table last, in one statement:
 *	UBLK_BPF_OPS(null, .queue_io_cmd = (void *)null_queue_io_cmd);
 */
#define UBLK_BPF_OPS(name, members...)			\
	SEC(".struct_ops.link")				\
	struct ublk_bpf_ops name = { members }

#endif
