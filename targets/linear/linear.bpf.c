// SPDX-License-Identifier: GPL-2.0
/*
 * linear: files and block devices, or parts of them, one after the other as one
 * device. An I/O is forwarded in as many ranges as it touches parts: mostly one.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"
#include "linear.h"

#define EIO		5
#define EOPNOTSUPP	95

const volatile struct linear_part parts[LINEAR_MAX_PARTS];
const volatile __u32 nr_parts;

/* A range of an I/O, of which the first @off bytes are taken. Return: its bytes, or an error. */
static int linear_forward(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off)
{
	__u64 pos = (iod->start_sector << 9) + off;
	__u32 nr = nr_parts == 1 ? 0 : linear_find(parts, pos);	/* known when it is loaded */
	__u32 bytes = linear_bytes(&parts[nr], pos, (iod->nr_sectors << 9) - off);

	return ublk_bpf_forward(io, off, bytes, nr, pos + parts[nr].shift) ?: (int)bytes;
}

unsigned long UBLK_BPF_STRUCT_OPS(linear_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod)
		return ublk_bpf_fail_io(io, -EIO);
	switch (iod->op_flags & 0xff) {
	case UBLK_IO_OP_READ:
	case UBLK_IO_OP_WRITE:
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		return ublk_bpf_answer(io, linear_forward(io, iod, off));
	case UBLK_IO_OP_FLUSH:
		return ublk_bpf_answer(io, ublk_bpf_forward_flush(io, nr_parts));
	default:
		return ublk_bpf_fail_io(io, -EOPNOTSUPP);
	}
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(linear_ops,
	.queue_io_cmd	= (void *)linear_queue_io_cmd,
);
