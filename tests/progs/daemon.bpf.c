// SPDX-License-Identifier: GPL-2.0
/*
 * Asked in the server's task only, by a program that may sleep. Redirects what
 * is at 16 MiB or above. counts: 0 asked and done.
 */
#include "abi.h"

SEC("struct_ops.s/daemon_queue")
unsigned long BPF_PROG(daemon_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod || iod->start_sector >= 32768)
		return REDIRECT;
	count(0);
	ublk_bpf_complete_io(io, io_bytes(iod));
	return QUEUED;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops daemon_ops = {
	.queue_io_cmd_daemon	= (void *)daemon_queue,
};
