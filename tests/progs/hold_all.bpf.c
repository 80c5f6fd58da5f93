// SPDX-License-Identifier: GPL-2.0
/* Holds every I/O, for ever: the reading of partitions, too. */
#include "abi.h"
#include "kept.h"

extern struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io) __ksym;
extern void ublk_bpf_hold_release(struct ublk_bpf_hold *h) __ksym;

SEC("struct_ops/hold_all_queue")
unsigned long BPF_PROG(hold_all_queue, struct ublk_bpf_io *io, unsigned int off)
{
	__u32 key = ublk_bpf_get_io_tag(io) & 127;
	struct kept *k = bpf_map_lookup_elem(&kept, &key);
	struct ublk_bpf_hold *h;

	if (!k)
		return REDIRECT;
	h = ublk_bpf_hold(io);
	if (!h)
		return REDIRECT;
	h = bpf_kptr_xchg(&k->hold, h);
	if (h)
		ublk_bpf_hold_release(h);
	return QUEUED;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops hold_all_ops = {
	.queue_io_cmd	= (void *)hold_all_queue,
};
