// SPDX-License-Identifier: GPL-2.0
/* What must not load, a program each: the test picks one and reads why. */
#include "abi.h"

extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;

struct ublk_bpf_hold {
} __attribute__((preserve_access_index));

extern struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io) __ksym;
extern void ublk_bpf_hold_complete(struct ublk_bpf_hold *h, int res) __ksym;
extern void ublk_bpf_hold_release(struct ublk_bpf_hold *h) __ksym;

SEC("struct_ops/write_iod")
unsigned long BPF_PROG(write_iod, struct ublk_bpf_io *io, unsigned int off)
{
	struct ublksrv_io_desc *iod = (void *)ublk_bpf_get_iod(io);

	if (iod)
		iod->nr_sectors = 1;
	return QUEUED;
}

SEC("struct_ops/write_io")
unsigned long BPF_PROG(write_io, struct ublk_bpf_io *io, unsigned int off)
{
	io->res = 1;
	return QUEUED;
}

SEC("struct_ops/read_null_iod")
unsigned long BPF_PROG(read_null_iod, struct ublk_bpf_io *io, unsigned int off)
{
	ublk_bpf_complete_io(io, ublk_bpf_get_iod(io)->nr_sectors << 9);
	return QUEUED;
}

SEC("struct_ops/null_io")
unsigned long BPF_PROG(null_io, struct ublk_bpf_io *io, unsigned int off)
{
	ublk_bpf_complete_io(NULL, 0);
	return QUEUED;
}

SEC("struct_ops/scalar_io")
unsigned long BPF_PROG(scalar_io, struct ublk_bpf_io *io, unsigned int off)
{
	ublk_bpf_forward((void *)(unsigned long)(off + 4096), 0, 512, 0, 0);
	return QUEUED;
}

/* A pointer into the kernel, but to something else. */
SEC("struct_ops/other_io")
unsigned long BPF_PROG(other_io, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (iod)
		ublk_bpf_complete_io((void *)iod, 0);
	return QUEUED;
}

/* Outside of what it is a pointer to. */
SEC("struct_ops/read_beyond")
unsigned long BPF_PROG(read_beyond, struct ublk_bpf_io *io, unsigned int off)
{
	return *(volatile __u64 *)((char *)io + 4096);
}

/* Held, and lost. */
SEC("struct_ops/leaks")
unsigned long BPF_PROG(leaks, struct ublk_bpf_io *io, unsigned int off)
{
	ublk_bpf_hold(io);
	return QUEUED;
}

SEC("struct_ops/ends_twice")
unsigned long BPF_PROG(ends_twice, struct ublk_bpf_io *io, unsigned int off)
{
	struct ublk_bpf_hold *h = ublk_bpf_hold(io);

	if (h) {
		ublk_bpf_hold_complete(h, 0);
		ublk_bpf_hold_release(h);
	}
	return QUEUED;
}

SEC("struct_ops/null_hold")
unsigned long BPF_PROG(null_hold, struct ublk_bpf_io *io, unsigned int off)
{
	ublk_bpf_hold_complete(ublk_bpf_hold(io), 0);
	return QUEUED;
}

/* An I/O is no hold. */
SEC("struct_ops/io_for_hold")
unsigned long BPF_PROG(io_for_hold, struct ublk_bpf_io *io, unsigned int off)
{
	ublk_bpf_hold_complete((void *)io, 0);
	return QUEUED;
}

SEC("struct_ops.s/sleeps")
unsigned long BPF_PROG(sleeps, struct ublk_bpf_io *io, unsigned int off)
{
	return REDIRECT;
}

SEC("struct_ops.s/release_sleeps")
void BPF_PROG(release_sleeps, struct ublk_bpf_io *io)
{
}

SEC("struct_ops/good")
unsigned long BPF_PROG(good, struct ublk_bpf_io *io, unsigned int off)
{
	return REDIRECT;
}

SEC("struct_ops/good_release")
void BPF_PROG(good_release, struct ublk_bpf_io *io)
{
}

#define REFUSED(name, member) \
	SEC(".struct_ops.link") struct ublk_bpf_ops name##_ops = { member = (void *)name }

REFUSED(write_iod, .queue_io_cmd);
REFUSED(write_io, .queue_io_cmd);
REFUSED(read_null_iod, .queue_io_cmd);
REFUSED(null_io, .queue_io_cmd);
REFUSED(scalar_io, .queue_io_cmd);
REFUSED(other_io, .queue_io_cmd);
REFUSED(read_beyond, .queue_io_cmd);
REFUSED(leaks, .queue_io_cmd);
REFUSED(ends_twice, .queue_io_cmd);
REFUSED(null_hold, .queue_io_cmd);
REFUSED(io_for_hold, .queue_io_cmd);
REFUSED(sleeps, .queue_io_cmd);

SEC(".struct_ops.link")
struct ublk_bpf_ops release_sleeps_ops = {
	.queue_io_cmd	= (void *)good,
	.release_io_cmd	= (void *)release_sleeps,
};

/* Loads, but nothing could ever be asked. */
SEC(".struct_ops.link")
struct ublk_bpf_ops no_queue_ops = {
	.release_io_cmd	= (void *)good_release,
};
