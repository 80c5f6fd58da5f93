// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of a flush: forwarded to slots 0 and 1, or redirected. The rest
 * goes to slot 0. With cut_ops the server's task forwards, and so much that there
 * is no memory for it when that fails.
 */
#include "abi.h"

struct ublk_bpf_hold {
} __attribute__((preserve_access_index));

extern struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io) __ksym;
extern void ublk_bpf_hold_release(struct ublk_bpf_hold *h) __ksym;
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

SEC("struct_ops/cut_queue")
unsigned long BPF_PROG(cut_queue, struct ublk_bpf_io *io, unsigned int off)
{
	return REDIRECT;
}

/* In the server's task: a flush of both is held for a while; 64 KiB go to slot 1 in pieces. */
SEC("struct_ops/cut_daemon")
unsigned long BPF_PROG(cut_daemon, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct ublk_bpf_hold *h;

	if (!iod)
		return REDIRECT;
	if ((iod->op_flags & 0xff) == OP_FLUSH) {
		count(0);
		ublk_bpf_forward(io, 0, 0, 0, 0);
		ublk_bpf_forward(io, 0, 0, 1, 0);
		h = ublk_bpf_hold(io);
		if (h)
			ublk_bpf_hold_release(h);
		return QUEUED;
	}
	if (iod->nr_sectors != 128)
		return REDIRECT;
	for (int i = 0; i < 16; i++)
		ublk_bpf_forward(io, i << 12, 4096, 1, (iod->start_sector << 9) + (i << 12));
	return QUEUED;
}

/* Its being there keeps each range's memory until that is back. */
SEC("struct_ops/cut_done")
int BPF_PROG(cut_done, struct ublk_bpf_io *io, unsigned int slot, unsigned int off,
	     unsigned int bytes, int res)
{
	return 0;
}

/* The proposal's, and ours after it. */
struct ublk_bpf_ops___done {
	unsigned int id;
	unsigned long (*queue_io_cmd)(struct ublk_bpf_io *io, unsigned int off);
	unsigned long (*queue_io_cmd_daemon)(struct ublk_bpf_io *io, unsigned int off);
	int (*io_done)(struct ublk_bpf_io *io, unsigned int slot, unsigned int off,
		       unsigned int bytes, int res);
};

SEC(".struct_ops.link")
struct ublk_bpf_ops___done cut_ops = {
	.queue_io_cmd		= (void *)cut_queue,
	.queue_io_cmd_daemon	= (void *)cut_daemon,
	.io_done		= (void *)cut_done,
};

SEC(".struct_ops.link")
struct ublk_bpf_ops forward_ops = {
	.queue_io_cmd	= (void *)flush_forward,
};

SEC(".struct_ops.link")
struct ublk_bpf_ops redirect_ops = {
	.queue_io_cmd	= (void *)flush_redirect,
};
