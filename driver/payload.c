// SPDX-License-Identifier: GPL-2.0
/* What an I/O carries, for programs to look at or fill in, and 64 bytes of its own. */
#include <linux/bio.h>
#include <linux/blk-mq.h>
#include <linux/bvec.h>
#include "internal.h"

/* Copy @bytes from byte @off of the request on, or the other way round. */
static void ublk_bpf_copy(const struct request *rq, u32 off, void *mem, u32 bytes, bool to_mem)
{
	u32 skip;
	struct bio *bio = ublk_bpf_bio_at(rq, off, &skip);
	struct bvec_iter iter = bio->bi_iter;

	bvec_iter_advance(bio->bi_io_vec, &iter, skip);
	while (true) {
		struct bio_vec bv = bio_iter_iovec(bio, iter);

		bv.bv_len = min(bv.bv_len, bytes);
		if (to_mem)
			memcpy_from_bvec(mem, &bv);
		else
			memcpy_to_bvec(&bv, mem);
		bytes -= bv.bv_len;
		if (!bytes)
			return;
		mem += bv.bv_len;
		bio_advance_iter_single(bio, &iter, bv.bv_len);
		if (!iter.bi_size) {
			bio = bio->bi_next;
			iter = bio->bi_iter;
		}
	}
}

/* See ublk_bpf_payload_read() and ublk_bpf_payload_write(), which is not @to_mem. */
int ublk_bpf_payload(const struct ublk_bpf_io *io, u32 off, void *mem, u32 bytes, bool to_mem)
{
	const struct ublk_bpf_fwd *fwd = ublk_bpf_io_fwd(io);
	struct ublk_bpf_tag *tag = ublk_bpf_io_tag(io);
	u32 first = fwd ? fwd->range.off : 0;
	u32 end = fwd ? first + fwd->range.bytes : tag->bytes;
	enum req_op op = req_op(tag->rq);

	if ((!fwd && !tag->asking) || off < first || (u64)off + bytes > end)
		return -EINVAL;
	if (op != REQ_OP_READ && !(op == REQ_OP_WRITE && to_mem))
		return -EPERM;
	if (op == REQ_OP_READ && to_mem && !fwd)
		return -EPERM;		/* it has brought nothing yet */
	if (bytes)
		ublk_bpf_copy(tag->rq, off, mem, bytes, to_mem);
	return 0;
}

/* See ublk_bpf_scratch(). Zeroes until the I/O has asked for it. */
u8 *ublk_bpf_io_scratch(struct ublk_bpf_tag *tag, size_t size)
{
	if (size > sizeof(tag->room->scratch))
		return NULL;
	if (!tag->scratched) {
		memset(tag->room->scratch, 0, sizeof(tag->room->scratch));
		tag->scratched = true;
	}
	return tag->room->scratch;
}
