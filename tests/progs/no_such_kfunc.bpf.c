// SPDX-License-Identifier: GPL-2.0
/* Calls what the driver does not offer. */
#include "abi.h"

extern void bpf_aio_no_such(struct ublk_bpf_io *io) __ksym;

SEC("struct_ops/no_such_queue")
unsigned long BPF_PROG(no_such_queue, struct ublk_bpf_io *io, unsigned int off)
{
	bpf_aio_no_such(io);
	return QUEUED;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops no_such_ops = { .queue_io_cmd = (void *)no_such_queue };
