// SPDX-License-Identifier: GPL-2.0
/* What io_done can say and do, and the payload: see done.h. */
#include <stddef.h>
#include "abi.h"
#include "done.h"
#include "seen.h"

#define RETRY	1
#define IGNORE	2
#define SERVER	3

struct ublk_bpf_hold {
} __attribute__((preserve_access_index));

extern int ublk_bpf_forward(struct ublk_bpf_io *io, __u32 off, __u32 bytes, __u32 slot,
			    __u64 pos) __ksym;
extern struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io) __ksym;
extern void ublk_bpf_hold_release(struct ublk_bpf_hold *h) __ksym;
extern int ublk_bpf_payload_read(struct ublk_bpf_io *io, __u32 off, void *dst,
				 __u32 dst__sz) __ksym;
extern int ublk_bpf_payload_write(struct ublk_bpf_io *io, __u32 off, const void *src,
				  __u32 src__sz) __ksym;
extern __u8 *ublk_bpf_scratch(struct ublk_bpf_io *io, const __u64 rdwr_buf_size) __ksym;

static int forward(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off,
		   __u32 bytes, __u32 slot)
{
	return ublk_bpf_forward(io, off, bytes, slot, (iod->start_sector << 9) + off);
}

SEC("struct_ops/done_queue")
unsigned long BPF_PROG(done_queue, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	__u32 bytes, mib, slot = 0;
	struct seen *seen;
	__u64 word = 0;
	__u8 *scratch;
	int err;

	if (!iod)
		return QUEUED;
	bytes = io_bytes(iod);
	mib = iod->start_sector >> 11;
	seen = bpf_map_lookup_elem(&behaviour, &mib);
	if (!seen || mib < 16) {
		ublk_bpf_complete_io(io, bytes);
		return QUEUED;
	}
	seen->asked++;
	seen->order = seen->order * 10 + 1;
	switch (mib) {
	case DONE_IGNORE:
	case DONE_RETRY:
	case DONE_RETRY_EVER:
	case DONE_RETRY_NOTHING:
		slot = 2;
		break;
	case DONE_TWO_RANGES:
		forward(io, iod, 0, 4096, 0);
		err = forward(io, iod, 4096, bytes - 4096, 1);
		if (err)
			ublk_bpf_complete_io(io, err);
		return QUEUED;
	case DONE_EARLY:
		seen->v[0] = ublk_bpf_payload_read(io, 0, &word, sizeof(word));
		seen->v[1] = ublk_bpf_payload_write(io, 0, &word, sizeof(word));
		break;
	case DONE_SCRATCH:
		scratch = ublk_bpf_scratch(io, 64);
		if (scratch) {
			__sync_fetch_and_add(&seen->v[2], scratch[62] || scratch[63]);
			scratch[62] = iod->start_sector >> 3;
			scratch[63] = 42;
		}
		seen->v[1] = !!ublk_bpf_scratch(io, 65);
		break;
	}
	err = forward(io, iod, 0, bytes, slot);
	if (err)
		ublk_bpf_complete_io(io, err);
	return QUEUED;
}

static int payload(struct ublk_bpf_io *io, unsigned int off, unsigned int bytes,
		   struct seen *seen)
{
	__u64 word = 0;

	ublk_bpf_payload_read(io, off, &word, sizeof(word));
	seen->v[0] = word;
	seen->v[1] = ublk_bpf_payload_write(io, off, &word, sizeof(word));
	seen->v[2] = ublk_bpf_payload_read(io, off + bytes - 4, &word, sizeof(word));
	seen->v[3] = ublk_bpf_payload_read(io, ~0U - 3, &word, sizeof(word));
	return 0;
}

SEC("struct_ops/done_done")
int BPF_PROG(done_done, struct ublk_bpf_io *io, unsigned int slot, unsigned int off,
	     unsigned int bytes, int res)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct ublk_bpf_hold *h;
	__u8 fill[64], *scratch;
	struct seen *seen;
	__u32 mib;

	if (!iod)
		return 0;
	mib = iod->start_sector >> 11;
	seen = bpf_map_lookup_elem(&behaviour, &mib);
	if (!seen)
		return 0;
	seen->order = seen->order * 10 + 4;
	switch (mib) {
	case DONE_AS_IT_IS:
		seen->v[0] = slot;
		seen->v[1] = off;
		seen->v[2] = bytes;
		seen->v[3] = res;
		return 0;
	case DONE_ERROR:
		return -ENOSPC;
	case DONE_IGNORE:
		return IGNORE;
	case DONE_RETRY:
		if (res >= 0)
			return 0;
		forward(io, iod, off, bytes, 1);
		return RETRY;
	case DONE_RETRY_NOTHING:
		return RETRY;
	case DONE_RETRY_SAME:
		if (res >= 0)
			return 0;
		forward(io, iod, off, bytes, slot);
		return RETRY;
	case DONE_RETRY_EVER:
		seen->v[0]++;
		forward(io, iod, off, bytes, 2);
		return RETRY;
	case DONE_RANGE_AND_0:
		forward(io, iod, off, bytes, 1);
		return 0;
	case DONE_WRONG_RANGES:
		seen->v[0] = forward(io, iod, off, bytes - 512, 1);
		seen->v[1] = forward(io, iod, off + 512, bytes, 1);
		seen->v[2] = forward(io, iod, off, bytes, 9);
		forward(io, iod, off, bytes, 1);
		seen->v[3] = forward(io, iod, off, bytes, 1);
		return 0;
	case DONE_SERVER:
	case DONE_SERVER_EVER:
		return SERVER;
	case DONE_UNKNOWN:
		return 7;
	case DONE_COMPLETE:
		ublk_bpf_complete_io(io, -EIO);
		return 0;
	case DONE_HOLD:
		h = ublk_bpf_hold(io);
		seen->v[0] = !!h;
		if (h)
			ublk_bpf_hold_release(h);
		return 0;
	case DONE_FILL:
		__builtin_memset(fill, 0x5a, sizeof(fill));
		for (int i = 0; i < 512; i += sizeof(fill))
			seen->v[0] = ublk_bpf_payload_write(io, off + i, fill, sizeof(fill));
		return 0;
	case DONE_LOOK:
		return payload(io, off, bytes, seen);
	case DONE_TWO_RANGES:
		__sync_fetch_and_add(&seen->v[0], 1);
		return 0;
	case DONE_SCRATCH:
		scratch = ublk_bpf_scratch(io, 64);
		if (scratch) {
			seen->v[0] = scratch[63];
			__sync_fetch_and_add(&seen->v[3], scratch[62] != (__u8)(iod->start_sector >> 3));
		}
		return 0;
	}
	return 0;
}

SEC("struct_ops/done_release")
void BPF_PROG(done_release, struct ublk_bpf_io *io)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	struct seen *seen;
	__u64 word;
	__u32 mib;

	if (!iod)
		return;
	mib = iod->start_sector >> 11;
	seen = bpf_map_lookup_elem(&behaviour, &mib);
	if (!seen || mib != DONE_RELEASE)
		return;
	seen->order = seen->order * 10 + 3;
	seen->v[0] = ublk_bpf_payload_read(io, 0, &word, sizeof(word));
}

/* The proposal's, and ours after it. */
struct ublk_bpf_ops___done {
	unsigned int id;
	unsigned long (*queue_io_cmd)(struct ublk_bpf_io *io, unsigned int off);
	void (*release_io_cmd)(struct ublk_bpf_io *io);
	int (*io_done)(struct ublk_bpf_io *io, unsigned int slot, unsigned int off,
		       unsigned int bytes, int res);
};

SEC(".struct_ops.link")
struct ublk_bpf_ops___done done_ops = {
	.queue_io_cmd	= (void *)done_queue,
	.release_io_cmd	= (void *)done_release,
	.io_done	= (void *)done_done,
};
