// SPDX-License-Identifier: GPL-2.0
/*
 * A device with UBLK_F_BPF: its state, its queue operations, its control
 * commands; the module's start and end.
 */
#include <linux/blk-mq.h>
#include <linux/btf.h>
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "pdu.h"

bool ublk_bpf_site_hit[UBLK_BPF_NR_SITES];

static void ublk_bpf_queue_rqs(struct rq_list *list);

/* The device of a queue, NULL when it is none of ours: only they have our queue_rqs. */
struct ublk_bpf_dev *ublk_bpf_queue_dev(const struct request_queue *q)
{
	const struct blk_mq_ops *ops = q->mq_ops;

	if (!ops || ops->queue_rqs != ublk_bpf_queue_rqs)
		return NULL;
	return container_of((struct blk_mq_ops *)ops, struct ublk_bpf_dev, mq_ops);
}

static struct ublk_bpf_tag *ublk_bpf_rq_tag(struct ublk_bpf_dev *dev, const struct request *rq)
{
	return &dev->queues[rq->mq_hctx->queue_num].tags[rq->tag];
}

/*
 * 7.3: the hook in the file's queue_rqs asks about each request. What is left
 * in the list was not taken, and comes again by queue_rq.
 */
static void ublk_bpf_stock_queue_rqs(struct ublk_bpf_dev *dev, struct rq_list *list,
				     struct ublk_bpf_batch *batch)
{
	struct request *rq;

	rq_list_for_each(list, rq)
		ublk_bpf_rq_tag(dev, rq)->batch = batch;
	dev->stock_ops->queue_rqs(list);
	rq_list_for_each(list, rq)
		ublk_bpf_rq_tag(dev, rq)->batch = NULL;
}

/* 6.12 has none: the same through queue_rq. */
static void ublk_bpf_queue_each_rq(struct ublk_bpf_dev *dev, struct rq_list *list,
				   struct ublk_bpf_batch *batch)
{
	struct rq_list refused = {};
	struct request *rq;

	while ((rq = rq_list_pop(list))) {
		struct blk_mq_queue_data bd = { .rq = rq, .last = rq_list_empty(list) };
		struct ublk_bpf_tag *tag = ublk_bpf_rq_tag(dev, rq);

		WRITE_ONCE(tag->batch, batch);
		if (dev->stock_ops->queue_rq(rq->mq_hctx, &bd) != BLK_STS_OK)
			rq_list_add_tail(&refused, rq);
		/*
		 * What was aborted on the way has not passed our hook. To clear it for
		 * the tag's next I/O, between the two, costs that one its batch.
		 */
		if (READ_ONCE(tag->batch) == batch)
			WRITE_ONCE(tag->batch, NULL);
	}
	*list = refused;
}

/*
 * How many requests of a list may go to one backing, as far as that can be known: that
 * one's tags are taken together then.
 */
static unsigned short ublk_bpf_list_share(const struct ublk_bpf_dev *dev, struct rq_list *list)
{
	unsigned int nr_slots = READ_ONCE(dev->nr_slots), nr = 0;
	struct request *rq;

	if (!nr_slots)
		return 1;
	rq_list_for_each(list, rq)
		nr++;
	return clamp(nr / nr_slots, 1, UBLK_BPF_MAX_NR_IOS);
}

/*
 * A list of requests from a task's plug: what they forward goes out under one
 * plug of ours, so that the backing gets a list as well, and what is done by the
 * end of that ends together.
 */
static void ublk_bpf_queue_rqs(struct rq_list *list)
{
	struct request_queue *q = rq_list_peek(list)->q;
	struct ublk_bpf_dev *dev = ublk_bpf_queue_dev(q);
	struct ublk_bpf_batch batch;

	ublk_bpf_start_batch(&batch, q, ublk_bpf_list_share(dev, list));
	if (dev->stock_ops->queue_rqs)
		ublk_bpf_stock_queue_rqs(dev, list, &batch);
	else
		ublk_bpf_queue_each_rq(dev, list, &batch);
	ublk_bpf_finish_batch(&batch);
}

static atomic_t ublk_bpf_nr_devs;

static void ublk_bpf_free(struct work_struct *work)
{
	struct ublk_bpf_dev *dev = container_of(work, struct ublk_bpf_dev, free_work);

	for (unsigned int i = 0; i < dev->nr_queues; i++) {
		kvfree(dev->queues[i].rooms);
		kvfree(dev->queues[i].tags);
	}
	ublk_bpf_forward_exit_dev(dev);
	free_percpu(dev->counters);
	lockdep_unregister_key(&dev->fq_lock_key);
	kvfree(dev);
	if (atomic_dec_and_test(&ublk_bpf_nr_devs))
		wake_up_var(&ublk_bpf_nr_devs);
}

/* Freed by a worker: the last hold may go in any context. */
void ublk_bpf_put_dev(struct ublk_bpf_dev *dev)
{
	if (refcount_dec_and_test(&dev->ref))
		queue_work(ublk_bpf_free_wq, &dev->free_work);
}

static struct ublk_bpf_dev *ublk_bpf_alloc(const struct ublksrv_ctrl_dev_info *info)
{
	unsigned int nr_queues = info->nr_hw_queues;
	struct ublk_bpf_dev *dev;

	dev = kvzalloc(struct_size(dev, queues, nr_queues), GFP_KERNEL);
	if (!dev)
		return NULL;
	dev->nr_queues = nr_queues;
	dev->depth = info->queue_depth;
	dev->dev_id = info->dev_id;
	lockdep_register_key(&dev->fq_lock_key);
	atomic_inc(&ublk_bpf_nr_devs);
	refcount_set(&dev->ref, 1);
	spin_lock_init(&dev->dying_lock);
	INIT_WORK(&dev->free_work, ublk_bpf_free);
	INIT_WORK(&dev->eject_work, ublk_bpf_eject_work);
	dev->counters = alloc_percpu(struct ublk_bpf_counters);
	if (!dev->counters || ublk_bpf_forward_init_dev(dev))
		goto free;

	for (unsigned int i = 0; i < nr_queues; i++) {
		struct ublk_bpf_queue *q = &dev->queues[i];

		q->dev = dev;
		spin_lock_init(&q->wait_lock);
		q->tags = kvcalloc(info->queue_depth, sizeof(*q->tags), GFP_KERNEL);
		q->rooms = kvcalloc(info->queue_depth, sizeof(*q->rooms), GFP_KERNEL);
		if (!q->tags || !q->rooms)
			goto free;
		for (unsigned int tag = 0; tag < info->queue_depth; tag++) {
			q->tags[tag].q = q;
			q->tags[tag].room = &q->rooms[tag];
			q->tags[tag].io.iod = &q->tags[tag].iod;
		}
	}
	return dev;
free:
	ublk_bpf_put_dev(dev);
	return NULL;
}

/*
 * Without memory to spread the CPUs blk-mq maps all of them to the first queue, and takes
 * the tags of the others away when there is a disk: ublk's cancel would look for them.
 */
static bool ublk_bpf_queues_are_mapped(const struct blk_mq_tag_set *set)
{
	const struct blk_mq_queue_map *map = &set->map[HCTX_TYPE_DEFAULT];
	unsigned int cpu;

	for (unsigned int i = 0; i < set->nr_hw_queues; i++) {
		bool mapped = false;

		for_each_possible_cpu(cpu)
			mapped |= map->mq_map[cpu] == i;
		if (!mapped)
			return false;
	}
	return true;
}

/*
 * BLOCKING: what a program forwards is submitted from queue_rq and may sleep
 * in the backing. No scheduler by default, as with any stacking device.
 */
int ublk_bpf_do_alloc_tag_set(struct blk_mq_tag_set *set, const struct ublksrv_ctrl_dev_info *info,
			      struct ublk_bpf_dev **bpf)
{
	struct ublk_bpf_dev *dev;
	int err;

	if (info->flags & (UBLK_F_ZONED | UBLK_F_NEED_GET_DATA | UBLK_F_UNPRIVILEGED_DEV |
			   UBLK_F_INTEGRITY))
		return -EINVAL;
	/* as 7.3 has it; 6.12 does not know that flag */
	if (info->flags & UBLK_F_USER_RECOVERY_FAIL_IO &&
	    (info->flags & (UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE)) !=
	    UBLK_F_USER_RECOVERY)
		return -EINVAL;

	dev = ublk_bpf_alloc(info);
	if (!dev)
		return -ENOMEM;
	dev->set = set;
	dev->recover = info->flags & UBLK_F_USER_RECOVERY;
	dev->wait_alone = dev->recover && !(info->flags & UBLK_F_USER_RECOVERY_FAIL_IO);
	dev->stock_ops = set->ops;
	dev->mq_ops = *set->ops;
	dev->mq_ops.queue_rqs = ublk_bpf_queue_rqs;
	set->ops = &dev->mq_ops;
	dev->pdu = ALIGN(set->cmd_size, sizeof(long));
	set->cmd_size = dev->pdu + sizeof(struct ublk_bpf_pdu);
	set->flags |= BLK_MQ_F_BLOCKING | BLK_MQ_F_NO_SCHED_BY_DEFAULT;

	err = blk_mq_alloc_tag_set(set);
	if (!err && !ublk_bpf_queues_are_mapped(set)) {
		blk_mq_free_tag_set(set);
		err = -ENOMEM;
	}
	if (err) {
		ublk_bpf_put_dev(dev);
		return err;
	}
	*bpf = dev;
	ublk_bpf_enter_stack(dev);
	return 0;
}

/* See ublk_bpf_stopping(). */
void ublk_bpf_do_stopping(struct ublk_bpf_dev *dev)
{
	WRITE_ONCE(dev->stopping, true);
	smp_mb();	/* pairs with ublk_bpf_hold_io() */
	ublk_bpf_give_back(dev);
	ublk_bpf_end_wait(dev, -EIO);
}

/* Its server dies in START_DEV, as far as that is known: as above, until that is over. */
static void ublk_bpf_desert(struct ublk_bpf_dev *dev)
{
	WRITE_ONCE(dev->deserted, true);
	smp_mb();	/* pairs with ublk_bpf_hold_io() */
	if (READ_ONCE(dev->starting)) {
		ublk_bpf_give_back(dev);
		ublk_bpf_end_wait(dev, -EIO);
	}
	/* pairs with ublk_bpf_do_started() */
	if (!READ_ONCE(dev->starting))
		WRITE_ONCE(dev->deserted, false);
}

/*
 * A device that cannot live without its server ends, and nothing is held any more. One
 * that is not there yet does not wait for another: START_DEV may have to come back. Not
 * under ub->mutex: by the end of this START_DEV may be over, and the device stop.
 */
void ublk_bpf_do_server_dies(struct ublk_bpf_dev *dev, struct request_queue *q)
{
	bool starting = READ_ONCE(dev->starting);

	if (!dev->recover)
		ublk_bpf_do_stopping(dev);
	else if (starting)
		ublk_bpf_desert(dev);
	if (starting)
		blk_mq_kick_requeue_list(q);
}

bool ublk_bpf_do_is_starting(const struct ublk_bpf_queue *q)
{
	return READ_ONCE(q->dev->starting);
}

/*
 * Writeback throttling watches the latency of a disk of its own. The backing's does
 * that for what is forwarded; a second one on top only costs time. Not from user space:
 * a server would wait for its own I/O there. And what could not be held or wait in
 * START_DEV can from here on.
 */
void ublk_bpf_do_started(struct ublk_bpf_dev *dev, struct gendisk *disk, int server)
{
	WRITE_ONCE(dev->server, server);
	ublk_bpf_disable_wbt(disk);
	WRITE_ONCE(dev->starting, false);
	smp_store_release(&dev->deserted, false);
}

u64 ublk_bpf_do_flags(void)
{
	return UBLK_F_BPF | UBLK_F_USER_RECOVERY_FAIL_IO;
}

/* See ublk_bpf_alone(). */
bool ublk_bpf_do_alone(const struct ublk_bpf_queue *q)
{
	return q->dev->recover;
}

/*
 * 6.12 marks the queues one by one, as their tasks end. All of them have lost
 * their server, and nothing of theirs is with it any more.
 */
void ublk_bpf_do_quiesced(struct ublk_bpf_dev *dev, struct request_queue *q)
{
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		WRITE_ONCE(*dev->queues[i].canceling, true);
	WRITE_ONCE(dev->alone, true);
	blk_mq_unquiesce_queue(q);
	blk_mq_kick_requeue_list(q);
	/* a request is idle before it is on that list */
	blk_mq_delay_kick_requeue_list(q, 100);
}

/* See ublk_bpf_last_server(). Who cannot be recovered is told so, not that it is busy. */
bool ublk_bpf_do_last_server(const struct ublk_bpf_dev *dev, bool open,
			     struct work_struct *quiesce_work)
{
	if (!dev->recover)
		return false;
	if (open)
		return true;
	smp_rmb();	/* pairs with ublk_ch_release(): what it scheduled is seen */
	flush_work(quiesce_work);
	return false;
}

/* See ublk_bpf_start_recovery(). Under ub->mutex. */
bool ublk_bpf_do_start_recovery(struct ublk_bpf_queue *q)
{
	struct ublk_bpf_dev *dev = q->dev;

	WRITE_ONCE(dev->alone, false);
	WRITE_ONCE(dev->server, 0);	/* not known until END_USER_RECOVERY */
	spin_lock(&dev->dying_lock);
	dev->dying = false;
	spin_unlock(&dev->dying_lock);
	return true;
}

/*
 * Before anybody looks at whether there is a disk, whose queues take I/O: see
 * ublk_bpf_do_may_start() and ublk_bpf_do_alive().
 */
void ublk_bpf_do_cancel_cmds(struct ublk_bpf_dev *dev)
{
	spin_lock(&dev->dying_lock);
	dev->dying = true;
	spin_unlock(&dev->dying_lock);
}

/*
 * See ublk_bpf_may_start(). START_DEV comes from any process, at any time: also when the
 * server has died since it fetched, or when the device has been stopped or deleted. Who
 * cancels later finds the disk.
 */
bool ublk_bpf_do_may_start(struct ublk_bpf_dev *dev)
{
	bool dying;

	spin_lock(&dev->dying_lock);
	dying = dev->dying;
	spin_unlock(&dev->dying_lock);
	return !dying;
}

/*
 * See ublk_bpf_alive(). A server that ends before this is not to get I/O; where one
 * ends later the driver finds queues that take I/O, and ends that itself.
 */
bool ublk_bpf_do_alive(struct ublk_bpf_dev *dev)
{
	bool alive;

	spin_lock(&dev->dying_lock);
	alive = !dev->dying;
	/* all commands are there for who sees that their queue takes I/O */
	for (unsigned int i = 0; alive && i < dev->nr_queues; i++)
		smp_store_release(dev->queues[i].canceling, false);
	spin_unlock(&dev->dying_lock);

	return alive;
}

/* See ublk_bpf_end_recovery(). */
void ublk_bpf_do_end_recovery(struct ublk_bpf_dev *dev, int server)
{
	WRITE_ONCE(dev->server, server);
	WRITE_ONCE(dev->stopping, false);
	ublk_bpf_end_wait(dev, 0);
}

/* Take everything off a device that has no I/O any more. May sleep. */
void ublk_bpf_do_stop_dev(struct ublk_bpf_dev *dev)
{
	ublk_bpf_detach(dev);
	cancel_work_sync(&dev->eject_work);
	ublk_bpf_clear_slots(dev);
	WRITE_ONCE(dev->server, 0);	/* not known until START_DEV is over */
}

void ublk_bpf_do_free_dev(struct ublk_bpf_dev *dev)
{
	ublk_bpf_do_stop_dev(dev);
	ublk_bpf_leave_stack(dev);
	ublk_bpf_put_dev(dev);
}

struct ublk_bpf_queue *ublk_bpf_do_init_hctx(struct ublk_bpf_dev *dev, struct blk_mq_hw_ctx *hctx,
					     bool *canceling)
{
	struct ublk_bpf_queue *q = &dev->queues[hctx->queue_num];

	q->canceling = canceling;
	ublk_bpf_prevent_wbt(hctx->queue);
	/* a flush of a backing ends ours under its own lock of this kind */
	blk_mq_hctx_set_fq_lock_class(hctx, &dev->fq_lock_key);
	return q;
}

/* A program answers with the bytes of an I/O in an int. */
#define UBLK_BPF_MAX_SECTORS	(SZ_1G >> SECTOR_SHIFT)

/*
 * START_DEV: I/O that a program could not answer or a backing could not take must
 * not be let in.
 */
void ublk_bpf_do_stack_limits(struct ublk_bpf_dev *dev, struct queue_limits *lim)
{
	lim->max_hw_discard_sectors = min(lim->max_hw_discard_sectors, UBLK_BPF_MAX_SECTORS);
	lim->max_write_zeroes_sectors = min(lim->max_write_zeroes_sectors, UBLK_BPF_MAX_SECTORS);

	for (u32 slot = 0; slot < UBLK_BPF_MAX_SLOTS; slot++) {
		struct ublk_bpf_backing *backing = ublk_bpf_backing_tryget(dev, slot);

		if (!backing)
			continue;
		lim->dma_alignment = max(lim->dma_alignment, backing->dma_alignment);
		lim->logical_block_size = max(lim->logical_block_size, backing->block);
		lim->physical_block_size = max(lim->physical_block_size, backing->block);
		if (backing->has_cache)
			lim->features |= BLK_FEAT_WRITE_CACHE;
		if (backing->stable)
			lim->features |= BLK_FEAT_STABLE_WRITES;
		percpu_ref_put(&backing->ref);
	}
	WRITE_ONCE(dev->stopping, false);
	WRITE_ONCE(dev->deserted, false);
	WRITE_ONCE(dev->starting, true);
}

static void ublk_bpf_get_stats(struct ublk_bpf_dev *dev, struct ublk_bpf_stats *stats)
{
	int cpu;

	stats->state = dev->state;
	stats->flags = dev->attach_flags;
	stats->prog_id = dev->prog_id;
	stats->cookie = dev->cookie;
	if (dev->state == UBLK_BPF_STATE_EJECTED)
		memcpy(stats->eject_reason, dev->eject_reason, sizeof(stats->eject_reason));
	for (u32 slot = 0; slot < UBLK_BPF_MAX_SLOTS; slot++)
		if (rcu_access_pointer(dev->slots[slot]))
			stats->slots |= 1ULL << slot;

	for (unsigned int i = 0; i < dev->nr_queues; i++)
		stats->waiting += READ_ONCE(dev->queues[i].nr_waiting);
	for_each_possible_cpu(cpu) {
		const struct ublk_bpf_counters *c = per_cpu_ptr(dev->counters, cpu);

		stats->done += c->done;
		stats->done_bytes += c->done_bytes;
		stats->fwd_inline += c->fwd_inline;
		stats->fwd_worker += c->fwd_worker;
		stats->fwd_bytes += c->fwd_bytes;
		stats->redirected += c->redirected;
		stats->rerun += c->rerun;
		stats->failed += c->failed;
		stats->unfinished += c->unfinished;
		stats->misused += c->misused;
		stats->held += c->held;
		stats->stale += c->stale;
	}
}

union ublk_bpf_arg {
	struct ublk_bpf_attach	attach;
	struct ublk_bpf_detach	detach;
	struct ublk_bpf_slot	slot;
	struct ublk_bpf_stats	stats;
	struct ublk_bpf_size	size;
};

static bool ublk_bpf_slot_arg_ok(const struct ublk_bpf_slot *slot, bool set)
{
	return !slot->pad && !memchr_inv(slot->reserved, 0, sizeof(slot->reserved)) &&
	       (set ? !(slot->flags & ~(UBLK_BPF_SLOT_DROP_CACHE | UBLK_BPF_SLOT_BUFFERED)) : !slot->flags && !slot->fd);
}

/* See struct ublk_bpf_size in the uapi. Under ub->mutex. */
static int ublk_bpf_set_size(struct ublk_bpf_dev *dev, struct ublk_params *params, u64 bytes)
{
	struct gendisk *disk = ublk_bpf_get_disk(dev);
	int err = -EINVAL;

	if (!disk)
		return -EBUSY;
	if (bytes && bytes <= LLONG_MAX && !(bytes & (queue_logical_block_size(disk->queue) - 1))) {
		params->basic.dev_sectors = bytes >> SECTOR_SHIFT;
		set_capacity_and_notify(disk, bytes >> SECTOR_SHIFT);
		err = 0;
	}
	put_disk(disk);
	return err;
}

/* See the uapi for the commands and their errors. Context: task, may sleep. */
int ublk_bpf_do_ctrl_cmd(struct ublk_bpf_dev *dev, struct mutex *mutex, struct ublk_params *params,
			 u32 cmd_op, const struct ublksrv_ctrl_cmd *header)
{
	void __user *addr = (void __user *)(unsigned long)header->addr;
	u32 size = _IOC_SIZE(cmd_op);
	union ublk_bpf_arg arg = {};
	int ret;

	switch (cmd_op) {
	case UBLK_U_CMD_BPF_ATTACH:
	case UBLK_U_CMD_BPF_DETACH:
	case UBLK_U_CMD_BPF_SET_SLOT:
	case UBLK_U_CMD_BPF_CLEAR_SLOT:
	case UBLK_U_CMD_BPF_GET_SLOT:
	case UBLK_U_CMD_BPF_GET_STATS:
	case UBLK_U_CMD_BPF_SET_SIZE:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (header->queue_id != (u16)-1 || header->len != size)
		return -EINVAL;
	if (copy_from_user(&arg, addr, size))
		return -EFAULT;

	switch (cmd_op) {
	case UBLK_U_CMD_BPF_ATTACH:
		if (arg.attach.flags & ~UBLK_BPF_ATTACH_FALLBACK ||
		    memchr_inv(arg.attach.reserved, 0, sizeof(arg.attach.reserved)))
			return -EINVAL;
		mutex_lock(mutex);
		ret = ublk_bpf_attach(dev, &arg.attach);
		mutex_unlock(mutex);
		return ret;

	case UBLK_U_CMD_BPF_DETACH:
		if (memchr_inv(&arg.detach, 0, sizeof(arg.detach)))
			return -EINVAL;
		return ublk_bpf_detach(dev);

	case UBLK_U_CMD_BPF_SET_SLOT:
		if (!ublk_bpf_slot_arg_ok(&arg.slot, true))
			return -EINVAL;
		return ublk_bpf_set_slot(dev, mutex, arg.slot.slot, arg.slot.fd, arg.slot.flags);

	case UBLK_U_CMD_BPF_CLEAR_SLOT:
		if (!ublk_bpf_slot_arg_ok(&arg.slot, false))
			return -EINVAL;
		return ublk_bpf_clear_slot(dev, mutex, arg.slot.slot);

	case UBLK_U_CMD_BPF_GET_SLOT:
		if (!ublk_bpf_slot_arg_ok(&arg.slot, false))
			return -EINVAL;
		return ublk_bpf_get_slot(dev, mutex, arg.slot.slot, addr +
					 offsetof(struct ublk_bpf_slot, fd));

	case UBLK_U_CMD_BPF_SET_SIZE:
		if (memchr_inv(arg.size.reserved, 0, sizeof(arg.size.reserved)))
			return -EINVAL;
		mutex_lock(mutex);
		ret = ublk_bpf_set_size(dev, params, arg.size.bytes);
		mutex_unlock(mutex);
		return ret;

	default:
		if (arg.stats.pad ||
		    memchr_inv(arg.stats.reserved, 0, sizeof(arg.stats.reserved)))
			return -EINVAL;
		arg.stats = (struct ublk_bpf_stats){};
		ublk_bpf_get_stats(dev, &arg.stats);
		return copy_to_user(addr, &arg.stats, size) ? -EFAULT : 0;
	}
}

#define UBLK_BPF_SITE_NAME(name)	#name,
static const char * const ublk_bpf_site_names[] = { UBLK_BPF_SITES(UBLK_BPF_SITE_NAME) };

/* parameters/hooks: which hooks were gone through, a line each */
static int ublk_bpf_get_hooks(char *buffer, const struct kernel_param *kp)
{
	int len = 0;

	for (unsigned int i = 0; i < UBLK_BPF_NR_SITES; i++)
		len += sysfs_emit_at(buffer, len, "%s %d\n", ublk_bpf_site_names[i],
				     READ_ONCE(ublk_bpf_site_hit[i]));
	return len;
}

static const struct kernel_param_ops ublk_bpf_hooks_ops = {
	.get = ublk_bpf_get_hooks,
};

module_param_cb(hooks, &ublk_bpf_hooks_ops, NULL, 0444);
MODULE_PARM_DESC(hooks, "hooks of ublk-bpf that were gone through (read only)");
MODULE_INFO(ublk_bpf, "1");

int ublk_bpf_do_init(void)
{
	int err;

	err = ublk_bpf_forward_init();
	if (err)
		return err;
	err = ublk_bpf_hold_init();
	if (err)
		goto forward_exit;
	err = ublk_bpf_slot_init();
	if (err)
		goto hold_exit;

	/* without BTF in the module this succeeds and registers nothing */
	if (!IS_ENABLED(CONFIG_DEBUG_INFO_BTF_MODULES))
		pr_warn("ublk_bpf: this kernel has no BTF for modules: no program can be loaded\n");
	err = ublk_bpf_ops_init();
	if (err) {
		pr_err("ublk_bpf: cannot register struct ublk_bpf_ops: %d\n", err);
		goto slot_exit;
	}
	return 0;

slot_exit:
	ublk_bpf_slot_exit();
hold_exit:
	ublk_bpf_hold_exit();
forward_exit:
	ublk_bpf_forward_exit();
	return err;
}

/* A device is freed when the last of its holds is, which may be now. */
void ublk_bpf_exit(void)
{
	wait_var_event(&ublk_bpf_nr_devs, !atomic_read(&ublk_bpf_nr_devs));
	ublk_bpf_slot_exit();
	ublk_bpf_hold_exit();
	ublk_bpf_forward_exit();
}
