// SPDX-License-Identifier: GPL-2.0
/*
 * Holds, kept in a map and finished by a BPF timer, by another I/O, by a SYSCALL
 * program, by the map: see hold.h.
 */
#include "abi.h"
#include "hold.h"
#include "kept.h"
#include "seen.h"

#define CLOCK_MONOTONIC	1
#define ENOENT		2
#define NSEC_PER_MSEC	1000000ULL

extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;
extern struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io) __ksym;
extern void ublk_bpf_hold_complete(struct ublk_bpf_hold *h, int res) __ksym;
extern int ublk_bpf_hold_forward(struct ublk_bpf_hold *h, __u32 off, __u32 bytes, __u32 slot,
				 __u64 pos) __ksym;
extern void ublk_bpf_hold_release(struct ublk_bpf_hold *h) __ksym;

static void put(__u32 key, struct ublk_bpf_hold *h, __s64 res)
{
	struct kept *k = bpf_map_lookup_elem(&kept, &key);

	if (k) {
		k->res = res;
		h = bpf_kptr_xchg(&k->hold, h);
	}
	if (h)
		ublk_bpf_hold_release(h);
}

static struct ublk_bpf_hold *get(__u32 key, __s64 *res)
{
	struct kept *k = bpf_map_lookup_elem(&kept, &key);

	if (!k)
		return NULL;
	*res = k->res;
	return bpf_kptr_xchg(&k->hold, NULL);
}

static int fire(void *map, __u32 *key, struct kept *k)
{
	struct ublk_bpf_hold *h = bpf_kptr_xchg(&k->hold, NULL);

	if (!h)
		return 0;
	if (*key < FIRST_BLOCK) {
		ublk_bpf_hold_complete(h, k->res);
		return 0;
	}
	ublk_bpf_hold_forward(h, 0, k->res, 0,
			      ((__u64)HOLD_SEND << 20) + (*key - FIRST_BLOCK) * 4096);
	ublk_bpf_hold_release(h);
	return 0;
}

static void start_timer(__u32 key)
{
	struct kept *k = bpf_map_lookup_elem(&kept, &key);

	if (!k)
		return;
	bpf_timer_init(&k->timer, &kept, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&k->timer, fire);
	bpf_timer_start(&k->timer, 50 * NSEC_PER_MSEC, 0);
}

static __u32 block_key(const struct ublksrv_io_desc *iod, int next)
{
	return FIRST_BLOCK + (((iod->start_sector >> 3) + next) & (NR_BLOCKS - 1));
}

/* What is to be done without a hold. */
static unsigned long other(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod,
			   unsigned int off, __u32 mib, struct seen *seen, __s64 nth)
{
	__u32 bytes = io_bytes(iod);
	struct ublk_bpf_hold *h;
	__s64 res;

	switch (mib) {
	case HOLD_FINISH:
		h = get(HOLD_KEEP, &res);
		seen->v[0] = !!h;
		if (h)
			ublk_bpf_hold_complete(h, res);
		break;
	case HOLD_LET_GO:
		if (nth < 3)
			return ~0UL;
		break;
	case HOLD_PART:
		if (iod->start_sector & 2047) {
			seen->v[1]++;
			ublk_bpf_forward(io, 0, bytes, 0, iod->start_sector << 9);
			return QUEUED;
		}
		if (off)
			return ~0UL;
		ublk_bpf_forward(io, 0, 4096, 0, iod->start_sector << 9);
		return CONTINUE | 4096;
	case HOLD_LEGS:
		ublk_bpf_forward(io, 0, bytes, 0, iod->start_sector << 9);
		return ~0UL;
	case HOLD_DAEMON:
		return REDIRECT;
	case HOLD_AGAIN:
		return nth == 1 ? ~0UL : REDIRECT;
	case HOLD_STEP_REDIRECT:
		return off ? REDIRECT : ~0UL;
	case HOLD_LEG_REDIRECT:
		if (off)
			return ~0UL;
		ublk_bpf_forward(io, 0, 4096, 0, iod->start_sector << 9);
		return CONTINUE | 4096;
	case HOLD_COMPLETED:
		ublk_bpf_complete_io(io, bytes);
		return ~0UL;
	case HOLD_TIMER:
	case HOLD_TIMER_ENOSPC:
	case HOLD_TIMER_HALF:
	case HOLD_KEEP:
	case HOLD_NOW:
	case HOLD_TWICE:
	case HOLD_BOTH:
	case HOLD_LET_GO_EVER:
	case HOLD_LET_GO_REDIRECT:
	case HOLD_KEEP_REDIRECT:
	case HOLD_KEEP_WRONG:
	case HOLD_NOW_REDIRECT:
	case HOLD_SENT_REDIRECT:
	case HOLD_CHAIN:
	case HOLD_SEND:
		return ~0UL;
	}
	ublk_bpf_complete_io(io, bytes);
	return QUEUED;
}

SEC("struct_ops/hold_queue")
unsigned long BPF_PROG(hold_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct ublk_bpf_hold *h, *second;
	struct seen *seen;
	unsigned long ret;
	__u32 bytes, mib;
	__s64 nth;

	if (!iod)
		return QUEUED;
	bytes = io_bytes(iod);
	mib = (iod->op_flags & 0xff) == OP_FLUSH ? HOLD_TIMER : iod->start_sector >> 11;
	seen = bpf_map_lookup_elem(&behaviour, &mib);
	if (!seen) {
		ublk_bpf_complete_io(io, bytes);
		return QUEUED;
	}
	nth = seen->asked++;
	seen->order = seen->order * 10 + 1;
	ret = other(io, iod, off, mib, seen, nth);
	if (ret != ~0UL)
		return ret;

	h = ublk_bpf_hold(io);
	if (mib == HOLD_KEEP)
		seen->v[0] += !h;
	if (mib == HOLD_COMPLETED)
		seen->v[0] = !!h;
	if (!h) {
		if (mib != HOLD_COMPLETED)
			ublk_bpf_complete_io(io, -ENOSPC);
		return QUEUED;
	}

	switch (mib) {
	case HOLD_TIMER:
		put(mib, h, bytes);
		start_timer(mib);
		return QUEUED;
	case HOLD_TIMER_ENOSPC:
		put(mib, h, -ENOSPC);
		start_timer(mib);
		return QUEUED;
	case HOLD_TIMER_HALF:
		put(mib, h, bytes > 4096 ? bytes / 2 : bytes);
		start_timer(mib);
		return QUEUED;
	case HOLD_KEEP:
		put(mib, h, bytes);
		seen->v[1]++;
		return QUEUED;
	case HOLD_PART:
	case HOLD_AGAIN:
		put(mib, h, bytes);
		return QUEUED;
	case HOLD_LEGS:
		ublk_bpf_hold_forward(h, 0, bytes, 1, iod->start_sector << 9);
		put(mib, h, bytes);
		return QUEUED;
	case HOLD_CHAIN:
		put(block_key(iod, 0), h, bytes);
		return QUEUED;
	case HOLD_SEND:
		put(block_key(iod, 0), h, bytes);
		start_timer(block_key(iod, 0));
		return QUEUED;
	case HOLD_TWICE:
		second = ublk_bpf_hold(io);
		seen->v[0] = !!second;
		if (second)
			ublk_bpf_hold_release(second);
		break;
	case HOLD_BOTH:
		ublk_bpf_complete_io(io, -EIO);
		seen->v[0] = ublk_bpf_forward(io, 0, bytes, 0, 0);
		break;
	case HOLD_LET_GO:
	case HOLD_LET_GO_EVER:
		ublk_bpf_hold_release(h);
		return QUEUED;
	case HOLD_LET_GO_REDIRECT:
		ublk_bpf_hold_release(h);
		return REDIRECT;
	case HOLD_KEEP_REDIRECT:
		put(mib, h, bytes);
		return REDIRECT;
	case HOLD_STEP_REDIRECT:
		put(mib, h, bytes);
		return CONTINUE | 4096;
	case HOLD_LEG_REDIRECT:
		ublk_bpf_hold_forward(h, 0, 4096, 1, iod->start_sector << 9);
		put(mib, h, bytes);
		return REDIRECT;
	case HOLD_SENT_REDIRECT:
		ublk_bpf_hold_forward(h, 0, bytes, 0, iod->start_sector << 9);
		ublk_bpf_hold_release(h);
		return REDIRECT;
	case HOLD_KEEP_WRONG:
		put(mib, h, bytes);
		return CONTINUE | 1;
	case HOLD_NOW_REDIRECT:
		ublk_bpf_hold_complete(h, bytes);
		return REDIRECT;
	}
	ublk_bpf_hold_complete(h, bytes);
	return QUEUED;
}

SEC("struct_ops/hold_daemon")
unsigned long BPF_PROG(hold_daemon, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct ublk_bpf_hold *h;
	struct seen *seen;
	__u32 mib;

	if (!iod)
		return REDIRECT;
	mib = iod->start_sector >> 11;
	seen = bpf_map_lookup_elem(&behaviour, &mib);
	if (!seen)
		return REDIRECT;
	seen->order = seen->order * 10 + 2;
	if (mib != HOLD_DAEMON)
		return REDIRECT;
	h = ublk_bpf_hold(io);
	if (!h)
		return REDIRECT;
	put(mib, h, io_bytes(iod));
	return QUEUED;
}

SEC("struct_ops/hold_released")
void BPF_PROG(hold_released, struct ublk_bpf_io *io)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct ublk_bpf_hold *h;
	struct seen *seen;
	__s64 res;
	__u32 mib;

	if (!iod)
		return;
	mib = iod->start_sector >> 11;
	seen = bpf_map_lookup_elem(&behaviour, &mib);
	if (!seen)
		return;
	__sync_fetch_and_add(&seen->released, 1);
	seen->order = seen->order * 10 + 3;
	if (mib == HOLD_IN_RELEASE) {
		h = ublk_bpf_hold(io);
		seen->v[0] = !!h;
		if (h)
			ublk_bpf_hold_release(h);
	}
	if (mib == HOLD_CHAIN) {
		h = get(block_key(iod, 1), &res);
		if (h)
			ublk_bpf_hold_complete(h, res);
	}
}

SEC("syscall")
int act(struct act_args *args)
{
	struct ublk_bpf_hold *h;
	__s64 res;
	int err;

	h = get(args->key, &res);
	if (!h)
		return -ENOENT;
	switch (args->act) {
	case ACT_RELEASE:
		break;
	case ACT_FORWARD:
		err = ublk_bpf_hold_forward(h, args->off, args->bytes, args->slot, args->pos);
		ublk_bpf_hold_release(h);
		return err;
	case ACT_FORWARD_KEEP:
		err = ublk_bpf_hold_forward(h, args->off, args->bytes, args->slot, args->pos);
		put(args->key, h, res);
		return err;
	case ACT_FORWARD_COMPLETE:
		err = ublk_bpf_hold_forward(h, args->off, args->bytes, args->slot, args->pos);
		ublk_bpf_hold_complete(h, args->res);
		return err;
	default:
		ublk_bpf_hold_complete(h, args->res);
		return 0;
	}
	ublk_bpf_hold_release(h);
	return 0;
}

SEC(".struct_ops.link")
struct ublk_bpf_ops hold_ops = {
	.queue_io_cmd		= (void *)hold_queue,
	.queue_io_cmd_daemon	= (void *)hold_daemon,
	.release_io_cmd		= (void *)hold_released,
};

/* Without a release_io_cmd, and a server that is asked at once. */
SEC(".struct_ops.link")
struct ublk_bpf_ops hold_only_ops = {
	.queue_io_cmd		= (void *)hold_queue,
};
