// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of a flush: forwarded to slots 0 and 1, or redirected. The rest
 * goes to slot 0.
 */
#include "abi.h"

extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;

SEC("struct_ops/flush_forward")
unsigned long BPF_PROG(flush_forward, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod)
		return REDIRECT;
	if ((iod->op_flags & 0xff) == OP_FLUSH) {
		count(0);
		ublk_bpf_forward(io, 0, 0, 0, 0);
		ublk_bpf_forward(io, 0, 0, 1, 0);
	} else {
		ublk_bpf_forward(io, 0, iod->nr_sectors << 9, 0, iod->start_sector << 9);
	}
	return QUEUED;
}

SEC("struct_ops/flush_redirect")
unsigned long BPF_PROG(flush_redirect, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod || (iod->op_flags & 0xff) == OP_FLUSH)
		return REDIRECT;
	ublk_bpf_forward(io, 0, iod->nr_sectors << 9, 0, iod->start_sector << 9);
	return QUEUED;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops forward_ops = {
	.queue_io_cmd	= (void *)flush_forward,
};

SEC(".struct_ops.link")
struct ublk_bpf_ops redirect_ops = {
	.queue_io_cmd	= (void *)flush_redirect,
};
