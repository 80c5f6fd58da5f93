// SPDX-License-Identifier: GPL-2.0
/*
 * Told when an I/O's last reference is dropped. Redirects what is at 16 MiB or
 * above. counts: 0 asked, 1 released, 2 released before the submission had
 * let go (never).
 */
#include "abi.h"

SEC("struct_ops/release_queue")
unsigned long BPF_PROG(release_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod)
		return QUEUED;
	count(0);
	if (iod->start_sector >= 32768)
		return REDIRECT;
	ublk_bpf_complete_io(io, io_bytes(iod));
	return QUEUED;
}

SEC("struct_ops/release_io")
void BPF_PROG(release_io, struct ublk_bpf_io *io)
{
	count(1);
	if (io->ref.refs.counter)
		count(2);
}

SEC(".struct_ops.link")
struct ublk_bpf_ops release_ops = {
	.queue_io_cmd	= (void *)release_queue,
	.release_io_cmd	= (void *)release_io,
};
