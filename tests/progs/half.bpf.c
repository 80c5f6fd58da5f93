// SPDX-License-Identifier: GPL-2.0
/*
 * Some I/O by the program, some by the server, some by both: by the 4 KiB that an I/O
 * starts in it is forwarded to slot 0, redirected, forwarded in part and redirected, or
 * redirected and forwarded by queue_io_cmd_daemon. With a server that serves the same
 * file nobody can tell them apart.
 */
#include "abi.h"

#define PART	4096

extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;

static unsigned long forward(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod,
			     __u32 bytes)
{
	ublk_bpf_forward(io, 0, bytes, 0, iod->start_sector << 9);
	return bytes < iod->nr_sectors << 9 ? CONTINUE | bytes : QUEUED;
}

/* Which of the four; what cannot be forwarded is the server's. */
static int kind(const struct ublksrv_io_desc *iod)
{
	return (iod->op_flags & 0xff) > OP_FLUSH ? 1 : (iod->start_sector >> 3) & 3;
}

SEC("struct_ops/half_queue")
unsigned long BPF_PROG(half_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	__u32 bytes;

	if (!iod || off)
		return REDIRECT;
	bytes = iod->nr_sectors << 9;
	switch (kind(iod)) {
	case 0:
		return forward(io, iod, bytes);
	case 2:
		return forward(io, iod, bytes > PART ? PART : bytes);
	}
	return REDIRECT;
}

SEC("struct_ops/half_daemon")
unsigned long BPF_PROG(half_daemon, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (iod && kind(iod) == 3)
		return forward(io, iod, iod->nr_sectors << 9);
	return REDIRECT;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops half_ops = {
	.queue_io_cmd		= (void *)half_queue,
	.queue_io_cmd_daemon	= (void *)half_daemon,
};
