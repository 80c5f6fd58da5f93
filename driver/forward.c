// SPDX-License-Identifier: GPL-2.0
/*
 * Forwarding: recording ranges for a program, and sending them to block
 * devices as clones of the request's bios. Files are file.c's.
 *
 * A clone shares the pages of the request, which stays started until the last
 * clone has ended: nothing is copied and nothing can be freed under DMA.
 */
#include <linux/bio.h>
#include <linux/blk-cgroup.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/kthread.h>
#include <linux/mempool.h>
#include <linux/sched/mm.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include "internal.h"
#include "trace.h"
#include "ublk_bpf_return.h"

/* What of the request's flags a clone keeps: not NOWAIT, not POLLED. */
#define UBLK_BPF_KEEP_FLAGS	(REQ_FAILFAST_MASK | REQ_SYNC | REQ_META | REQ_PRIO |	\
				 REQ_IDLE | REQ_FUA | REQ_PREFLUSH | REQ_RAHEAD |	\
				 REQ_BACKGROUND | REQ_SWAP | REQ_NOUNMAP)

/* Enough of each for the I/O of a device to make progress when there is no memory. */
#define UBLK_BPF_POOL_SIZE	16

/* A clone that does not fit into its tag. */
struct ublk_bpf_clone {
	struct ublk_bpf_backing	*backing;	/* holds a reference */
	struct ublk_bpf_fwd	*fwd;		/* likewise; NULL: nobody is told */
	struct bio		bio;		/* last: the bio set's front pad */
};

static struct kmem_cache *ublk_bpf_fwd_cache;
struct workqueue_struct *ublk_bpf_free_wq;

/*
 * While the block layer flushes a task's plug, current->plug is still set, and
 * a bio queued there would be lost: put it away and plug for ourselves.
 * bio_list goes too, so that what we submit is issued here and in one go.
 */
void ublk_bpf_start_plug(struct ublk_bpf_plug *plug)
{
	plug->outer = current->plug;
	plug->bio_list = current->bio_list;
	if (plug->outer)
		plug->outer->cur_ktime = 0;
	current->flags &= ~PF_BLOCK_TS;
	current->plug = NULL;
	current->bio_list = NULL;
	blk_start_plug(&plug->plug);
}

/* When it is finished. */
void ublk_bpf_restore_plug(struct ublk_bpf_plug *plug)
{
	current->plug = plug->outer;
	current->bio_list = plug->bio_list;
}

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
	/* tags of it that no I/O comes for would be kept while it sleeps */
	if (backing->hides_plug)
		batch->plug.plug.nr_ios = 1;
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
	if (pos > size || bytes > size - pos)
		goto put;

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

/* Record a range. Context: as above, and @rec and @ranges are the caller's alone. */
static __always_inline int __ublk_bpf_record(struct ublk_bpf_tag *tag, struct ublk_bpf_batch *batch,
					     struct ublk_bpf_record *rec,
					     struct ublk_bpf_range *ranges, u32 off, u32 bytes,
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

int ublk_bpf_record(struct ublk_bpf_tag *tag, struct ublk_bpf_record *rec,
		    struct ublk_bpf_range *ranges, u32 off, u32 bytes, u32 slot, u64 pos)
{
	return __ublk_bpf_record(tag, NULL, rec, ranges, off, bytes, slot, pos);
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
	err = __ublk_bpf_record(tag, READ_ONCE(tag->batch), &tag->rec, tag->room->ranges, off, bytes,
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

static void ublk_bpf_free_fwd(struct ublk_bpf_fwd *fwd)
{
	struct ublk_bpf_room *room = fwd->tag->room;

	kfree(fwd->bvec);
	if (fwd == &room->fwd)
		smp_store_release(&room->fwd_busy, false);
	else
		mempool_free(fwd, &fwd->tag->q->dev->fwds);
}

/* What a program says of a range that is back. Return: false when it goes again. */
static bool ublk_bpf_tell(struct ublk_bpf_fwd *fwd, int *err)
{
	struct ublk_bpf_tag *tag = fwd->tag;
	int answer;

	fwd->retry.backing = NULL;
	answer = ublk_bpf_ask_done(fwd, *err ?: fwd->range.bytes);
	if (answer == UBLK_BPF_DONE_RETRY && fwd->retry.backing &&
	    fwd->tries++ < UBLK_BPF_MAX_TRIES) {
		percpu_ref_put(&fwd->range.backing->ref);
		fwd->range = fwd->retry;
		fwd->zero_pages = false;
		fwd->done = 0;
		fwd->iocb.ki_flags = 0;
		queue_work(tag->q->dev->wq, &fwd->work);
		return false;
	}
	if (fwd->retry.backing)
		percpu_ref_put(&fwd->retry.backing->ref);

	switch (answer) {
	case 0:
		break;
	case UBLK_BPF_DONE_IGNORE:
		*err = 0;
		break;
	case UBLK_BPF_DONE_SERVER:
		WRITE_ONCE(tag->done_server, true);
		*err = 0;
		break;
	case -MAX_ERRNO ... -1:
		*err = answer;
		break;
	default:
		ublk_bpf_misused(tag, answer == UBLK_BPF_DONE_RETRY ?
				 "said RETRY too often, or without a range" :
				 "returned an unknown answer from io_done");
		*err = *err ?: -EIO;
	}
	return true;
}

/* Zeroes for a block device that can only be written. Context: any. */
static bool ublk_bpf_wants_zero_pages(const struct ublk_bpf_tag *tag,
				      const struct ublk_bpf_backing *backing)
{
	return req_op(tag->rq) == REQ_OP_WRITE_ZEROES && backing->bdev &&
	       !bdev_write_zeroes_sectors(backing->bdev);
}

/* The end of a range, with @err or well. Context: any. The I/O may end in here. */
void ublk_bpf_end_fwd(struct ublk_bpf_fwd *fwd, int err)
{
	struct ublk_bpf_tag *tag = fwd->tag;

	/* a disk may find out now that it cannot */
	if (unlikely(err && !fwd->zero_pages &&
		     ublk_bpf_wants_zero_pages(tag, fwd->range.backing))) {
		queue_work(tag->q->dev->wq, &fwd->work);
		return;
	}
	if (fwd->tell && !ublk_bpf_tell(fwd, &err))
		return;
	if (err)
		ublk_bpf_fail_range(tag, err);
	percpu_ref_put(&fwd->range.backing->ref);
	ublk_bpf_free_fwd(fwd);
	ublk_bpf_put_io(tag);
}

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

/* Send a range that carries no data, in one bio: see ublk_bpf_submit_bdev(). */
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
 * touches is cloned and trimmed. See ublk_bpf_submit_bdev().
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
static bool ublk_bpf_submit_as_it_is(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range)
{
	struct ublk_bpf_room *room = tag->room;
	struct block_device *bdev = range->backing->bdev;
	struct request *rq = tag->rq;
	struct bio *bio = &room->clone;

	if (range->bytes != tag->bytes || rq->bio != rq->biotail ||
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
static void ublk_bpf_submit_bdev(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range,
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
static void ublk_bpf_submit_told(struct ublk_bpf_fwd *fwd)
{
	refcount_set(&fwd->bios, 1);
	fwd->err = 0;
	percpu_ref_get(&fwd->range.backing->ref);
	ublk_bpf_submit_bdev(fwd->tag, &fwd->range, fwd);
	ublk_bpf_put_bio(fwd);
}

static int ublk_bpf_write_zero_pages(const struct ublk_bpf_range *range)
{
	unsigned int noio = memalloc_noio_save();
	int err;

	err = blkdev_issue_zeroout(range->backing->bdev, range->pos >> SECTOR_SHIFT,
				   range->bytes >> SECTOR_SHIFT, GFP_NOIO, 0);
	memalloc_noio_restore(noio);
	return err;
}

/* Somebody is told of the end of its ranges, or has to look at it. */
static bool ublk_bpf_needs_fwd(const struct ublk_bpf_tag *tag)
{
	return READ_ONCE(tag->q->dev->has_done) || req_op(tag->rq) == REQ_OP_WRITE_ZEROES;
}

/* Do a range. Context: a worker. Accounted to the submitter. The I/O may end in here. */
static void ublk_bpf_work_range(struct ublk_bpf_fwd *fwd)
{
	struct ublk_bpf_tag *tag = fwd->tag;
	struct bio *bio = tag->rq->bio;		/* a flush has none */

	kthread_associate_blkcg(bio ? bio_blkcg_css(bio) : NULL);
	if (!fwd->range.backing->bdev) {
		ublk_bpf_file_submit(fwd, false);
	} else if (ublk_bpf_wants_zero_pages(tag, fwd->range.backing)) {
		fwd->zero_pages = true;
		ublk_bpf_end_fwd(fwd, ublk_bpf_write_zero_pages(&fwd->range));
	} else if (ublk_bpf_needs_fwd(tag)) {
		ublk_bpf_submit_told(fwd);
	} else {
		ublk_bpf_submit_bdev(tag, &fwd->range, NULL);
		ublk_bpf_free_fwd(fwd);
		ublk_bpf_put_io(tag);
	}
	kthread_associate_blkcg(NULL);
}

static void ublk_bpf_fwd_work(struct work_struct *work)
{
	ublk_bpf_work_range(container_of(work, struct ublk_bpf_fwd, work));
}

/*
 * A range with a life of its own: in the tag when that is free. Holds a reference.
 * @worker: not for the run of the callbacks, which alone may take the tag's own. NULL when
 * there is no memory: what has it may wait for this very worker.
 */
static struct ublk_bpf_fwd *ublk_bpf_alloc_fwd(struct ublk_bpf_tag *tag,
					       const struct ublk_bpf_range *range, bool worker)
{
	struct ublk_bpf_room *room = tag->room;
	struct ublk_bpf_fwd *fwd;

	if (!worker && !smp_load_acquire(&room->fwd_busy)) {
		fwd = &room->fwd;
		room->fwd_busy = true;
	} else {
		fwd = mempool_alloc(&tag->q->dev->fwds, worker ? GFP_NOWAIT : GFP_NOIO);
		if (!fwd)
			return NULL;
	}
	fwd->range = *range;
	fwd->tag = tag;
	fwd->bvec = NULL;
	fwd->done = 0;
	fwd->tries = 0;
	fwd->zero_pages = false;
	fwd->tell = READ_ONCE(tag->q->dev->has_done);
	if (fwd->tell)
		ublk_bpf_io_scratch(tag, 0);	/* several io_done must not all clear it */
	fwd->iocb.ki_flags = 0;
	INIT_WORK(&fwd->work, ublk_bpf_fwd_work);
	refcount_inc(&tag->io.ref);
	return fwd;
}

/*
 * A plug keeps the requests of other queues, with their tags, until we return: if
 * the backing is one of them we would wait for ourselves.
 */
static bool ublk_bpf_outer_holds_tags(struct blk_plug *outer, const struct request_queue *q)
{
	const struct request *rq;

	if (!outer)
		return false;
	rq = rq_list_peek(&outer->mq_list);
	if (rq && (outer->multiple_queues || rq->q != q))
		return true;
	rq = rq_list_peek(&outer->cached_rqs);
	return rq && rq->q != q;
}

/* A stack of devices nests: the rest of it goes on by a worker's stack. */
static bool ublk_bpf_stack_is_low(void)
{
	return current_stack_pointer - (unsigned long)task_stack_page(current) < THREAD_SIZE / 2;
}

static __always_inline void ublk_bpf_count_range(const struct ublk_bpf_tag *tag,
				 const struct ublk_bpf_range *range, bool worker)
{
	struct ublk_bpf_dev *dev = tag->q->dev;

	ublk_bpf_count(dev, fwd_bytes, range->bytes);
	if (worker)
		ublk_bpf_count(dev, fwd_worker, 1);
	else
		ublk_bpf_count(dev, fwd_inline, 1);
	trace_ublk_bpf_forward(dev->dev_id, tag->rq, range->off, range->bytes, range->slot,
			       range->pos, worker);
}

/*
 * Can what is forwarded be sent from this task, which has @outer for its plug and came by
 * a request of @q?
 */
bool ublk_bpf_may_send_here(struct blk_plug *outer, const struct request_queue *q)
{
	return !ublk_bpf_outer_holds_tags(outer, q) && !ublk_bpf_stack_is_low();
}

static __always_inline void ublk_bpf_submit_range(struct ublk_bpf_tag *tag,
						  const struct ublk_bpf_range *range, bool here)
{
	enum req_op op = req_op(tag->rq);
	struct ublk_bpf_fwd *fwd;

	/* most are, so this is short */
	if (likely(here && range->backing->bdev && (op == REQ_OP_READ || op == REQ_OP_WRITE) &&
		   !READ_ONCE(tag->q->dev->has_done))) {
		ublk_bpf_count_range(tag, range, false);
		if (!ublk_bpf_submit_as_it_is(tag, range))
			ublk_bpf_submit_data(tag, range, NULL);
		return;
	}
	if (here && range->backing->bdev && !ublk_bpf_wants_zero_pages(tag, range->backing)) {
		ublk_bpf_count_range(tag, range, false);
		if (ublk_bpf_needs_fwd(tag))
			ublk_bpf_submit_told(ublk_bpf_alloc_fwd(tag, range, false));
		else
			ublk_bpf_submit_bdev(tag, range, NULL);
		return;
	}

	fwd = ublk_bpf_alloc_fwd(tag, range, false);
	if (here && !range->backing->bdev && ublk_bpf_file_inline_ok(tag, range->backing) &&
	    ublk_bpf_file_submit(fwd, true)) {
		ublk_bpf_count_range(tag, range, false);
		return;
	}
	ublk_bpf_count_range(tag, range, true);
	queue_work(tag->q->dev->wq, &fwd->work);
}

static void ublk_bpf_submit_recorded(struct ublk_bpf_tag *tag, bool here)
{
	for (unsigned int i = 0; i < tag->rec.nr; i++)
		ublk_bpf_submit_range(tag, &tag->room->ranges[i], here);
	tag->rec.nr = 0;
	tag->sent = tag->rec.covered;
}

/* As ublk_bpf_submit_ranges(), of an I/O that comes in a list: all is plugged already. */
void ublk_bpf_submit_in_batch(struct ublk_bpf_tag *tag, struct ublk_bpf_batch *batch)
{
	if (!batch->armed) {
		batch->armed = true;
		list_add(&batch->cb.list, &batch->plug.plug.cb_list);
	}
	if (unlikely(!batch->keep))
		ublk_bpf_let_go(batch);
	ublk_bpf_submit_recorded(tag, batch->here);
}

/*
 * Send what the last call recorded. Context: task, may sleep, outside of the
 * program's RCU section; a reference is held.
 */
void ublk_bpf_submit_ranges(struct ublk_bpf_tag *tag)
{
	/* in the server's task io_uring's lock may be held: nothing may wait there */
	bool here = !test_bit(UBLK_BPF_IO_F_SERVER, &tag->io.flags) &&
		    ublk_bpf_may_send_here(current->plug, tag->rq->q);
	bool plug = current->plug || tag->rec.nr > 1;
	struct bio_list *bio_list = current->bio_list;
	struct ublk_bpf_plug private;

	if (plug)
		ublk_bpf_start_plug(&private);
	/*
	 * Issued here, not when it is the turn of the task's list: this task may have
	 * come by another's I/O, and sleep for the tag that it has.
	 */
	current->bio_list = NULL;
	ublk_bpf_submit_recorded(tag, here);
	if (plug) {
		blk_finish_plug(&private.plug);
		ublk_bpf_restore_plug(&private);
	}
	current->bio_list = bio_list;
}

/*
 * Send a range that was recorded through a hold. Context: a worker; a reference is held,
 * and the run of the callbacks may not be over. Return: false: no memory, later.
 */
bool ublk_bpf_send_held(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range)
{
	struct ublk_bpf_fwd *fwd = ublk_bpf_alloc_fwd(tag, range, true);

	if (!fwd)
		return false;
	ublk_bpf_count_range(tag, range, true);
	ublk_bpf_work_range(fwd);
	return true;
}

int ublk_bpf_forward_init_dev(struct ublk_bpf_dev *dev)
{
	int err;

	dev->wq = alloc_workqueue("ublk_bpf%d", WQ_MEM_RECLAIM | WQ_UNBOUND, 0, dev->dev_id);
	if (!dev->wq)
		return -ENOMEM;
	err = mempool_init_slab_pool(&dev->fwds, UBLK_BPF_POOL_SIZE, ublk_bpf_fwd_cache);
	if (err)
		return err;
	return bioset_init(&dev->clones, UBLK_BPF_POOL_SIZE,
			   offsetof(struct ublk_bpf_clone, bio), BIOSET_NEED_RESCUER);
}

/* Of a device that has none of it, too. All its I/O has ended; a work item may end still. */
void ublk_bpf_forward_exit_dev(struct ublk_bpf_dev *dev)
{
	if (dev->wq)
		destroy_workqueue(dev->wq);
	mempool_exit(&dev->fwds);
	bioset_exit(&dev->clones);
}

int ublk_bpf_forward_init(void)
{
	ublk_bpf_fwd_cache = KMEM_CACHE(ublk_bpf_fwd, 0);
	if (!ublk_bpf_fwd_cache)
		return -ENOMEM;
	ublk_bpf_free_wq = alloc_workqueue("ublk_bpf_free", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!ublk_bpf_free_wq) {
		kmem_cache_destroy(ublk_bpf_fwd_cache);
		return -ENOMEM;
	}
	return 0;
}

void ublk_bpf_forward_exit(void)
{
	destroy_workqueue(ublk_bpf_free_wq);
	kmem_cache_destroy(ublk_bpf_fwd_cache);
}
