// SPDX-License-Identifier: GPL-2.0
/*
 * Forwarding to block devices, as clones of the request's bios.
 *
 * A clone shares the pages of the request, which stays started until the last
 * clone has ended: nothing is copied and nothing can be freed under DMA.
 */
#include <linux/bio.h>
#include <linux/blk-cgroup.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/sched/mm.h>
#include "internal.h"

/* What of the request's flags a clone keeps: not NOWAIT, not POLLED. */
#define UBLK_BPF_KEEP_FLAGS	(REQ_FAILFAST_MASK | REQ_SYNC | REQ_META | REQ_PRIO |	\
				 REQ_IDLE | REQ_FUA | REQ_PREFLUSH | REQ_RAHEAD |	\
				 REQ_BACKGROUND | REQ_SWAP | REQ_NOUNMAP)

/* A clone that does not fit into its tag. */
struct ublk_bpf_clone {
	struct ublk_bpf_backing	*backing;	/* holds a reference */
	struct ublk_bpf_fwd	*fwd;		/* likewise; NULL: nobody is told */
	struct bio		bio;		/* last: the bio set's front pad */
};

/* A bio of a range that io_done is told of, or the sending of them, has ended. */
static void ublk_bpf_put_bio(struct ublk_bpf_fwd *fwd)
{
	if (refcount_dec_and_test(&fwd->bios))
		ublk_bpf_end_fwd(fwd, fwd->err);
}

/* An error of a bio: the range's if that is told of, else the I/O's. The first counts. */
static void ublk_bpf_fail_bio(struct ublk_bpf_tag *tag, struct ublk_bpf_fwd *fwd, int err)
{
	if (fwd)
		cmpxchg(&fwd->err, 0, err);
	else
		ublk_bpf_fail_range(tag, err);
}

/* The end of a bio. Context: any. */
static __always_inline void ublk_bpf_end_bio(struct ublk_bpf_tag *tag,
					     struct ublk_bpf_backing *backing,
					     struct ublk_bpf_fwd *fwd, blk_status_t status)
{
	if (unlikely(status))
		ublk_bpf_fail_bio(tag, fwd, blk_status_to_errno(status));
	percpu_ref_put(&backing->ref);
	if (fwd)
		ublk_bpf_put_bio(fwd);
	ublk_bpf_put_io(tag);
}

static void ublk_bpf_clone_end_io(struct bio *bio)
{
	const struct ublk_bpf_clone *clone = container_of(bio, struct ublk_bpf_clone, bio);
	struct ublk_bpf_backing *backing = clone->backing;
	struct ublk_bpf_fwd *fwd = clone->fwd;
	struct ublk_bpf_tag *tag = bio->bi_private;
	blk_status_t status = bio->bi_status;

	bio_put(bio);
	ublk_bpf_end_bio(tag, backing, fwd, status);
}

static void ublk_bpf_tag_clone_end_io(struct bio *bio)
{
	struct ublk_bpf_room *room = container_of(bio, struct ublk_bpf_room, clone);
	struct ublk_bpf_backing *backing = room->clone_backing;
	struct ublk_bpf_tag *tag = bio->bi_private;
	blk_status_t status = bio->bi_status;

	bio_uninit(bio);
	smp_store_release(&room->clone_busy, false);
	ublk_bpf_end_bio(tag, backing, NULL, status);
}

/* Where a bio goes, and in whose cgroup: the submitter's, from whatever task it is sent. */
static __always_inline void ublk_bpf_aim_bio(struct bio *bio, struct ublk_bpf_tag *tag,
					     struct block_device *bdev, struct bio *blkcg_src)
{
	struct cgroup_subsys_state *css = blkcg_src ? bio_blkcg_css(blkcg_src) : NULL;

	bio->bi_bdev = bdev;
	if (likely(css))
		bio_associate_blkg_from_css(bio, css);
	else
		bio_associate_blkg(bio);	/* none may start without */
	bio->bi_private = tag;
}

/*
 * A clone of @src, or an empty bio, for @backing: takes over a reference. Made without a
 * device, else its cgroup would be looked up twice.
 */
static struct bio *ublk_bpf_clone_bio(struct ublk_bpf_tag *tag, struct bio *src,
				      struct ublk_bpf_backing *backing, struct ublk_bpf_fwd *fwd)
{
	struct bio_set *clones = &tag->q->dev->clones;
	struct bio *bio;

	bio = src ? bio_alloc_clone(NULL, src, GFP_NOIO, clones) :
		    bio_alloc_bioset(NULL, 0, 0, GFP_NOIO, clones);
	if (unlikely(!bio))
		return NULL;
	container_of(bio, struct ublk_bpf_clone, bio)->backing = backing;
	container_of(bio, struct ublk_bpf_clone, bio)->fwd = fwd;
	bio->bi_end_io = ublk_bpf_clone_end_io;
	ublk_bpf_aim_bio(bio, tag, backing->bdev, src ?: tag->rq->bio);	/* a flush has none */
	if (fwd)
		refcount_inc(&fwd->bios);
	return bio;
}

/* Send a range that carries no data, in one bio: see ublk_bpf_bdev_submit(). */
static void ublk_bpf_submit_empty(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range,
				  struct ublk_bpf_fwd *fwd, blk_opf_t opf)
{
	struct bio *bio = ublk_bpf_clone_bio(tag, NULL, range->backing, fwd);

	if (!bio) {
		percpu_ref_put(&range->backing->ref);
		ublk_bpf_fail_bio(tag, fwd, -ENOMEM);
		return;
	}
	bio->bi_iter.bi_size = range->bytes;
	bio->bi_iter.bi_sector = range->pos >> SECTOR_SHIFT;
	bio->bi_opf = opf | (tag->rq->cmd_flags & UBLK_BPF_KEEP_FLAGS);
	refcount_inc(&tag->io.ref);
	submit_bio_noacct(bio);
}

/*
 * Send a range of a read or write to a block device: each bio of the request that it
 * touches is cloned and trimmed. See ublk_bpf_bdev_submit().
 */
static void ublk_bpf_submit_data(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range,
				 struct ublk_bpf_fwd *fwd)
{
	struct ublk_bpf_backing *backing = range->backing;
	struct request *rq = tag->rq;
	u32 start = range->off, end = range->off + range->bytes;
	struct bio *src, *bio;
	u32 at = 0;

	for (src = rq->bio; start < end; at += src->bi_iter.bi_size, src = src->bi_next) {
		u32 skip, bytes;

		if (at + src->bi_iter.bi_size <= start)
			continue;
		skip = start - at;
		bytes = min(src->bi_iter.bi_size - skip, end - start);

		bio = ublk_bpf_clone_bio(tag, src, backing, fwd);
		if (!bio)
			goto nomem;
		if (start + bytes < end)
			percpu_ref_get(&backing->ref);
		if (skip)
			bio_advance(bio, skip);
		bio->bi_iter.bi_size = bytes;
		bio->bi_iter.bi_sector = (range->pos + (start - range->off)) >> SECTOR_SHIFT;
		bio->bi_opf = req_op(rq) | (rq->cmd_flags & UBLK_BPF_KEEP_FLAGS);
		refcount_inc(&tag->io.ref);
		start += bytes;
		submit_bio_noacct(bio);
	}
	return;
nomem:
	percpu_ref_put(&backing->ref);
	ublk_bpf_fail_bio(tag, fwd, -ENOMEM);
}

/*
 * What lies beside an I/O that is forwarded as it is was merged with it above already. But
 * a scheduler has more to merge with; one may be below a disk without requests, too.
 */
static bool ublk_bpf_may_merge(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);

	return q->elevator || !queue_is_mq(q);
}

/*
 * What most reads and writes are: one bio, which goes to one place as it is, in the tag's
 * own clone. Context: the run of the callbacks. Return: false: it is not so, or not free.
 */
bool ublk_bpf_bdev_submit_as_it_is(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range)
{
	struct ublk_bpf_room *room = tag->room;
	struct block_device *bdev = range->backing->bdev;
	struct request *rq = tag->rq;
	struct bio *bio = &room->clone;

	if ((req_op(rq) != REQ_OP_READ && req_op(rq) != REQ_OP_WRITE) ||
	    range->bytes != tag->bytes || rq->bio != rq->biotail ||
	    smp_load_acquire(&room->clone_busy) || bio_init_clone(NULL, bio, rq->bio, GFP_NOIO))
		return false;
	room->clone_busy = true;
	room->clone_backing = range->backing;
	ublk_bpf_aim_bio(bio, tag, bdev, rq->bio);
	bio->bi_end_io = ublk_bpf_tag_clone_end_io;
	bio->bi_iter.bi_sector = range->pos >> SECTOR_SHIFT;
	bio->bi_opf = req_op(rq) | (rq->cmd_flags & UBLK_BPF_KEEP_FLAGS);
	if (!ublk_bpf_may_merge(bdev))
		bio->bi_opf |= REQ_NOMERGE;
	refcount_inc(&tag->io.ref);
	submit_bio_noacct(bio);
	return true;
}

/*
 * Send a range to a block device. Consumes a reference of the backing. The caller holds a
 * reference, so that the I/O cannot end in here. @fwd: NULL, or what the bios belong to.
 * Context: task, may sleep.
 */
void ublk_bpf_bdev_submit(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range,
			  struct ublk_bpf_fwd *fwd)
{
	enum req_op op = req_op(tag->rq);

	if (op == REQ_OP_FLUSH)
		ublk_bpf_submit_empty(tag, range, fwd, REQ_OP_WRITE | REQ_PREFLUSH);
	else if (op == REQ_OP_DISCARD || op == REQ_OP_WRITE_ZEROES)
		ublk_bpf_submit_empty(tag, range, fwd, op);
	else
		ublk_bpf_submit_data(tag, range, fwd);
}

/* The same of a range that keeps its reference till all of its bios have ended. */
void ublk_bpf_bdev_submit_told(struct ublk_bpf_fwd *fwd)
{
	refcount_set(&fwd->bios, 1);
	fwd->err = 0;
	percpu_ref_get(&fwd->range.backing->ref);
	ublk_bpf_bdev_submit(fwd->tag, &fwd->range, fwd);
	ublk_bpf_put_bio(fwd);
}

int ublk_bpf_bdev_write_zeroes(const struct ublk_bpf_range *range)
{
	unsigned int noio = memalloc_noio_save();
	int err;

	err = blkdev_issue_zeroout(range->backing->bdev, range->pos >> SECTOR_SHIFT,
				   range->bytes >> SECTOR_SHIFT, GFP_NOIO, 0);
	memalloc_noio_restore(noio);
	return err;
}

/*
 * No rescuer: who waits for a clone has those before issued, or in its plug, which is flushed
 * when it sleeps, and never on a list of its own. Context: task, may sleep.
 */
int ublk_bpf_bdev_init_dev(struct ublk_bpf_dev *dev)
{
	return bioset_init(&dev->clones, UBLK_BPF_POOL_SIZE,
			   offsetof(struct ublk_bpf_clone, bio), 0);
}
