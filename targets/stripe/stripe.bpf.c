// SPDX-License-Identifier: GPL-2.0
/*
 * stripe: RAID 0 over files and block devices. The device asks for I/O that stays in
 * a chunk, so that it is one range; what carries no data is of any size, and is one
 * range for each backing.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"
#include "stripe.h"

#define EIO		5
#define EOPNOTSUPP	95

const volatile struct stripe_shape shape = { .nr = 1 };
const volatile __u64 starts[STRIPE_MAX_BACKINGS];	/* of the part of each that is used */

/* The chunk after the first @off bytes, which are taken. Return: its bytes, or an error. */
static int stripe_forward(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off)
{
	__u64 pos = (iod->start_sector << 9) + off, to;
	__u32 slot = stripe_find(&shape, pos, &to);
	__u32 bytes = stripe_bytes(&shape, pos, (iod->nr_sectors << 9) - off);

	if (slot >= STRIPE_MAX_BACKINGS)
		return -EIO;
	return ublk_bpf_forward(io, off, bytes, slot, starts[slot] + to) ?: (int)bytes;
}

/* What of it is each backing's lies in one piece there. */
static int stripe_forward_whole(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod)
{
	__u64 pos = iod->start_sector << 9, end = pos + (iod->nr_sectors << 9);
	__u32 off = 0;
	int err = 0;

	for (__u32 slot = 0; slot < STRIPE_MAX_BACKINGS && slot < shape.nr && !err; slot++) {
		__u64 to = stripe_before(&shape, pos, slot);
		__u32 bytes = stripe_before(&shape, end, slot) - to;

		if (!bytes)
			continue;
		err = ublk_bpf_forward(io, off, bytes, slot, starts[slot] + to);
		off += bytes;
	}
	return err;
}

unsigned long UBLK_BPF_STRUCT_OPS(stripe_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod)
		return ublk_bpf_fail_io(io, -EIO);
	switch (iod->op_flags & 0xff) {
	case UBLK_IO_OP_READ:
	case UBLK_IO_OP_WRITE:
		return ublk_bpf_answer(io, stripe_forward(io, iod, off));
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		return ublk_bpf_answer(io, stripe_forward_whole(io, iod));
	case UBLK_IO_OP_FLUSH:
		return ublk_bpf_answer(io, ublk_bpf_forward_flush(io, shape.nr));
	default:
		return ublk_bpf_fail_io(io, -EOPNOTSUPP);
	}
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(stripe_ops,
	.queue_io_cmd	= (void *)stripe_queue_io_cmd,
);
