// SPDX-License-Identifier: GPL-2.0
/*
 * Forwarding: when the ranges that a program has recorded (record.c) are sent, from which
 * task, and what becomes of one that is back. How is bdev.c's and file.c's.
 */
#include <linux/blk-cgroup.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/kthread.h>
#include <linux/mempool.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include "internal.h"
#include "trace.h"
#include "ublk_bpf_return.h"

static struct kmem_cache *ublk_bpf_fwd_cache;
struct workqueue_struct *ublk_bpf_free_wq;

/*
 * While the block layer flushes a task's plug, current->plug is still set, and
 * a bio queued there would be lost: put it away and plug for ourselves.
 * bio_list goes too, so that what we submit is issued here and in one go. Requests that
 * it has taken beforehand come with us: a task that sleeps gives them back from its plug.
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
	if (plug->outer) {
		plug->plug.cached_rqs = plug->outer->cached_rqs;
		rq_list_init(&plug->outer->cached_rqs);
	}
}

/* When it is finished. */
void ublk_bpf_restore_plug(struct ublk_bpf_plug *plug)
{
	current->plug = plug->outer;
	current->bio_list = plug->bio_list;
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
		ublk_bpf_end_fwd(fwd, ublk_bpf_bdev_write_zeroes(&fwd->range));
	} else if (ublk_bpf_needs_fwd(tag)) {
		ublk_bpf_bdev_submit_told(fwd);
	} else {
		ublk_bpf_bdev_submit(tag, &fwd->range, NULL);
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
 * A range with a life of its own: in the tag when that is free, and @run: for the run of
 * the callbacks, which alone may take that. Holds a reference. NULL when there is no
 * memory and @gfp does not let it wait: what has it may wait for the caller.
 */
static struct ublk_bpf_fwd *ublk_bpf_alloc_fwd(struct ublk_bpf_tag *tag,
					       const struct ublk_bpf_range *range, bool run,
					       gfp_t gfp)
{
	struct ublk_bpf_room *room = tag->room;
	struct ublk_bpf_fwd *fwd;

	if (run && !smp_load_acquire(&room->fwd_busy)) {
		fwd = &room->fwd;
		room->fwd_busy = true;
	} else {
		fwd = mempool_alloc(&tag->q->dev->fwds, gfp);
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
 * the backing is one of them we would wait for ourselves. Likewise what md and others
 * have put aside until the plug is flushed.
 */
static bool ublk_bpf_outer_is_waited_for(struct blk_plug *outer, const struct request_queue *q)
{
	const struct blk_plug_cb *cb;
	const struct request *rq;

	if (!outer)
		return false;
	list_for_each_entry(cb, &outer->cb_list, list)
		if (cb->callback != ublk_bpf_batch_cb)
			return true;
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
	return !ublk_bpf_outer_is_waited_for(outer, q) && !ublk_bpf_stack_is_low();
}

/*
 * There is no memory for a range of the last call, the @nr first have been sent: the I/O is
 * done as far as those go, and its program is asked about the rest from a task that can wait.
 */
static void ublk_bpf_cut_short(struct ublk_bpf_tag *tag, unsigned int nr)
{
	const struct ublk_bpf_range *ranges = tag->room->ranges;
	u32 block = queue_logical_block_size(tag->rq->q);

	tag->rec.covered = round_down(ranges[nr].off, block);	/* what comes later starts later */
	tag->taken = round_down(min(tag->taken, tag->rec.covered), block);
	tag->rec.nr -= nr;
	ublk_bpf_drop_record(&tag->rec, &ranges[nr]);
	__set_bit(UBLK_BPF_IO_F_CUT, &tag->io.flags);
}

/*
 * Does the server of @dev serve the backing, or what the backing's file system is on, as
 * well? It cannot end before what is sent from here is under way, and that may wait for a
 * tag of the backing until it has ended. Once it did, for good: one may recover before the
 * other.
 */
static bool ublk_bpf_is_own_servers(const struct ublk_bpf_dev *dev,
				    struct ublk_bpf_backing *backing)
{
	const struct ublk_bpf_dev *lower = backing->lower;
	int mine, its;

	if (!lower || READ_ONCE(backing->own_servers))
		return backing->own_servers;
	mine = READ_ONCE(dev->server);
	its = READ_ONCE(lower->server);
	if (likely(mine && its && mine != its))
		return false;
	if (mine && its)
		WRITE_ONCE(backing->own_servers, true);
	return true;	/* or not known yet */
}

/* Return: false: no memory. */
static __always_inline bool ublk_bpf_submit_range(struct ublk_bpf_tag *tag,
						  const struct ublk_bpf_range *range, bool here)
{
	struct ublk_bpf_fwd *fwd;

	if (unlikely(ublk_bpf_is_own_servers(tag->q->dev, range->backing)))
		here = false;
	if (here && range->backing->bdev && !ublk_bpf_wants_zero_pages(tag, range->backing)) {
		ublk_bpf_count_range(tag, range, false);
		if (ublk_bpf_needs_fwd(tag))
			ublk_bpf_bdev_submit_told(ublk_bpf_alloc_fwd(tag, range, true, GFP_NOIO));
		else if (!ublk_bpf_bdev_submit_as_it_is(tag, range))
			ublk_bpf_bdev_submit(tag, range, NULL);
		return true;
	}

	/* elsewhere a worker may wait for what this task has and cannot send */
	fwd = ublk_bpf_alloc_fwd(tag, range, true, here ? GFP_NOIO : GFP_NOWAIT);
	if (unlikely(!fwd))
		return false;
	if (here && !range->backing->bdev && ublk_bpf_file_inline_ok(tag, range->backing) &&
	    ublk_bpf_file_submit(fwd, true)) {
		ublk_bpf_count_range(tag, range, false);
		return true;
	}
	ublk_bpf_count_range(tag, range, true);
	queue_work(tag->q->dev->wq, &fwd->work);
	return true;
}

static void ublk_bpf_submit_recorded(struct ublk_bpf_tag *tag, bool here)
{
	const struct ublk_bpf_range *ranges = tag->room->ranges;
	unsigned int nr = tag->rec.nr;

	for (unsigned int i = 0; i < nr; i++)
		if (unlikely(!ublk_bpf_submit_range(tag, &ranges[i], here))) {
			ublk_bpf_cut_short(tag, i);
			break;
		}
	tag->rec.nr = 0;
	tag->sent = tag->rec.covered;
}

/* As ublk_bpf_submit_ranges(), of an I/O that comes in a list: all is plugged already. */
void ublk_bpf_submit_in_batch(struct ublk_bpf_tag *tag, struct ublk_bpf_batch *batch)
{
	if (unlikely(!batch->keep)) {
		ublk_bpf_let_go(batch);
		ublk_bpf_sync_batch(batch);
	}
	if (!batch->armed) {
		batch->armed = true;
		list_add(&batch->cb.list, &batch->plug.plug.cb_list);
	}
	ublk_bpf_submit_recorded(tag, batch->here);
	ublk_bpf_sync_batch(batch);
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
	struct ublk_bpf_fwd *fwd = ublk_bpf_alloc_fwd(tag, range, false, GFP_NOWAIT);

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
	return ublk_bpf_bdev_init_dev(dev);
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
