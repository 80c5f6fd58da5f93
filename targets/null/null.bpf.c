// SPDX-License-Identifier: GPL-2.0
/*
 * null: throws writes away, reads whatever is in memory. What is left of an I/O
 * when nothing is done with it: the floor that other programs are measured
 * against, and the smallest program there can be.
 *
 * With a delay each I/O is held for that long, and completed by a timer; a share
 * of them can fail. Both are constants at load time: the verifier leaves out what
 * is not asked for.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"
#include "null.h"

#define CLOCK_MONOTONIC	1
#define EIO		5

const volatile __u64 delay;		/* ns */
const volatile __u64 error_rate;	/* parts of 2^32 */
const volatile __u32 depth = 1;		/* tags of a queue */

struct delayed {
	struct bpf_timer timer;
	struct ublk_bpf_hold __kptr *hold;
	int res;
};

/* By queue and tag; the server makes it as large as the device. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct delayed);
} delayed SEC(".maps");

static int complete_delayed(void *map, __u32 *key, struct delayed *d)
{
	struct ublk_bpf_hold *h = bpf_kptr_xchg(&d->hold, NULL);

	if (h)
		ublk_bpf_hold_complete(h, d->res);
	return 0;
}

/* Hold the I/O until its time has come. Return: false: it could not be. */
static bool delay_io(struct ublk_bpf_io *io, int res)
{
	__u32 key = ublk_bpf_get_queue_id(io) * depth + ublk_bpf_get_io_tag(io);
	struct delayed *d = bpf_map_lookup_elem(&delayed, &key);
	struct ublk_bpf_hold *h;

	if (!d)
		return false;
	h = ublk_bpf_hold(io);
	if (!h)
		return false;
	d->res = res;
	h = bpf_kptr_xchg(&d->hold, h);
	if (h)
		ublk_bpf_hold_release(h);	/* of an I/O that was taken away */
	bpf_timer_init(&d->timer, &delayed, CLOCK_MONOTONIC);	/* once; -EBUSY then */
	bpf_timer_set_callback(&d->timer, complete_delayed);
	if (!bpf_timer_start(&d->timer, delay, 0))
		return true;
	complete_delayed(NULL, NULL, d);
	return true;
}

unsigned long UBLK_BPF_STRUCT_OPS(null_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	int res;

	if (!iod)
		return ublk_bpf_return_val(UBLK_BPF_IO_QUEUED, 0);
	res = null_result(iod->op_flags, iod->nr_sectors);
	if (error_rate && bpf_get_prandom_u32() < error_rate)
		res = -EIO;
	if (!delay || !delay_io(io, res))
		ublk_bpf_complete_io(io, res);
	return ublk_bpf_return_val(UBLK_BPF_IO_QUEUED, 0);
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(null_ops,
	.queue_io_cmd	= (void *)null_queue_io_cmd,
);
