// SPDX-License-Identifier: GPL-2.0
/* Three programs in one object, to pick one of: done, error, server. */
#include "abi.h"

SEC("struct_ops/done_queue")
unsigned long BPF_PROG(done_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (iod)
		ublk_bpf_complete_io(io, io_bytes(iod));
	return QUEUED;
}

SEC("struct_ops/error_queue")
unsigned long BPF_PROG(error_queue, struct ublk_bpf_io *io, unsigned int off)
{
	ublk_bpf_complete_io(io, -ENOSPC);
	return QUEUED;
}

SEC("struct_ops/server_queue")
unsigned long BPF_PROG(server_queue, struct ublk_bpf_io *io, unsigned int off)
{
	return REDIRECT;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops done_ops = { .queue_io_cmd = (void *)done_queue };

SEC(".struct_ops.link")
struct ublk_bpf_ops error_ops = { .queue_io_cmd = (void *)error_queue };

SEC(".struct_ops.link")
struct ublk_bpf_ops server_ops = { .queue_io_cmd = (void *)server_queue };
