// SPDX-License-Identifier: GPL-2.0
/*
 * Holds: an I/O that its program keeps, to finish it later and elsewhere.
 *
 * A hold is an object of its own and stands for the I/O's completion reference.
 * It is tied to the I/O until somebody takes that from it, under its lock: the
 * program, which completes or releases it, the time-out, or whoever takes the
 * program or the device away. Only one can, so the I/O ends once, and a hold
 * that is kept for too long never touches the next I/O of its tag.
 *
 * References of a hold: the program's and, while it is tied, the tag's. Freed
 * by RCU, for those who come to it from the tag.
 */
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/llist.h>
#include <linux/mempool.h>
#include <linux/slab.h>
#include "pdu.h"
#include "trace.h"

#define UBLK_BPF_HOLD_POOL	64	/* that many I/Os are held without memory */

struct ublk_bpf_hold {
	raw_spinlock_t		lock;	/* also taken in release_io_cmd, not preempted */
	refcount_t		ref;
	struct ublk_bpf_dev	*dev;	/* holds a reference */
	struct ublk_bpf_tag	*tag;	/* NULL: taken; lock */
	struct ublk_bpf_tag	*ended;	/* taken, its reference is dropped later */
	struct ublk_bpf_record	rec;	/* lock */
	u8			sent;	/* ranges, by the work */
	union {
		struct llist_node	node;
		struct work_struct	work;
		struct rcu_head		rcu;
	};
	struct ublk_bpf_range	ranges[UBLK_BPF_MAX_RANGES];	/* lock */
};

static struct kmem_cache *ublk_bpf_hold_cache;
static mempool_t *ublk_bpf_holds;

static void ublk_bpf_free_hold(struct rcu_head *rcu)
{
	struct ublk_bpf_hold *h = container_of(rcu, struct ublk_bpf_hold, rcu);

	ublk_bpf_put_dev(h->dev);
	mempool_free(h, ublk_bpf_holds);
}

static void ublk_bpf_put_hold(struct ublk_bpf_hold *h)
{
	if (refcount_dec_and_test(&h->ref))
		call_rcu(&h->rcu, ublk_bpf_free_hold);
}

/*
 * Take the I/O out of a hold, if it is still tied (to @rq, when given). The
 * caller gets the I/O's completion reference and the tag's of the hold.
 * @end, @res: how the hold ends, for the end of the I/O; all that is there
 * before tag->hold says that it has ended.
 */
static struct ublk_bpf_tag *ublk_bpf_take(struct ublk_bpf_hold *h, const struct request *rq,
					  enum ublk_bpf_hold_end end, int res)
{
	struct ublk_bpf_tag *tag;
	unsigned long flags;

	raw_spin_lock_irqsave(&h->lock, flags);
	tag = h->tag;
	if (tag && rq && tag->rq != rq)
		tag = NULL;
	if (tag) {
		h->tag = NULL;
		tag->hold_end = end;
		tag->hold_late = ublk_bpf_held_too_long(tag);
		if (end == UBLK_BPF_HOLD_COMPLETED)
			tag->io.res = res;
		if (end == UBLK_BPF_HOLD_CUT) {
			tag->held_lost = h->rec.nr;
		} else if (h->rec.nr) {
			tag->held_ranges = true;
			tag->held_covered = h->rec.covered;
		}
		smp_store_release(&tag->hold, NULL);
	}
	raw_spin_unlock_irqrestore(&h->lock, flags);

	return tag;
}

/*
 * Cut the hold of a tag: give the I/O (@rq, when given) back without what was
 * recorded through the hold. Context: any.
 * Return: true when there was one; the completion reference is the caller's.
 */
bool ublk_bpf_cut_hold(struct ublk_bpf_tag *tag, const struct request *rq)
{
	struct ublk_bpf_hold *h;
	bool cut;

	rcu_read_lock();
	h = smp_load_acquire(&tag->hold);
	if (h && !refcount_inc_not_zero(&h->ref))
		h = NULL;
	rcu_read_unlock();
	if (!h)
		return false;

	cut = ublk_bpf_take(h, rq, UBLK_BPF_HOLD_CUT, 0);
	if (cut) {
		ublk_bpf_drop_record(&h->rec, h->ranges);
		ublk_bpf_put_hold(h);
	}
	ublk_bpf_put_hold(h);

	return cut;
}

/* All I/O that is held is asked about again. Context: any that may end I/O. */
void ublk_bpf_give_back(struct ublk_bpf_dev *dev)
{
	for (unsigned int i = 0; i < dev->nr_queues; i++) {
		struct ublk_bpf_queue *q = &dev->queues[i];

		for (unsigned int tag = 0; tag < dev->depth; tag++)
			if (ublk_bpf_cut_hold(&q->tags[tag], NULL))
				ublk_bpf_put_io(&q->tags[tag]);
	}
}

/* What was recorded through a hold is sent from here, then the hold is over. */
static void ublk_bpf_hold_work(struct work_struct *work)
{
	struct ublk_bpf_hold *h = container_of(work, struct ublk_bpf_hold, work);
	struct ublk_bpf_tag *tag = h->ended;

	for (; h->sent < h->rec.nr; h->sent++) {
		if (!ublk_bpf_send_held(tag, &h->ranges[h->sent])) {
			queue_work(h->dev->wq, work);	/* behind what has the memory */
			return;
		}
	}
	ublk_bpf_put_io(tag);
	ublk_bpf_put_hold(h);
}

/*
 * Holds that end where their I/O cannot: in release_io_cmd of another I/O, which
 * would make the stack as deep as there are I/Os; and those that a map let go of,
 * in whatever context and under whatever lock.
 */
static LLIST_HEAD(ublk_bpf_ended);
static void ublk_bpf_ended_fn(struct irq_work *work);
static DEFINE_IRQ_WORK(ublk_bpf_ended_work, ublk_bpf_ended_fn);

static void ublk_bpf_defer_hold(struct ublk_bpf_hold *h)
{
	if (llist_add(&h->node, &ublk_bpf_ended))
		irq_work_queue(&ublk_bpf_ended_work);
}

/* The program is done with a hold, whose reference goes. Context: any but NMI. */
static void ublk_bpf_end_hold(struct ublk_bpf_hold *h, enum ublk_bpf_hold_end end, int res)
{
	struct ublk_bpf_tag *tag = ublk_bpf_take(h, NULL, end, res);

	if (!tag) {
		if (end == UBLK_BPF_HOLD_COMPLETED)
			ublk_bpf_count(h->dev, stale, 1);
		ublk_bpf_put_hold(h);
		return;
	}

	/* the tag's reference of the hold goes with the I/O's */
	h->ended = tag;
	if (h->rec.nr) {
		INIT_WORK(&h->work, ublk_bpf_hold_work);
		queue_work(h->dev->wq, &h->work);
	} else if (ublk_bpf_releasing()) {
		ublk_bpf_defer_hold(h);
	} else {
		ublk_bpf_put_io(tag);
		ublk_bpf_put_hold(h);
	}
	ublk_bpf_put_hold(h);
}

static void ublk_bpf_ended_fn(struct irq_work *work)
{
	struct ublk_bpf_hold *h, *next;

	llist_for_each_entry_safe(h, next, llist_del_all(&ublk_bpf_ended), node) {
		if (h->ended) {
			ublk_bpf_put_io(h->ended);
			ublk_bpf_put_hold(h);
		} else {
			ublk_bpf_end_hold(h, UBLK_BPF_HOLD_RELEASED, 0);
		}
	}
}

/* See ublk_bpf_hold_complete(). */
void ublk_bpf_complete_hold(struct ublk_bpf_hold *h, int res)
{
	ublk_bpf_end_hold(h, UBLK_BPF_HOLD_COMPLETED, res);
}

/* See ublk_bpf_hold_release(). */
void ublk_bpf_release_hold(struct ublk_bpf_hold *h)
{
	ublk_bpf_end_hold(h, UBLK_BPF_HOLD_RELEASED, 0);
}

/* The same for a map. Context: any, NMI too: takes no lock. */
void ublk_bpf_lose_hold(struct ublk_bpf_hold *h)
{
	ublk_bpf_defer_hold(h);
}

/* See ublk_bpf_hold_forward(). Context: any. */
int ublk_bpf_forward_hold(struct ublk_bpf_hold *h, u32 off, u32 bytes, u32 slot, u64 pos)
{
	unsigned long flags;
	int err = -ESTALE;

	raw_spin_lock_irqsave(&h->lock, flags);
	if (h->tag)
		err = ublk_bpf_record(h->tag, NULL, &h->rec, h->ranges, off, bytes, slot, pos);
	raw_spin_unlock_irqrestore(&h->lock, flags);
	if (err == -ESTALE)
		ublk_bpf_count(h->dev, stale, 1);
	return err;
}

/* See ublk_bpf_hold(). Context: a queue callback. */
struct ublk_bpf_hold *ublk_bpf_hold_io(struct ublk_bpf_tag *tag)
{
	struct ublk_bpf_dev *dev = tag->q->dev;
	struct ublk_bpf_hold *h;

	if (!tag->asking || tag->io.flags & (BIT(UBLK_BPF_IO_F_COMPLETED) | BIT(UBLK_BPF_IO_F_HELD))) {
		ublk_bpf_misused(tag, "held an I/O that it cannot hold");
		return NULL;
	}
	if (ublk_bpf_is_stopping(dev))
		return NULL;
	h = mempool_alloc(ublk_bpf_holds, GFP_NOWAIT);
	if (!h)
		return NULL;

	ublk_bpf_get_dev(dev);
	h->dev = dev;
	h->ended = NULL;
	h->sent = 0;
	h->rec = (struct ublk_bpf_record){
		.covered	= tag->rec.covered,
		.last_off	= tag->rec.last_off,
	};
	h->tag = tag;
	raw_spin_lock_init(&h->lock);
	refcount_set(&h->ref, 2);

	ublk_bpf_io_scratch(tag, 0);	/* not by who sends its ranges, at any time */
	ublk_bpf_note_held(tag);
	tag->io.flags |= BIT(UBLK_BPF_IO_F_HELD);
	smp_store_release(&tag->hold, h);
	smp_mb();	/* pairs with ublk_bpf_do_stopping(): one of us sees the other */
	if (unlikely(ublk_bpf_is_stopping(dev)) && ublk_bpf_cut_hold(tag, tag->rq)) {
		tag->io.flags &= ~BIT(UBLK_BPF_IO_F_HELD);
		tag->hold_end = UBLK_BPF_HOLD_NONE;
		ublk_bpf_put_hold(h);
		return NULL;
	}
	ublk_bpf_count(dev, held, 1);
	trace_ublk_bpf_hold(dev->dev_id, tag->rq, 0);
	return h;
}

int ublk_bpf_hold_init(void)
{
	ublk_bpf_hold_cache = KMEM_CACHE(ublk_bpf_hold, 0);
	if (!ublk_bpf_hold_cache)
		return -ENOMEM;
	ublk_bpf_holds = mempool_create_slab_pool(UBLK_BPF_HOLD_POOL, ublk_bpf_hold_cache);
	if (!ublk_bpf_holds) {
		kmem_cache_destroy(ublk_bpf_hold_cache);
		return -ENOMEM;
	}
	return 0;
}

/* No device is left: what goes on is the end of what let go of the last ones. */
void ublk_bpf_hold_exit(void)
{
	irq_work_sync(&ublk_bpf_ended_work);
	rcu_barrier();
	mempool_destroy(ublk_bpf_holds);
	kmem_cache_destroy(ublk_bpf_hold_cache);
}
