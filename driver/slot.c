// SPDX-License-Identifier: GPL-2.0
/*
 * Backings: the open files that a device's slots are set to.
 *
 * A backing is found under RCU and held by a percpu_ref, one each range and bio
 * in flight. Taking it out of its slot kills the reference; the last one lets a
 * work item close the file, since a bio may end in interrupt context.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/uaccess.h>
#include <linux/wait_bit.h>
#include "internal.h"

static void ublk_bpf_backing_free_work(struct work_struct *work)
{
	struct ublk_bpf_backing *backing = container_of(work, struct ublk_bpf_backing, free_work);
	struct ublk_bpf_dev *dev = backing->dev;

	/* at once: who waits for this may open or lock the file next */
	if (backing->io_file != backing->file)
		__fput_sync(backing->io_file);
	__fput_sync(backing->file);
	if (backing->lower)
		ublk_bpf_put_dev(backing->lower);
	percpu_ref_exit(&backing->ref);
	kfree_rcu_mightsleep(backing);
	/* the device may go at once: no wait queue of its own is touched */
	atomic_dec_and_wake_up(&dev->dying_slots);
}

/* Context: any, a bio's end. */
static void ublk_bpf_backing_release(struct percpu_ref *ref)
{
	struct ublk_bpf_backing *backing = container_of(ref, struct ublk_bpf_backing, ref);

	queue_work(ublk_bpf_free_wq, &backing->free_work);
}

/* The smallest unit of direct I/O to a file: in the file, and in memory. */
static int ublk_bpf_file_align(const struct file *file, unsigned int *block, unsigned int *mem)
{
	struct kstat stat = {};
	int err;

	err = vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT);
	if (err)
		return err;
	*block = SECTOR_SIZE;
	*mem = SECTOR_SIZE;
	if (stat.result_mask & STATX_DIOALIGN) {
		if (!stat.dio_offset_align)
			return -EINVAL;		/* no direct I/O */
		*block = max_t(unsigned int, stat.dio_offset_align, SECTOR_SIZE);
		*mem = stat.dio_mem_align;
	}
	return 0;
}

/*
 * May a driver sleep for a request of @bdev, or of what is below it? NULL: not known. A file
 * system on several disks names the first; where another sleeps, I/O of this list waits.
 */
static bool ublk_bpf_issue_sleeps(struct block_device *bdev)
{
	struct request_queue *q = bdev ? bdev_get_queue(bdev) : NULL;

	return !q || !queue_is_mq(q) || q->tag_set->flags & BLK_MQ_F_BLOCKING;
}

/*
 * Note whose server it is that @bdev, or what @sb is on, may wait for. Not known are that
 * of a stock ublk disk, and what a file system is on that does not say so.
 */
static void ublk_bpf_note_lower(struct ublk_bpf_backing *backing, struct block_device *bdev,
				const struct super_block *sb)
{
	const struct request_queue *q = bdev ? bdev_get_queue(bdev) : NULL;

	if (!q) {
		backing->own_servers = sb->s_type->fs_flags & FS_REQUIRES_DEV;
		return;
	}
	backing->lower = ublk_bpf_queue_dev(q);
	if (backing->lower)
		ublk_bpf_get_dev(backing->lower);
	else
		backing->own_servers = q->mq_ops &&
				       q->mq_ops->init_hctx == backing->dev->mq_ops.init_hctx;
}

/*
 * Make a backing of an open file. Takes over the reference of @file on success.
 * I/O to a regular file goes through an open file of our own: direct unless @flags say
 * otherwise, and without the time stamps that a read would start a transaction for.
 */
static struct ublk_bpf_backing *ublk_bpf_backing_alloc(struct ublk_bpf_dev *dev,
						       struct file *file, u32 flags)
{
	struct inode *inode = file_inode(file);
	struct ublk_bpf_backing *backing;
	struct block_device *bdev;
	int err;

	if (!(file->f_mode & FMODE_READ))
		return ERR_PTR(-EINVAL);

	backing = kzalloc(sizeof(*backing), GFP_KERNEL);
	if (!backing)
		return ERR_PTR(-ENOMEM);
	backing->dev = dev;
	backing->file = file;
	backing->io_file = file;
	backing->writable = file->f_mode & FMODE_WRITE;
	backing->buffered = flags & UBLK_BPF_SLOT_BUFFERED;
	INIT_WORK(&backing->free_work, ublk_bpf_backing_free_work);

	err = -EINVAL;
	if (S_ISBLK(inode->i_mode) && !backing->buffered) {
		backing->bdev = file_bdev(file);
		backing->writable &= !bdev_read_only(backing->bdev);
		backing->block = bdev_logical_block_size(backing->bdev);
		backing->dma_alignment = bdev_dma_alignment(backing->bdev);
		backing->can_discard = bdev_max_discard_sectors(backing->bdev);
		backing->has_cache = bdev_write_cache(backing->bdev);
		backing->stable = bdev_stable_writes(backing->bdev);
	} else if (S_ISREG(inode->i_mode)) {
		int mode = (file->f_flags & O_ACCMODE) | O_NOATIME | O_LARGEFILE |
			   (backing->buffered ? 0 : O_DIRECT);
		unsigned int mem = 1;

		if (!file->f_op->read_iter || (backing->writable && !file->f_op->write_iter))
			goto free;
		backing->block = SECTOR_SIZE;
		err = backing->buffered ? 0 : ublk_bpf_file_align(file, &backing->block, &mem);
		if (err)
			goto free;
		backing->dma_alignment = mem - 1;
		backing->can_discard = file->f_op->fallocate;
		backing->has_cache = true;
		backing->stable = !backing->buffered && inode->i_sb->s_iflags & SB_I_STABLE_WRITES;
		backing->io_file = dentry_open(&file->f_path, mode, current_cred());
		if (IS_ERR(backing->io_file)) {
			err = PTR_ERR(backing->io_file);
			goto free;
		}
	} else {
		goto free;
	}

	bdev = backing->bdev ?: inode->i_sb->s_bdev;
	backing->issue_sleeps = ublk_bpf_issue_sleeps(bdev);
	err = percpu_ref_init(&backing->ref, ublk_bpf_backing_release, 0, GFP_KERNEL);
	if (err)
		goto put_io_file;
	ublk_bpf_note_lower(backing, bdev, inode->i_sb);
	return backing;

put_io_file:
	if (backing->io_file != file)
		fput(backing->io_file);
free:
	kfree(backing);
	return ERR_PTR(err);
}

/* A backing that was never in a slot: goes like one that was. */
static void ublk_bpf_backing_drop(struct ublk_bpf_backing *backing)
{
	atomic_inc(&backing->dev->dying_slots);
	percpu_ref_kill(&backing->ref);
}

/* Put @backing, or nothing, into a slot; what was there goes when its I/O ends. */
static bool ublk_bpf_swap_slot(struct ublk_bpf_dev *dev, u32 slot,
			       struct ublk_bpf_backing *backing)
{
	struct ublk_bpf_backing *old;

	old = rcu_replace_pointer(dev->slots[slot], backing, true);
	WRITE_ONCE(dev->nr_slots, dev->nr_slots + !!backing - !!old);
	if (backing && backing->can_discard)
		dev->discards |= BIT(slot);
	else if (backing)
		dev->discards &= ~BIT(slot);
	if (!old)
		return false;
	atomic_inc(&dev->dying_slots);
	percpu_ref_kill(&old->ref);
	return true;
}

/* Not under ub->mutex: a backing may take its time. */
static int ublk_bpf_wait_dying(struct ublk_bpf_dev *dev)
{
	return wait_var_event_killable(&dev->dying_slots, !atomic_read(&dev->dying_slots)) ? -EINTR : 0;
}

/* Could the disk, if there is one, let in what @backing cannot take? Under ub->mutex. */
static bool ublk_bpf_disk_is_laxer(struct ublk_bpf_dev *dev, u32 slot,
				   const struct ublk_bpf_backing *backing)
{
	struct request_queue *q;
	bool laxer = false;

	mutex_lock(&dev->set->tag_list_lock);
	q = list_first_entry_or_null(&dev->set->tag_list, struct request_queue, tag_set_list);
	if (q)
		laxer = backing->dma_alignment > queue_dma_alignment(q) ||
			backing->block > queue_logical_block_size(q) ||
			(backing->has_cache && !blk_queue_write_cache(q)) ||
			(backing->stable && !(q->limits.features & BLK_FEAT_STABLE_WRITES)) ||
			(dev->discards & BIT(slot) && !backing->can_discard &&
			 q->limits.max_discard_sectors);
	mutex_unlock(&dev->set->tag_list_lock);

	return laxer;
}

/* A page that is dropped may be read by an I/O that waits. Under ub->mutex. */
static bool ublk_bpf_waits_for_server(const struct ublk_bpf_dev *dev)
{
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		if (READ_ONCE(*dev->queues[i].canceling) || READ_ONCE(dev->queues[i].nr_waiting))
			return true;
	return false;
}

/* The disk, or NULL; it stays as long as tag_list_lock is held. */
static struct gendisk *ublk_bpf_disk_locked(const struct ublk_bpf_dev *dev)
{
	struct request_queue *q = list_first_entry_or_null(&dev->set->tag_list,
							   struct request_queue, tag_set_list);

	return q ? q->disk : NULL;
}

/* The disk, with a reference, or NULL. One that START_DEV gave up may be at its end. */
struct gendisk *ublk_bpf_get_disk(struct ublk_bpf_dev *dev)
{
	struct gendisk *disk;

	mutex_lock(&dev->set->tag_list_lock);
	disk = ublk_bpf_disk_locked(dev);
	if (disk && !kobject_get_unless_zero(&disk_to_dev(disk)->kobj))
		disk = NULL;
	mutex_unlock(&dev->set->tag_list_lock);

	return disk;
}

/* What is dropped waits for pages that are read, so a worker does it. */
struct ublk_bpf_drop {
	struct work_struct	work;
	struct gendisk		*disk;	/* holds a reference */
	struct completion	done;
	refcount_t		ref;	/* the worker's and the command's */
};

static struct workqueue_struct *ublk_bpf_drop_wq;

static void ublk_bpf_put_drop(struct ublk_bpf_drop *drop)
{
	if (refcount_dec_and_test(&drop->ref))
		kfree(drop);
}

/* Forget what was read of the disk and its partitions. Dirty pages stay. */
static void ublk_bpf_drop_work(struct work_struct *work)
{
	struct ublk_bpf_drop *drop = container_of(work, struct ublk_bpf_drop, work);
	struct gendisk *disk = drop->disk;
	struct block_device *part;
	unsigned long i;

	rcu_read_lock();
	xa_for_each(&disk->part_tbl, i, part) {
		if (!kobject_get_unless_zero(&part->bd_device.kobj))
			continue;
		rcu_read_unlock();
		invalidate_inode_pages2(part->bd_mapping);
		put_device(&part->bd_device);
		rcu_read_lock();
	}
	rcu_read_unlock();

	put_disk(disk);
	complete(&drop->done);
	ublk_bpf_put_drop(drop);
}

static struct ublk_bpf_drop *ublk_bpf_alloc_drop(void)
{
	struct ublk_bpf_drop *drop = kzalloc(sizeof(*drop), GFP_KERNEL);

	if (!drop)
		return NULL;
	INIT_WORK(&drop->work, ublk_bpf_drop_work);
	init_completion(&drop->done);
	refcount_set(&drop->ref, 1);
	return drop;
}

/*
 * Drop the cache of a disk, if there is one: takes over both. Context: task, sleeps
 * until that is done, or it is killed, after which it is done all the same.
 */
static int ublk_bpf_drop_cache(struct ublk_bpf_drop *drop, struct gendisk *disk)
{
	int err = 0;

	if (disk) {
		drop->disk = disk;
		refcount_inc(&drop->ref);
		queue_work(ublk_bpf_drop_wq, &drop->work);
		err = wait_for_completion_killable(&drop->done) ? -EINTR : 0;
	}
	ublk_bpf_put_drop(drop);
	return err;
}

#define UBLK_BPF_MAX_STACK	16	/* devices on devices */

/* All devices, and what their slots lead to; inside ub->mutex. */
static DEFINE_MUTEX(ublk_bpf_stack_lock);
static LIST_HEAD(ublk_bpf_stack);

/* Something of a device's disk is held by a file system: @sb, or @type before 6.17. */
static bool ublk_bpf_is_below_sb(struct ublk_bpf_dev *dev, const struct super_block *sb)
{
	struct block_device *part;
	struct gendisk *disk;
	unsigned long nr;
	bool below = false;

	mutex_lock(&dev->set->tag_list_lock);
	disk = ublk_bpf_disk_locked(dev);
	rcu_read_lock();
	if (disk) {
		xa_for_each(&disk->part_tbl, nr, part) {
			const void *holder = READ_ONCE(part->bd_holder);

			below |= holder == sb || holder == sb->s_type;
		}
	}
	rcu_read_unlock();
	mutex_unlock(&dev->set->tag_list_lock);
	return below;
}

/* @lower is below a device of @level. Return: 1 when that was news; -ELOOP too deep. */
static int ublk_bpf_sink(struct ublk_bpf_dev *lower, unsigned int level)
{
	if (lower->level > level)
		return 0;
	lower->level = level + 1;
	return lower->level > UBLK_BPF_MAX_STACK ? -ELOOP : 1;
}

/* An error, or whether any of two was news. */
static int ublk_bpf_sunk(int one, int other)
{
	if (one < 0 || other < 0)
		return min(one, other);
	return one | other;
}

/*
 * What I/O to a backing comes to, a file's by its file system, is below @level. With
 * @guess, a file system that does not say what it is on is on all that hold one of its kind.
 */
static int ublk_bpf_sink_backing(const struct ublk_bpf_backing *backing, unsigned int level,
				 bool guess)
{
	const struct super_block *sb = d_real_inode(file_dentry(backing->file))->i_sb;
	struct block_device *bdev = backing->bdev ?: sb->s_bdev;
	struct ublk_bpf_dev *lower;
	int ret = 0;

	if (bdev) {
		lower = ublk_bpf_queue_dev(bdev_get_queue(bdev));
		return lower ? ublk_bpf_sink(lower, level) : 0;
	}
	if (!guess || !(sb->s_type->fs_flags & FS_REQUIRES_DEV))
		return 0;
	list_for_each_entry(lower, &ublk_bpf_stack, stack_node)
		if (ublk_bpf_is_below_sb(lower, sb))
			ret = ublk_bpf_sunk(ret, ublk_bpf_sink(lower, level));
	return ret;
}

static int ublk_bpf_sink_slots(struct ublk_bpf_dev *upper, u32 except, unsigned int level,
			       bool guess)
{
	int ret = 0;

	for (u32 slot = 0; slot < UBLK_BPF_MAX_SLOTS; slot++) {
		struct ublk_bpf_backing *backing = NULL;

		if (slot != except)
			backing = ublk_bpf_backing_tryget(upper, slot);
		if (!backing)
			continue;
		ret = ublk_bpf_sunk(ret, ublk_bpf_sink_backing(backing, level, guess));
		percpu_ref_put(&backing->ref);
	}
	return ret;
}

static void ublk_bpf_raise_all(void)
{
	struct ublk_bpf_dev *dev;

	list_for_each_entry(dev, &ublk_bpf_stack, stack_node)
		dev->level = 0;
}

/* Does I/O to @backing come to @dev? All that it comes to sinks to level 1. */
static bool ublk_bpf_leads_to(const struct ublk_bpf_backing *backing,
			      const struct ublk_bpf_dev *dev)
{
	struct ublk_bpf_dev *upper;
	int news;

	ublk_bpf_raise_all();
	news = ublk_bpf_sink_backing(backing, 0, true);
	while (news && !dev->level) {
		news = 0;
		list_for_each_entry(upper, &ublk_bpf_stack, stack_node)
			if (upper->level)
				news |= ublk_bpf_sink_slots(upper, UBLK_BPF_MAX_SLOTS, 0, true);
	}
	return dev->level;
}

/*
 * Would I/O go through too many devices with @backing in @slot of @dev? Each sinks below
 * all that are known to lead to it; there is no circle.
 */
static bool ublk_bpf_is_too_deep(const struct ublk_bpf_dev *dev, u32 slot,
				 const struct ublk_bpf_backing *backing)
{
	struct ublk_bpf_dev *upper;
	int ret;

	ublk_bpf_raise_all();
	ret = ublk_bpf_sink_backing(backing, dev->level, false);
	while (ret > 0) {
		ret = ublk_bpf_sink_backing(backing, dev->level, false);
		list_for_each_entry(upper, &ublk_bpf_stack, stack_node)
			ret = ublk_bpf_sunk(ret, ublk_bpf_sink_slots(upper,
					upper == dev ? slot : UBLK_BPF_MAX_SLOTS, upper->level,
					false));
	}
	return ret < 0;
}

/* Can the disk's I/O go to @backing? Under ub->mutex and ublk_bpf_stack_lock. */
static int ublk_bpf_check_backing(struct ublk_bpf_dev *dev, u32 slot,
				  const struct ublk_bpf_backing *backing)
{
	/* what lies between (device mapper, a loop device) is not looked into */
	if (ublk_bpf_leads_to(backing, dev) || ublk_bpf_is_too_deep(dev, slot, backing))
		return -ELOOP;
	return ublk_bpf_disk_is_laxer(dev, slot, backing) ? -EINVAL : 0;
}

/* A device comes, and goes: with no I/O any more, but with slots, maybe. */
void ublk_bpf_enter_stack(struct ublk_bpf_dev *dev)
{
	mutex_lock(&ublk_bpf_stack_lock);
	list_add(&dev->stack_node, &ublk_bpf_stack);
	mutex_unlock(&ublk_bpf_stack_lock);
}

void ublk_bpf_leave_stack(struct ublk_bpf_dev *dev)
{
	mutex_lock(&ublk_bpf_stack_lock);
	list_del(&dev->stack_node);
	mutex_unlock(&ublk_bpf_stack_lock);
}

/* See struct ublk_bpf_slot in the uapi. Context: task, without ub->mutex. */
int ublk_bpf_set_slot(struct ublk_bpf_dev *dev, struct mutex *mutex, u32 slot, int fd, u32 flags)
{
	struct ublk_bpf_backing *backing;
	struct ublk_bpf_drop *drop = NULL;
	struct gendisk *disk = NULL;
	bool replaced = false;
	struct file *file;
	int err;

	if (slot >= UBLK_BPF_MAX_SLOTS)
		return -EINVAL;
	file = fget(fd);
	if (!file)
		return -EBADF;
	if (flags & UBLK_BPF_SLOT_DROP_CACHE) {
		drop = ublk_bpf_alloc_drop();
		if (!drop) {
			err = -ENOMEM;
			goto put_file;
		}
	}
	backing = ublk_bpf_backing_alloc(dev, file, flags);
	if (IS_ERR(backing)) {
		err = PTR_ERR(backing);
		goto free_drop;
	}

	/* who holds it may wait for this very server, which can only be killed then */
	if (mutex_lock_killable(mutex)) {
		ublk_bpf_backing_drop(backing);
		kfree(drop);
		return -EINTR;
	}
	if (drop)
		disk = ublk_bpf_get_disk(dev);
	mutex_lock(&ublk_bpf_stack_lock);
	err = disk && ublk_bpf_waits_for_server(dev) ? -EBUSY : ublk_bpf_check_backing(dev, slot, backing);
	if (!err)
		replaced = ublk_bpf_swap_slot(dev, slot, backing);
	mutex_unlock(&ublk_bpf_stack_lock);
	mutex_unlock(mutex);
	if (err) {
		ublk_bpf_backing_drop(backing);
		if (disk)
			put_disk(disk);
		kfree(drop);
		return err;
	}

	if (replaced)
		err = ublk_bpf_wait_dying(dev);
	if (drop)
		err = ublk_bpf_drop_cache(drop, disk) ?: err;
	return err;

free_drop:
	kfree(drop);
put_file:
	fput(file);
	return err;
}

int ublk_bpf_clear_slot(struct ublk_bpf_dev *dev, struct mutex *mutex, u32 slot)
{
	bool had;

	if (slot >= UBLK_BPF_MAX_SLOTS)
		return -EINVAL;
	if (mutex_lock_killable(mutex))
		return -EINTR;
	had = ublk_bpf_swap_slot(dev, slot, NULL);
	mutex_unlock(mutex);

	return had ? ublk_bpf_wait_dying(dev) : -ENOENT;
}

/* Store a new descriptor of the slot's own open file at @to. */
int ublk_bpf_get_slot(struct ublk_bpf_dev *dev, struct mutex *mutex, u32 slot, s32 __user *to)
{
	struct ublk_bpf_backing *backing;
	struct file *file = NULL;
	int fd;

	if (slot >= UBLK_BPF_MAX_SLOTS)
		return -EINVAL;

	if (mutex_lock_killable(mutex))
		return -EINTR;
	backing = rcu_dereference_protected(dev->slots[slot], lockdep_is_held(mutex));
	if (backing)
		file = get_file(backing->file);
	mutex_unlock(mutex);
	if (!file)
		return -ENOENT;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto put_file;
	if (put_user(fd, to)) {
		put_unused_fd(fd);
		fd = -EFAULT;
		goto put_file;
	}
	fd_install(fd, file);
	return 0;

put_file:
	fput(file);
	return fd;
}

/* The device has no I/O any more. Context: under ub->mutex, or nobody is left. */
void ublk_bpf_clear_slots(struct ublk_bpf_dev *dev)
{
	for (u32 slot = 0; slot < UBLK_BPF_MAX_SLOTS; slot++)
		ublk_bpf_swap_slot(dev, slot, NULL);
	wait_var_event(&dev->dying_slots, !atomic_read(&dev->dying_slots));
}

int ublk_bpf_slot_init(void)
{
	ublk_bpf_drop_wq = alloc_workqueue("ublk_bpf_drop", WQ_UNBOUND, 0);
	return ublk_bpf_drop_wq ? 0 : -ENOMEM;
}

void ublk_bpf_slot_exit(void)
{
	destroy_workqueue(ublk_bpf_drop_wq);
}
