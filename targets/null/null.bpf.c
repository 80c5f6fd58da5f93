// SPDX-License-Identifier: GPL-2.0
/*
 * null: throws writes away, reads whatever is in memory. What is left of an I/O
 * when nothing is done with it: the floor that other programs are measured
 * against, and the smallest program there can be.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"
#include "null.h"

unsigned long UBLK_BPF_STRUCT_OPS(null_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (iod)
		ublk_bpf_complete_io(io, null_result(iod->op_flags, iod->nr_sectors));
	return ublk_bpf_return_val(UBLK_BPF_IO_QUEUED, 0);
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(null_ops,
	.queue_io_cmd	= (void *)null_queue_io_cmd,
);
