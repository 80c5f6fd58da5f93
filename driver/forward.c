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
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include "internal.h"

/* What of the request's flags a clone keeps: not NOWAIT, not POLLED. */
#define UBLK_BPF_KEEP_FLAGS	(REQ_FAILFAST_MASK | REQ_SYNC | REQ_META | REQ_PRIO |	\
				 REQ_IDLE | REQ_FUA | REQ_PREFLUSH | REQ_RAHEAD |	\
				 REQ_BACKGROUND | REQ_SWAP)

/* Enough of each for one I/O to make progress when there is no memory. */
#define UBLK_BPF_POOL_SIZE	64

/* A clone that does not fit into its tag. */
struct ublk_bpf_clone {
	struct ublk_bpf_backing	*backing;	/* holds a reference */
	struct bio		bio;		/* last: the bio set's front pad */
};

static struct bio_set ublk_bpf_clones;
static struct kmem_cache *ublk_bpf_fwd_cache;
static mempool_t *ublk_bpf_fwds;
struct workqueue_struct *ublk_bpf_wq;
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
	plug->iob = (struct io_comp_batch){};
	blk_start_plug(&plug->plug);
}

void ublk_bpf_finish_plug(struct ublk_bpf_plug *plug)
{
	if (plug->iob.complete)
		plug->iob.complete(&plug->iob);
	blk_finish_plug(&plug->plug);
	current->plug = plug->outer;
	current->bio_list = plug->bio_list;
}

/*
 * Record a range, see ublk_bpf_forward(). Context: any; the I/O cannot end and
 * @rec and @ranges are the caller's alone.
 */
int ublk_bpf_record(struct ublk_bpf_tag *tag, struct ublk_bpf_record *rec,
		    struct ublk_bpf_range *ranges, u32 off, u32 bytes, u32 slot, u64 pos)
{
	struct ublk_bpf_backing *backing;
	u64 size;
	int err;

	switch (req_op(tag->rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		if (!bytes)
			return -EINVAL;
		break;
	case REQ_OP_FLUSH:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (rec->nr == UBLK_BPF_MAX_RANGES)
		return -ENOSPC;
	if ((u64)off + bytes > tag->bytes || off < rec->last_off || off > rec->covered)
		return -EINVAL;

	backing = ublk_bpf_backing_tryget(tag->q->dev, slot);
	if (!backing)
		return -ENOENT;

	err = -EBADF;
	if (!backing->writable && req_op(tag->rq) == REQ_OP_WRITE)
		goto put;
	err = -EINVAL;
	if ((off | bytes | pos) & (backing->block - 1))
		goto put;
	size = backing->bdev ? bdev_nr_bytes(backing->bdev) :
			       file_inode(backing->file)->i_sb->s_maxbytes;
	if (pos > size || bytes > size - pos)
		goto put;

	ranges[rec->nr++] = (struct ublk_bpf_range){
		.backing	= backing,
		.pos		= pos,
		.off		= off,
		.bytes		= bytes,
	};
	rec->last_off = off;
	rec->covered = max(rec->covered, off + bytes);
	return 0;
put:
	percpu_ref_put(&backing->ref);
	return err;
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
	err = ublk_bpf_record(tag, &tag->rec, tag->room->ranges, off, bytes, slot, pos);
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

/* The end of a bio. Context: any. */
static void ublk_bpf_end_bio(struct ublk_bpf_tag *tag, struct ublk_bpf_backing *backing,
			     blk_status_t status)
{
	if (unlikely(status))
		ublk_bpf_fail_range(tag, blk_status_to_errno(status));
	percpu_ref_put(&backing->ref);
	ublk_bpf_put_io(tag);
}

static void ublk_bpf_clone_end_io(struct bio *bio)
{
	struct ublk_bpf_backing *backing = container_of(bio, struct ublk_bpf_clone, bio)->backing;
	struct ublk_bpf_tag *tag = bio->bi_private;
	blk_status_t status = bio->bi_status;

	bio_put(bio);
	ublk_bpf_end_bio(tag, backing, status);
}

static void ublk_bpf_tag_clone_end_io(struct bio *bio)
{
	struct ublk_bpf_room *room = container_of(bio, struct ublk_bpf_room, clone);
	struct ublk_bpf_backing *backing = room->clone_backing;
	struct ublk_bpf_tag *tag = bio->bi_private;
	blk_status_t status = bio->bi_status;

	bio_uninit(bio);
	smp_store_release(&room->clone_busy, false);
	ublk_bpf_end_bio(tag, backing, status);
}

/*
 * A clone of @src, or an empty bio, for @backing. Its cgroup is the submitter's,
 * from whatever task it is sent. Takes over a reference of the backing. @worker:
 * not sent by the run of the callbacks, which alone may take the tag's own clone.
 */
static struct bio *ublk_bpf_clone_bio(struct ublk_bpf_tag *tag, struct bio *src,
				      struct ublk_bpf_backing *backing, bool worker)
{
	struct ublk_bpf_room *room = tag->room;
	struct bio *bio;

	/* without a device: else the cgroup would be looked up twice */
	if (src && !src->bi_next && !worker && !smp_load_acquire(&room->clone_busy)) {
		bio = &room->clone;
		if (unlikely(bio_init_clone(NULL, bio, src, GFP_NOIO)))
			return NULL;
		room->clone_busy = true;
		room->clone_backing = backing;
		bio->bi_end_io = ublk_bpf_tag_clone_end_io;
	} else {
		bio = src ? bio_alloc_clone(NULL, src, GFP_NOIO, &ublk_bpf_clones) :
			    bio_alloc_bioset(NULL, 0, 0, GFP_NOIO, &ublk_bpf_clones);
		if (unlikely(!bio))
			return NULL;
		container_of(bio, struct ublk_bpf_clone, bio)->backing = backing;
		bio->bi_end_io = ublk_bpf_clone_end_io;
	}
	bio->bi_bdev = backing->bdev;
	if (src && bio_blkcg_css(src))
		bio_clone_blkg_association(bio, src);
	else
		bio_associate_blkg(bio);	/* none may start without */
	bio->bi_private = tag;
	return bio;
}

/*
 * Send a range to a block device: each bio of the request that it touches is
 * cloned and trimmed. Consumes the range's reference of the backing. The caller
 * holds a reference, so that the I/O cannot end in here.
 * Context: task, may sleep.
 */
static void ublk_bpf_submit_bdev(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range,
				 bool worker)
{
	struct ublk_bpf_backing *backing = range->backing;
	struct request *rq = tag->rq;
	u32 start = range->off, end = range->off + range->bytes;
	struct bio *src, *bio;
	u32 at = 0;

	if (req_op(rq) == REQ_OP_FLUSH) {
		bio = ublk_bpf_clone_bio(tag, NULL, backing, worker);
		if (!bio)
			goto nomem;
		bio->bi_opf = REQ_OP_WRITE | REQ_PREFLUSH | (rq->cmd_flags & UBLK_BPF_KEEP_FLAGS);
		refcount_inc(&tag->io.ref);
		submit_bio_noacct(bio);
		return;
	}

	for (src = rq->bio; start < end; at += src->bi_iter.bi_size, src = src->bi_next) {
		u32 skip, bytes;

		if (at + src->bi_iter.bi_size <= start)
			continue;
		skip = start - at;
		bytes = min(src->bi_iter.bi_size - skip, end - start);

		bio = ublk_bpf_clone_bio(tag, src, backing, worker);
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
	ublk_bpf_fail_range(tag, -ENOMEM);
}

/* Accounted to the submitter. The I/O may end in here. */
static void ublk_bpf_work_file(struct ublk_bpf_fwd *fwd)
{
	struct bio *bio = fwd->tag->rq->bio;		/* a flush has none */

	kthread_associate_blkcg(bio ? bio_blkcg_css(bio) : NULL);
	ublk_bpf_file_submit(fwd, false);
	kthread_associate_blkcg(NULL);
}

static void ublk_bpf_fwd_work(struct work_struct *work)
{
	struct ublk_bpf_fwd *fwd = container_of(work, struct ublk_bpf_fwd, work);
	struct ublk_bpf_tag *tag = fwd->tag;

	if (!fwd->range.backing->bdev) {
		ublk_bpf_work_file(fwd);
		return;
	}
	ublk_bpf_submit_bdev(tag, &fwd->range, true);
	ublk_bpf_free_fwd(fwd);
	ublk_bpf_put_io(tag);
}

/*
 * A range with a life of its own: in the tag when that is free. Holds a reference.
 * @worker: not for the run of the callbacks, which alone may take the tag's own.
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
		fwd = mempool_alloc(ublk_bpf_fwds, GFP_NOIO);
	}
	fwd->range = *range;
	fwd->tag = tag;
	fwd->bvec = NULL;
	fwd->done = 0;
	fwd->iocb.ki_flags = 0;
	INIT_WORK(&fwd->work, ublk_bpf_fwd_work);
	refcount_inc(&tag->io.ref);
	return fwd;
}

void ublk_bpf_free_fwd(struct ublk_bpf_fwd *fwd)
{
	struct ublk_bpf_room *room = fwd->tag->room;

	if (fwd == &room->fwd)
		smp_store_release(&room->fwd_busy, false);
	else
		mempool_free(fwd, ublk_bpf_fwds);
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

static void ublk_bpf_submit_range(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range,
				  bool here)
{
	struct ublk_bpf_dev *dev = tag->q->dev;
	struct ublk_bpf_fwd *fwd;

	ublk_bpf_count(dev, fwd_bytes, range->bytes);
	if (here && range->backing->bdev) {
		ublk_bpf_count(dev, fwd_inline, 1);
		ublk_bpf_submit_bdev(tag, range, false);
		return;
	}

	fwd = ublk_bpf_alloc_fwd(tag, range, false);
	if (here && ublk_bpf_file_inline_ok(tag, range->backing) &&
	    ublk_bpf_file_submit(fwd, true)) {
		ublk_bpf_count(dev, fwd_inline, 1);
		return;
	}
	ublk_bpf_count(dev, fwd_worker, 1);
	queue_work(ublk_bpf_wq, &fwd->work);
}

/*
 * Send what the last call recorded. Context: task, may sleep, outside of the
 * program's RCU section; a reference is held. @batch: the list it comes
 * with, plugged already, or NULL.
 */
void ublk_bpf_submit_ranges(struct ublk_bpf_tag *tag, struct ublk_bpf_plug *batch)
{
	struct blk_plug *outer = batch ? batch->outer : current->plug;
	/* in the server's task io_uring's lock may be held: nothing may wait there */
	bool here = !test_bit(UBLK_BPF_IO_F_SERVER, &tag->io.flags) &&
		    !ublk_bpf_outer_holds_tags(outer, tag->rq->q) && !ublk_bpf_stack_is_low();
	/*
	 * One clone in an unplugged submission needs no plug: it has its own turn.
	 * Not behind the rest of a bio that was split, which may wait for our tag.
	 */
	bool plug = !batch && (current->plug || tag->rec.nr > 1 ||
			       (current->bio_list && !bio_list_empty(&current->bio_list[0])));
	struct ublk_bpf_plug private;

	/* what is done does not wait for what may sleep now */
	if (batch && batch->iob.complete) {
		batch->iob.complete(&batch->iob);
		batch->iob = (struct io_comp_batch){};
	}
	if (plug)
		ublk_bpf_start_plug(&private);
	for (unsigned int i = 0; i < tag->rec.nr; i++)
		ublk_bpf_submit_range(tag, &tag->room->ranges[i], here);
	if (plug)
		ublk_bpf_finish_plug(&private);
	tag->rec.nr = 0;
	tag->sent = tag->rec.covered;
}

/*
 * Send what was recorded through a hold. Context: a worker; a reference is held,
 * and the run of the callbacks may not be over.
 */
void ublk_bpf_send_record(struct ublk_bpf_tag *tag, const struct ublk_bpf_record *rec,
			  const struct ublk_bpf_range *ranges)
{
	struct ublk_bpf_dev *dev = tag->q->dev;

	for (unsigned int i = 0; i < rec->nr; i++) {
		ublk_bpf_count(dev, fwd_bytes, ranges[i].bytes);
		ublk_bpf_count(dev, fwd_worker, 1);
		if (ranges[i].backing->bdev)
			ublk_bpf_submit_bdev(tag, &ranges[i], true);
		else
			ublk_bpf_work_file(ublk_bpf_alloc_fwd(tag, &ranges[i], true));
	}
}

int ublk_bpf_forward_init(void)
{
	int err;

	err = bioset_init(&ublk_bpf_clones, UBLK_BPF_POOL_SIZE,
			  offsetof(struct ublk_bpf_clone, bio), BIOSET_NEED_RESCUER);
	if (err)
		return err;

	err = -ENOMEM;
	ublk_bpf_fwd_cache = KMEM_CACHE(ublk_bpf_fwd, 0);
	if (!ublk_bpf_fwd_cache)
		goto exit_bioset;
	ublk_bpf_fwds = mempool_create_slab_pool(UBLK_BPF_POOL_SIZE, ublk_bpf_fwd_cache);
	if (!ublk_bpf_fwds)
		goto destroy_cache;
	ublk_bpf_wq = alloc_workqueue("ublk_bpf", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!ublk_bpf_wq)
		goto destroy_pool;
	ublk_bpf_free_wq = alloc_workqueue("ublk_bpf_free", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!ublk_bpf_free_wq)
		goto destroy_wq;
	return 0;

destroy_wq:
	destroy_workqueue(ublk_bpf_wq);
destroy_pool:
	mempool_destroy(ublk_bpf_fwds);
destroy_cache:
	kmem_cache_destroy(ublk_bpf_fwd_cache);
exit_bioset:
	bioset_exit(&ublk_bpf_clones);
	return err;
}

void ublk_bpf_forward_exit(void)
{
	destroy_workqueue(ublk_bpf_wq);
	destroy_workqueue(ublk_bpf_free_wq);
	mempool_destroy(ublk_bpf_fwds);
	kmem_cache_destroy(ublk_bpf_fwd_cache);
	bioset_exit(&ublk_bpf_clones);
}
