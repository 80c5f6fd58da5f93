// SPDX-License-Identifier: GPL-2.0
/* Complete everything: the smallest program of the original proposal. */
#include "abi.h"

SEC("struct_ops/complete_queue")
unsigned long BPF_PROG(complete_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (iod)
		ublk_bpf_complete_io(io, io_bytes(iod));
	return QUEUED;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops complete_ops = {
	.id		= 77,
	.queue_io_cmd	= (void *)complete_queue,
};
