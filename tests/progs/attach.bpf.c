// SPDX-License-Identifier: GPL-2.0
/*
 * Told of devices that come and go; refuses number 7, and answers nonsense of
 * number 6. counts: 0 attached, 1 detached, 2 the last one attached, 3 the last one
 * detached, 4 the last one that an I/O was for, 5 that I/O's queue.
 */
#include "abi.h"

SEC("struct_ops/attach_queue")
unsigned long BPF_PROG(attach_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod)
		return QUEUED;
	note(4, ublk_bpf_get_dev_id(io));
	note(5, ublk_bpf_get_queue_id(io));
	ublk_bpf_complete_io(io, io_bytes(iod));
	return QUEUED;
}

SEC("struct_ops/attach_dev")
int BPF_PROG(attach_dev, int dev_id)
{
	if (dev_id == 7)
		return -EACCES;
	if (dev_id == 6)
		return 1;
	count(0);
	note(2, dev_id);
	return 0;
}

SEC("struct_ops/detach_dev")
void BPF_PROG(detach_dev, int dev_id)
{
	count(1);
	note(3, dev_id);
}

SEC(".struct_ops.link")
struct ublk_bpf_ops attach_ops = {
	.queue_io_cmd	= (void *)attach_queue,
	.attach_dev	= (void *)attach_dev,
	.detach_dev	= (void *)detach_dev,
};
