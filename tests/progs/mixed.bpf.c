// SPDX-License-Identifier: GPL-2.0
/* What starts before 65 MiB is forwarded to slot 0, the rest is done. */
#include "abi.h"

#define BORDER	(65ULL << 20)

extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;

SEC("struct_ops/mixed_queue")
unsigned long BPF_PROG(mixed_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod || off)
		return REDIRECT;
	if (iod->start_sector << 9 < BORDER)
		ublk_bpf_forward(io, 0, io_bytes(iod), 0, iod->start_sector << 9);
	else
		ublk_bpf_complete_io(io, io_bytes(iod));
	return QUEUED;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops mixed_ops = {
	.queue_io_cmd	= (void *)mixed_queue,
};
