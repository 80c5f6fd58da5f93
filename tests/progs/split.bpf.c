// SPDX-License-Identifier: GPL-2.0
/*
 * Take 512 bytes, be asked again, take the rest: CONTINUE of the original
 * proposal. counts: 0 asked at offset 0, 1 asked at 512, 2 asked elsewhere.
 */
#include "abi.h"

SEC("struct_ops/split_queue")
unsigned long BPF_PROG(split_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod)
		return QUEUED;
	count(off == 0 ? 0 : off == 512 ? 1 : 2);
	if (off == 0 && io_bytes(iod) > 512)
		return CONTINUE | 512;
	ublk_bpf_complete_io(io, io_bytes(iod));
	return CONTINUE | (io_bytes(iod) - off);
}

SEC(".struct_ops.link")
struct ublk_bpf_ops split_ops = {
	.queue_io_cmd	= (void *)split_queue,
};
