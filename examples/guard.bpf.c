// SPDX-License-Identifier: GPL-2.0
/* A disk over slot 0 whose first MiB cannot be written. Needs no header of ours. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct ublksrv_io_desc { __u32 op_flags, nr_sectors; __u64 start_sector, addr; };
struct ublk_bpf_io { const struct ublksrv_io_desc *iod; };
struct ublk_bpf_ops { unsigned int id; unsigned long (*queue_io_cmd)(struct ublk_bpf_io *, unsigned int); };

extern void ublk_bpf_complete_io(const struct ublk_bpf_io *io, int res) __ksym;
extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot, __u64 pos) __ksym;

SEC("struct_ops/guard")
unsigned long guard(unsigned long long *ctx)
{
	struct ublk_bpf_io *io = (void *)ctx[0];
	const struct ublksrv_io_desc *iod = io->iod;

	if ((iod->op_flags & 0xff) == 1 && iod->start_sector < 2048)
		ublk_bpf_complete_io(io, -5 /* EIO */);
	else
		ublk_bpf_forward(io, 0, iod->nr_sectors << 9, 0, iod->start_sector << 9);
	return 0;	/* queued */
}

SEC(".struct_ops.link")
struct ublk_bpf_ops guard_ops = { .queue_io_cmd = (void *)guard };

char _license[] SEC("license") = "GPL";
