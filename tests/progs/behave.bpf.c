// SPDX-License-Identifier: GPL-2.0
/*
 * Everything a program can do to an I/O, right and wrong, chosen by where the
 * I/O is: see behave.h. What it saw is in the map behaviour, by the same number.
 */
#include "abi.h"
#include "behave.h"
#include "seen.h"

extern __u64 ublk_bpf_get_cookie(const struct ublk_bpf_io *io) __ksym;
extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;

static struct seen *seen_of(__u32 mib)
{
	return bpf_map_lookup_elem(&behaviour, &mib);
}

/* To slot @slot, the same position there. */
static int forward(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off,
		   __u32 bytes, __u32 slot)
{
	return ublk_bpf_forward(io, off, bytes, slot, (iod->start_sector << 9) + off);
}

static void forward_errors(struct ublk_bpf_io *io, __u32 bytes, struct seen *seen)
{
	const __u64 end = 128ULL << 20;		/* of the backing */
	__s64 *v = seen->v;

	v[0] = ublk_bpf_forward(io, 0, bytes + 512, 0, 0);		/* outside */
	v[1] = ublk_bpf_forward(io, 0, 0xfffffe00, 0, 0);
	v[2] = ublk_bpf_forward(io, 0xfffffe00, 0x400, 0, 0);		/* 32 bits overflow */
	v[3] = ublk_bpf_forward(io, 512, 512, 0, 0);			/* a gap */
	v[4] = ublk_bpf_forward(io, 0, 100, 0, 0);			/* unaligned bytes */
	v[5] = ublk_bpf_forward(io, 0, 512, 0, 100);			/* unaligned pos */
	v[6] = ublk_bpf_forward(io, 0, 0, 0, 0);			/* empty */
	v[7] = ublk_bpf_forward(io, 0, 512, 9, 0);			/* empty slot */
	v[8] = ublk_bpf_forward(io, 0, 512, 32, 0);			/* no such slot */
	v[9] = ublk_bpf_forward(io, 0, 512, 0xffffffff, 0);
	v[10] = ublk_bpf_forward(io, 0, 512, 0, end);			/* past the backing */
	v[11] = ublk_bpf_forward(io, 0, bytes, 0, end - 512);		/* partly past it */
	v[12] = ublk_bpf_forward(io, 0, 512, 0, ~511ULL);		/* 64 bits overflow */
}

static void forward_unordered(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod,
			      __u32 bytes, struct seen *seen)
{
	__s64 *v = seen->v;

	v[0] = forward(io, iod, 0, 4096, 0);
	v[1] = forward(io, iod, 2048, bytes - 2048, 0);	/* overlaps: allowed */
	v[2] = forward(io, iod, 0, 512, 0);		/* back */
	v[3] = forward(io, iod, 1536, 512, 0);
	v[4] = forward(io, iod, 2048, 512, 0);		/* the same again: allowed */
}

static __always_inline unsigned long
forward_pieces(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off, __u32 bytes,
	       __u32 slot, struct seen *seen)
{
	__u32 at = off;
	int i, err;

	for (i = 0; i < 20; i++) {
		if (at >= bytes)
			break;
		err = forward(io, iod, at, 512, slot);
		if (i == 16)
			seen->v[0] = err;
		if (err)
			break;
		at += 512;
	}
	return CONTINUE | (at - off);
}

static unsigned long forward_odd(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod,
				 __u32 bytes, struct seen *seen)
{
	if (bytes > seen->v[0])
		seen->v[0] = bytes;
	if (bytes <= 1536) {
		forward(io, iod, 0, bytes, 0);
		return QUEUED;
	}
	forward(io, iod, 0, 1536, 0);
	if (bytes <= 1536 + 6144) {
		forward(io, iod, 1536, bytes - 1536, 0);
		return QUEUED;
	}
	forward(io, iod, 1536, 6144, 0);
	forward(io, iod, 1536 + 6144, bytes - 1536 - 6144, 0);
	return QUEUED;
}

/* The first 4096 bytes of the MiB. */
static int at_start(const struct ublksrv_io_desc *iod, __u32 off)
{
	return (iod->start_sector & 2047) == 0 && off == 0;
}

static unsigned long again(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off,
			   __u32 mib, __s64 nth, struct seen *seen)
{
	__u32 bytes = io_bytes(iod);

	if (nth == 0)
		return REDIRECT;
	switch (mib) {
	case AGAIN_COMPLETE:
		ublk_bpf_complete_io(io, bytes);
		return QUEUED;
	case AGAIN_FORWARD:
		forward(io, iod, 0, bytes, 0);
		return QUEUED;
	case AGAIN_WRONG:
		return CONTINUE;
	case AGAIN_PIECES ... AGAIN_PIECES + 3:
		return forward_pieces(io, iod, off, bytes, 1, seen);
	case AGAIN_PART:
		/* first 4096; REDIRECT; the rest: REDIRECT; again: forwarded */
		if (nth == 1) {
			forward(io, iod, 0, 4096, 0);
			return CONTINUE | 4096;
		}
		if (nth < 4)
			return REDIRECT;
		forward(io, iod, 0, bytes, 0);
		return QUEUED;
	default:
		return REDIRECT;
	}
}

/* Part of the kernel's: how often the task was preempted. */
struct task_struct {
	unsigned long nivcsw;
} __attribute__((preserve_access_index));

/* Time for another task to come in between. */
static void busy(struct seen *seen)
{
	struct task_struct *task = bpf_get_current_task_btf();
	unsigned long before = task->nivcsw;
	int i;

	bpf_for(i, 0, 1 << 14)
		seen->v[1] += i;
	seen->v[0] += task->nivcsw - before;
}

SEC("struct_ops/behave_queue")
unsigned long BPF_PROG(behave_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	__u32 bytes, mib;
	struct seen *seen;
	__s64 nth;

	if (!iod)
		return QUEUED;
	bytes = io_bytes(iod);
	mib = iod->start_sector >> 11;
	seen = seen_of(mib);
	if (!seen)
		goto complete;
	nth = seen->asked++;
	seen->order = seen->order * 10 + 1;
	seen->cookie = ublk_bpf_get_cookie(io);

	switch (mib) {
	case COMPLETE_HALF:
		ublk_bpf_complete_io(io, bytes > 4096 ? bytes / 2 : bytes);
		return QUEUED;
	case COMPLETE_ZERO:
		ublk_bpf_complete_io(io, 0);
		return QUEUED;
	case COMPLETE_MORE:
		ublk_bpf_complete_io(io, bytes + 4096);
		return QUEUED;
	case COMPLETE_ODD:
		ublk_bpf_complete_io(io, bytes > 512 ? 1000 : bytes);
		return QUEUED;
	case COMPLETE_EIO:
		ublk_bpf_complete_io(io, -EIO);
		return QUEUED;
	case COMPLETE_ENOSPC:
		ublk_bpf_complete_io(io, -ENOSPC);
		return QUEUED;
	case COMPLETE_EAGAIN:
		ublk_bpf_complete_io(io, -EAGAIN);
		return QUEUED;
	case COMPLETE_LOWEST:
		ublk_bpf_complete_io(io, -0x7fffffff - 1);
		return QUEUED;
	case COMPLETE_TWICE:
		ublk_bpf_complete_io(io, bytes);
		ublk_bpf_complete_io(io, -EIO);
		return QUEUED;
	case COMPLETE_REDIRECT:
		ublk_bpf_complete_io(io, bytes);
		return REDIRECT;
	case COMPLETE_CONTINUE_0:
		ublk_bpf_complete_io(io, bytes);
		return CONTINUE;
	case COMPLETE_FORWARD:
		ublk_bpf_complete_io(io, bytes);
		seen->v[0] = forward(io, iod, 0, bytes, 0);
		return QUEUED;

	case NEVER:
		return QUEUED;
	case CONTINUE_0:
		return CONTINUE;
	case CONTINUE_513:
		return CONTINUE | 513;
	case CONTINUE_MORE:
		return CONTINUE | (bytes - off + 512);
	case CONTINUE_64BIT:
		return CONTINUE | ((1UL << 32) + 512);
	case CONTINUE_512:
		return CONTINUE | 512;
	case UNKNOWN:
		return 7UL << 60 | 512;
	case NEGATIVE:
		return -EIO;
	case REDIRECT_ALL:
		return REDIRECT;

	case FORWARD:
		seen->v[0] = iod->op_flags;
		forward(io, iod, off, bytes - off, 0);
		return QUEUED;
	case BUSY:
		busy(seen);
		forward(io, iod, 0, bytes, 0);
		return QUEUED;
	case FORWARD_MIRROR:
		forward(io, iod, 0, bytes, 0);
		forward(io, iod, 0, bytes, 1);
		return QUEUED;
	case FORWARD_STEPS:
		forward(io, iod, off, 512, 0);
		return CONTINUE | 512;
	case FORWARD_PIECES:
		return forward_pieces(io, iod, off, bytes, 0, seen);
	case FORWARD_ODD:
		return forward_odd(io, iod, bytes, seen);
	case FORWARD_COMPLETE:
		forward(io, iod, 0, bytes, 0);
		ublk_bpf_complete_io(io, -EIO);
		return QUEUED;
	case FORWARD_REDIRECT:
		forward(io, iod, 0, bytes, 1);
		return REDIRECT;
	case FORWARD_WRONG:
		forward(io, iod, 0, bytes, 0);
		return CONTINUE;
	case FORWARD_4096:
		if (!at_start(iod, off))
			return REDIRECT;
		forward(io, iod, 0, 4096, 1);
		return CONTINUE | 4096;
	case SPLIT:
		if (iod->start_sector % 3 == 2) {
			forward(io, iod, 0, bytes, 0);
			return QUEUED;
		}
		if (iod->start_sector % 3 == 1 || off)
			return REDIRECT;
		forward(io, iod, 0, 512, 0);
		return CONTINUE | 512;
	case FORWARD_THEN_WRONG:
		if (off)
			return CONTINUE;
		forward(io, iod, 0, 4096, 0);
		return CONTINUE | 4096;
	case FORWARD_PART:
		forward(io, iod, 0, 4096, 0);
		return QUEUED;
	case FORWARD_ERRORS:
		forward_errors(io, bytes, seen);
		goto complete;
	case FORWARD_UNORDERED:
		forward_unordered(io, iod, bytes, seen);
		return QUEUED;
	case FORWARD_SLOT_2:
		seen->v[0] = forward(io, iod, 0, bytes, 2);
		if (seen->v[0])
			goto complete;
		return QUEUED;
	case FORWARD_ANY:
		seen->v[0] = forward(io, iod, 0, bytes, 0);
		if (seen->v[0])
			ublk_bpf_complete_io(io, seen->v[0]);
		return QUEUED;

	case DAEMON:
	case DAEMON_FORWARD:
	case DAEMON_WRONG:
	case DAEMON_PART:
		return REDIRECT;

	case AGAIN_COMPLETE:
	case AGAIN_REDIRECT:
	case AGAIN_FORWARD:
	case AGAIN_PART:
	case AGAIN_WRONG:
	case AGAIN_PIECES ... AGAIN_PIECES + 3:
		return again(io, iod, off, mib, nth, seen);
	}
complete:
	ublk_bpf_complete_io(io, bytes);
	return QUEUED;
}

SEC("struct_ops.s/behave_daemon")
unsigned long BPF_PROG(behave_daemon, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct seen *seen;
	__u32 bytes, mib;

	if (!iod)
		return REDIRECT;
	bytes = io_bytes(iod);
	mib = iod->start_sector >> 11;
	seen = seen_of(mib);
	if (!seen)
		return REDIRECT;
	seen->daemon++;
	seen->order = seen->order * 10 + 2;

	switch (mib) {
	case DAEMON:
		ublk_bpf_complete_io(io, bytes);
		return QUEUED;
	case DAEMON_FORWARD:
		forward(io, iod, 0, bytes, 0);
		return QUEUED;
	case DAEMON_WRONG:
		return CONTINUE | 1;
	case DAEMON_PART:
		if (!at_start(iod, off))
			return REDIRECT;
		forward(io, iod, 0, 4096, 1);
		return CONTINUE | 4096;
	default:
		return REDIRECT;
	}
}

SEC("struct_ops/behave_release")
void BPF_PROG(behave_release, struct ublk_bpf_io *io)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct seen *seen;
	__u32 mib;

	if (!iod)
		return;
	mib = iod->start_sector >> 11;
	seen = seen_of(mib);
	if (!seen)
		return;
	__sync_fetch_and_add(&seen->released, 1);
	seen->order = seen->order * 10 + 3;
	if (mib == FORWARD_RELEASE)
		seen->v[0] = forward(io, iod, 0, io_bytes(iod), 0);
	if (mib == RELEASE_COMPLETE)
		ublk_bpf_complete_io(io, -EIO);
}

SEC(".struct_ops.link")
struct ublk_bpf_ops behave_ops = {
	.queue_io_cmd		= (void *)behave_queue,
	.queue_io_cmd_daemon	= (void *)behave_daemon,
	.release_io_cmd		= (void *)behave_release,
};

/* For where the daemon callback would only be in the way. */
SEC(".struct_ops.link")
struct ublk_bpf_ops queue_only_ops = {
	.queue_io_cmd		= (void *)behave_queue,
	.release_io_cmd		= (void *)behave_release,
};
