// SPDX-License-Identifier: GPL-2.0
/*
 * Forwarding: what a program asks for. A range is checked and written down when the program
 * names it, with a reference of its backing; forward.c sends it when the callback is over.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/fs.h>
#include "internal.h"

/* The backing of a slot: one for all I/Os of a list is looked up once. */
static __always_inline struct ublk_bpf_backing *
ublk_bpf_batch_backing(struct ublk_bpf_dev *dev, struct ublk_bpf_batch *batch, u32 slot)
{
	struct ublk_bpf_backing *backing;

	if (batch && batch->refs && batch->slot == slot) {
		batch->refs--;
		return batch->backing;
	}
	backing = ublk_bpf_backing_tryget(dev, slot);
	if (!backing || !batch)
		return backing;
	if (backing->issue_sleeps)
		batch->keep = false;
	if (batch->keep && !batch->refs) {
		batch->backing = backing;
		batch->slot = slot;
		batch->refs = UBLK_BPF_MAX_NR_IOS;
		percpu_ref_get_many(&backing->ref, batch->refs);
	}
	return backing;
}

/*
 * Check a range of an I/O, see ublk_bpf_forward(), and get its backing. Context: any;
 * the I/O cannot end.
 */
static __always_inline int ublk_bpf_make_range(struct ublk_bpf_tag *tag,
					       struct ublk_bpf_batch *batch,
					       struct ublk_bpf_range *range, u32 off,
					       u32 bytes, u32 slot, u64 pos)
{
	enum req_op op = req_op(tag->rq);
	struct ublk_bpf_backing *backing;
	u64 size;
	int err;

	if ((u64)off + bytes > tag->bytes || (!bytes && op != REQ_OP_FLUSH))
		return -EINVAL;
	if (!bytes)
		pos = 0;	/* of a flush, which starts at sector -1 */
	backing = ublk_bpf_batch_backing(tag->q->dev, batch, slot);
	if (!backing)
		return -ENOENT;

	err = -EBADF;
	if (!backing->writable && op_is_write(op))
		goto put;
	err = -EOPNOTSUPP;
	if (!backing->can_discard && op == REQ_OP_DISCARD)
		goto put;
	err = -EINVAL;
	if ((off | bytes | pos) & (backing->block - 1))
		goto put;
	size = backing->bdev ? bdev_nr_bytes(backing->bdev) :
			       file_inode(backing->file)->i_sb->s_maxbytes;
	if (pos > size || bytes > size - pos) {
		/* a disk that is gone has no size */
		if (backing->bdev && !size)
			err = -ENODEV;
		goto put;
	}

	*range = (struct ublk_bpf_range){
		.backing	= backing,
		.pos		= pos,
		.off		= off,
		.bytes		= bytes,
		.slot		= slot,
	};
	return 0;
put:
	percpu_ref_put(&backing->ref);
	return err;
}

/*
 * Record a range. @batch: the list that its I/O comes with, when that is the caller's, or
 * NULL. Context: as above, and @rec and @ranges are the caller's alone.
 */
int ublk_bpf_record(struct ublk_bpf_tag *tag, struct ublk_bpf_batch *batch,
		    struct ublk_bpf_record *rec, struct ublk_bpf_range *ranges, u32 off, u32 bytes,
		    u32 slot, u64 pos)
{
	int err;

	if (rec->nr == UBLK_BPF_MAX_RANGES)
		return -ENOSPC;
	if (off < rec->last_off || off > rec->covered)
		return -EINVAL;
	err = ublk_bpf_make_range(tag, batch, &ranges[rec->nr], off, bytes, slot, pos);
	if (err)
		return err;
	rec->nr++;
	rec->last_off = off;
	rec->covered = max(rec->covered, off + bytes);
	return 0;
}

/* The range that replaces the one that io_done is told of. Context: io_done. */
int ublk_bpf_record_retry(struct ublk_bpf_fwd *fwd, u32 off, u32 bytes, u32 slot, u64 pos)
{
	if (fwd->retry.backing)
		return -ENOSPC;
	if (off != fwd->range.off || bytes != fwd->range.bytes)
		return -EINVAL;
	return ublk_bpf_make_range(fwd->tag, NULL, &fwd->retry, off, bytes, slot, pos);
}

/* The same for the run of the callbacks. Context: a queue callback. */
int ublk_bpf_record_io(struct ublk_bpf_tag *tag, u32 off, u32 bytes, u32 slot, u64 pos)
{
	int err;

	if (!tag->asking)
		return -EINVAL;
	if (tag->io.flags & (BIT(UBLK_BPF_IO_F_COMPLETED) | BIT(UBLK_BPF_IO_F_HELD))) {
		ublk_bpf_misused(tag, "forwarded an I/O that it had completed or held");
		return -EINVAL;
	}
	err = ublk_bpf_record(tag, READ_ONCE(tag->batch), &tag->rec, tag->room->ranges, off, bytes,
			      slot, pos);
	if (!err)
		__set_bit(UBLK_BPF_IO_F_RANGES, &tag->io.flags);
	return err;
}

void ublk_bpf_drop_record(struct ublk_bpf_record *rec, const struct ublk_bpf_range *ranges)
{
	while (rec->nr)
		percpu_ref_put(&ranges[--rec->nr].backing->ref);
}

/* Forget what the last call recorded. */
void ublk_bpf_drop_ranges(struct ublk_bpf_tag *tag)
{
	ublk_bpf_drop_record(&tag->rec, tag->room->ranges);
	tag->rec.covered = tag->sent;
}
