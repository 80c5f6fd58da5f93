// SPDX-License-Identifier: GPL-2.0
/*
 * loop: a file or block device, or a part of one, as a device. Every I/O is
 * forwarded in one range: the kernel's loop driver without its worker, and
 * dm-linear without a table.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"
#include "loop.h"

#define EOPNOTSUPP 95

/* First byte of the part of the backing that is used. */
const volatile __u64 loop_start;

static int loop_forward(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod,
			unsigned int off)
{
	switch (iod->op_flags & 0xff) {
	case UBLK_IO_OP_READ:
	case UBLK_IO_OP_WRITE:
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		return ublk_bpf_forward(io, off, (iod->nr_sectors << 9) - off, LOOP_SLOT,
					loop_pos(loop_start, iod->start_sector, off));
	case UBLK_IO_OP_FLUSH:
		return ublk_bpf_forward(io, 0, 0, LOOP_SLOT, 0);
	default:
		return -EOPNOTSUPP;	/* not offered, so never asked for */
	}
}

unsigned long UBLK_BPF_STRUCT_OPS(loop_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	return ublk_bpf_answer(io, iod ? loop_forward(io, iod, off) : -EOPNOTSUPP);
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(loop_ops,
	.queue_io_cmd	= (void *)loop_queue_io_cmd,
);
