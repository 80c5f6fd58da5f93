// SPDX-License-Identifier: GPL-2.0
/* Every other tag to the server, the rest is completed here. */
#include "abi.h"

SEC("struct_ops/tags_queue")
unsigned long BPF_PROG(tags_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod || ublk_bpf_get_io_tag(io) & 1)
		return REDIRECT;
	ublk_bpf_complete_io(io, io_bytes(iod));
	return QUEUED;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops tags_ops = {
	.queue_io_cmd	= (void *)tags_queue,
};
