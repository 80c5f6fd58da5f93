/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What our files share: the state of a device, of a queue's tags, of a backing,
 * and who calls what.
 *
 * Locks, outermost first:
 *   BPF's struct_ops mutex (perhaps), ub->mutex -> ublk_bpf_ops_lock
 *   ub->mutex -> ublk_bpf_stack_lock
 *   ub->mutex -> wait_lock of a queue, dying_lock
 * Nothing waits under ublk_bpf_ops_lock, and no queue is frozen or quiesced to
 * change a program or a backing: pointers are swapped under RCU.
 */
#ifndef UBLK_BPF_INTERNAL_H
#define UBLK_BPF_INTERNAL_H

#include <linux/bio.h>
#include <linux/blk-mq.h>
#include <linux/fs.h>
#include <linux/irq_work.h>
#include <linux/mempool.h>
#include <linux/percpu-refcount.h>
#include <linux/percpu.h>
#include <linux/refcount.h>
#include <linux/workqueue.h>
#include "bpf.h"
#include "compat.h"

#define UBLK_BPF_MAX_RANGES	16	/* a call of a callback */
#define UBLK_BPF_SCRATCH_SIZE	64
#define UBLK_BPF_POOL_SIZE	16	/* progress of a device's I/O when there is no memory */
#define UBLK_BPF_CUT_DELAY	1	/* ms, until memory is asked for again */
#define UBLK_BPF_MAX_TRIES	64	/* of a range, by io_done */
#define UBLK_BPF_MAX_NR_IOS	32U	/* tags at a time: the block layer's own limit */
#define UBLK_BPF_MAX_DONE_SERVER	8	/* times that io_done sends an I/O to its server */

struct ublk_bpf_ops;			/* in full in ops.c only, see there */
struct ublk_bpf_prog;
struct ublk_bpf_hold;			/* in full in hold.c */

/* What a program sees of an I/O. The layout is part of the interface. */
struct ublk_bpf_io {
	const struct ublksrv_io_desc	*iod;
	unsigned long			flags;
	refcount_t			ref;
	int				res;
};

/* struct ublk_bpf_io.flags: bits, set by the run of the callbacks and by what ends it. */
enum ublk_bpf_io_flag {
	UBLK_BPF_IO_F_OWNED,	/* asked of a program and not yet ended or handed over */
	UBLK_BPF_IO_F_COMPLETED,/* by ublk_bpf_complete_io() */
	UBLK_BPF_IO_F_RANGES,	/* a range was recorded; excludes COMPLETED */
	UBLK_BPF_IO_F_REDIRECT,	/* the rest is for the server */
	UBLK_BPF_IO_F_SERVER,	/* runs in the server's task: never inline */
	UBLK_BPF_IO_F_AWAY,	/* taken: it comes to the server by a requeue only */
	UBLK_BPF_IO_F_CUT,	/* no memory for the rest of its ranges: what was sent is all */
	UBLK_BPF_IO_F_HELD,	/* held, now or before: the completion reference is the hold's */
	UBLK_BPF_IO_F_WAITS,	/* for a server: wait_lock of its queue */
	UBLK_BPF_IO_F_SERVED,	/* handed to the server, and alone until the tag's next I/O */
	UBLK_BPF_IO_F_DONE,	/* not a tag's: what io_done sees, see struct ublk_bpf_fwd */
};

/* How a hold ended; says what the I/O ends with. */
enum ublk_bpf_hold_end {
	UBLK_BPF_HOLD_NONE,	/* not held, or not yet */
	UBLK_BPF_HOLD_COMPLETED,/* io.res */
	UBLK_BPF_HOLD_RELEASED,	/* what no range covers is asked about again */
	UBLK_BPF_HOLD_CUT,	/* taken from its program: likewise, without its ranges */
};

/* Is the program of an attachment to be ejected? */
enum ublk_bpf_eject {
	UBLK_BPF_EJECT_NONE,
	UBLK_BPF_EJECT_NAMED,	/* somebody writes down which one and why */
	UBLK_BPF_EJECT_NEEDED,
};

/* What is submitted, and ended, in one go. */
struct ublk_bpf_plug {
	struct blk_plug		plug;
	struct blk_plug		*outer;
	struct bio_list		*bio_list;
};

/*
 * A list of I/Os that come together, by queue_rqs. What it keeps it lets go of when all is
 * sent, and before its task sleeps, where sending one may wait for what has nothing to do
 * with the others: see ublk_bpf_let_go().
 */
struct ublk_bpf_batch {
	struct ublk_bpf_plug	plug;
	struct blk_plug_cb	cb;	/* of the plug: the task sleeps */
	struct irq_work		sleeps;	/* what follows from that */
	bool			armed;	/* the callback will be called */
	bool			slept;	/* it was, and @sleeps may be under way */
	bool			here;	/* they can be sent from this task */
	bool			keep;	/* none went where issuing may sleep */
	struct ublk_bpf_backing	*backing;	/* of most of them, maybe: */
	u32			slot;		/* where it is, */
	u32			refs;		/* and references for their ranges */
	struct ublk_bpf_tag	*sent;	/* forwarded; the run's references are kept */
	struct ublk_bpf_tag	**sent_end;
	struct io_comp_batch	iob;	/* what has ended well */
};

/* What a slot of a device is set to: the driver holds the open file. */
struct ublk_bpf_backing {
	struct percpu_ref	ref;	/* one each range and bio in flight */
	struct file		*file;	/* the user's; a lock may live with it */
	struct file		*io_file; /* what I/O to a regular file goes through */
	struct block_device	*bdev;	/* NULL: a regular file */
	unsigned int		dma_alignment;	/* mask, of memory */
	unsigned int		block;	/* ranges are multiples of it, in bytes */
	bool			writable;
	bool			can_discard;
	bool			has_cache;	/* a flush has to reach it */
	bool			buffered;	/* not direct I/O */
	bool			stable;		/* pages must not change under a write */
	bool			issue_sleeps;	/* its driver may sleep for a request */
	bool			own_servers;	/* a ublk disk that the device's server may serve */
	struct ublk_bpf_dev	*lower;		/* of a ublk disk of ours; a reference */
	struct ublk_bpf_dev	*dev;
	struct work_struct	free_work;
};

/* A part of an I/O on its way to a backing. */
struct ublk_bpf_range {
	struct ublk_bpf_backing	*backing;	/* holds a reference */
	u64			pos;	/* in the backing */
	u32			off;	/* in the I/O */
	u32			bytes;
	u32			slot;
};

/* Ranges that were recorded and not yet sent. */
struct ublk_bpf_record {
	u32			covered;	/* by ranges, from 0 */
	u32			last_off;	/* of the newest range */
	u8			nr;
};

/* A range that is sent by a worker, goes to a file, or whose end io_done is told of. */
struct ublk_bpf_fwd {
	struct ublk_bpf_range	range;
	struct ublk_bpf_range	retry;	/* recorded by io_done; backing NULL: none */
	struct ublk_bpf_io	io;	/* for io_done: several may run at a time */
	refcount_t		bios;	/* on their way, and one while they are sent */
	int			err;	/* of the bios, the first, kept by cmpxchg */
	u8			tries;	/* that io_done has asked for */
	bool			tell;	/* io_done */
	bool			zero_pages;	/* were written */
	struct ublk_bpf_tag	*tag;
	struct work_struct	work;
	struct kiocb		iocb;
	refcount_t		iocb_refs;	/* the file system's, and who called it */
	long			iocb_res;	/* what it told late */
	struct bio_vec		*bvec;	/* NULL: the bio's own */
	unsigned int		nr_bvec;
	u32			asked;	/* bytes, of the file */
	u32			done;	/* bytes */
};

/* What a tag forwards with: kept apart, so that tags lie close together. */
struct ublk_bpf_room {
	struct bio		clone;		/* of an I/O that is forwarded as it is */
	struct ublk_bpf_backing	*clone_backing;
	bool			clone_busy;	/* taken by the run, given back by the bio's end */
	bool			fwd_busy;	/* likewise */
	struct ublk_bpf_fwd	fwd;		/* for an I/O of one range */
	struct ublk_bpf_range	ranges[UBLK_BPF_MAX_RANGES];
	u8			scratch[UBLK_BPF_SCRATCH_SIZE];
};

/*
 * A tag's I/O, from queue_rq to its end. One user at a time: the callbacks of
 * an I/O run one after the other, what it forwarded only touches err and the
 * references.
 */
struct ublk_bpf_tag {
	struct ublk_bpf_io	io;
	struct ublk_bpf_queue	*q;
	struct request		*rq;
	struct ublksrv_io_desc	iod;
	u64			attach_seq;	/* of the program that was asked first */
	unsigned long		answer;		/* of the callback that was asked last */
	u32			bytes;		/* of the I/O */
	struct_group(fresh,			/* zeroes when an I/O starts */
		int			err;	/* the first, kept by cmpxchg */
		u32			taken;	/* by dispositions */
		u32			sent;	/* covered by ranges that were sent */
		u32			held_covered;	/* by ranges of both kinds */
		struct ublk_bpf_record	rec;	/* of this call */
		bool			asking;	/* a queue callback runs */
		bool			scratched;	/* its scratch is in use */
		bool			held_ranges;	/* recorded through the hold, and sent */
		bool			held_lost;	/* recorded through it, and dropped */
		bool			hold_late;	/* it had ended after its time */
		bool			rerun;	/* the server has said -EAGAIN */
		bool			done_server;	/* io_done wants it to go there */
		u8			hold_end;	/* enum ublk_bpf_hold_end */
	);
	unsigned long		held_since;	/* jiffies, of the first hold */
	struct ublk_bpf_hold	*hold;		/* tied to the I/O; RCU to read */
	struct ublk_bpf_batch	*batch;		/* of the queue_rqs it comes by, NULL: queue_rq */
	struct ublk_bpf_tag	*next_sent;	/* in its batch */
	struct ublk_bpf_room	*room;
} ____cacheline_aligned;

struct ublk_bpf_queue {
	struct ublk_bpf_dev	*dev;
	struct ublk_bpf_tag	*tags;
	struct ublk_bpf_room	*rooms;
	bool			*canceling;	/* the kernel's file's: the server takes no I/O */
	spinlock_t		wait_lock;
	unsigned int		nr_waiting;	/* I/Os, for a server; wait_lock */
};

/* Counters of a device, one set a CPU; see struct ublk_bpf_stats */
struct ublk_bpf_counters {
	u64	done, done_bytes, fwd_inline, fwd_worker, fwd_bytes;
	u64	redirected, rerun, failed, unfinished, misused;
	u64	held, stale;
};

#define ublk_bpf_count(dev, what, n)	this_cpu_add((dev)->counters->what, n)

/* From ADD_DEV until the char device is freed. */
struct ublk_bpf_dev {
	struct ublk_bpf_prog __rcu	*prog;	/* RCU and SRCU to read, ops_lock to write */
	u64				attach_seq;	/* of prog; set before it */
	unsigned long			updated;	/* jiffies, when prog was attached or updated */
	bool				fail;	/* its program is gone, no fallback */
	bool				has_release;	/* its program, now or last */
	bool				has_done;	/* likewise, io_done */
	bool				stopping;	/* nothing can be held, or wait, any more */
	bool				deserted;	/* likewise, by a server that died in START_DEV */
	bool				recover;	/* it lives without a server */
	bool				wait_alone;	/* what needs one waits, else it fails */
	bool				starting;	/* START_DEV is not over */
	bool				alone;		/* 6.12: nothing is with a server */
	bool				dying;		/* 6.12: its server's commands; dying_lock */
	int				server;		/* its process, now or last; 0: not known */
	spinlock_t			dying_lock;
	refcount_t			ref;		/* the device's, one each hold and upper backing */
	struct work_struct		free_work;
	struct ublk_bpf_counters __percpu *counters;
	struct bio_set			clones;		/* not shared: its backing may be */
	mempool_t			fwds;		/* such a device, and must not need */
	struct workqueue_struct		*wq;		/* what this one waits for */
	struct ublk_bpf_backing __rcu	*slots[UBLK_BPF_MAX_SLOTS];	/* ub->mutex to write */
	unsigned int			nr_slots;	/* that are set; likewise */
	u32				discards;	/* slots whose backing, or the last one, can */
	u64				cookie;
	u32				attach_flags;
	u32				prog_id;
	u32				state;		/* enum ublk_bpf_state */
	int				dev_id;
	struct ublk_bpf_prog		*listed;	/* whose list prog_node is on, ops_lock */
	struct list_head		prog_node;
	atomic_t			dying_slots;
	struct list_head		stack_node;	/* ublk_bpf_stack_lock */
	unsigned int			level;		/* likewise: how many are above, at most */
	const struct blk_mq_ops		*stock_ops;
	struct blk_mq_ops		mq_ops;		/* stock_ops with our queue_rqs */
	struct blk_mq_tag_set		*set;
	unsigned int			pdu;		/* where struct ublk_bpf_pdu starts */
	struct work_struct		eject_work;
	u32				ejecting;	/* enum ublk_bpf_eject; NONE by ops_lock */
	u64				eject_seq;	/* whom */
	unsigned long			eject_at;	/* jiffies; likewise */
	char				eject_reason[UBLK_BPF_REASON_SIZE];
	struct lock_class_key		fq_lock_key;	/* of its flush queues, for lockdep */
	unsigned int			depth;
	unsigned int			nr_queues;
	struct ublk_bpf_queue		queues[] __counted_by(nr_queues);
};

/* Nothing can be held, or wait for a server, any more. */
static inline bool ublk_bpf_is_stopping(const struct ublk_bpf_dev *dev)
{
	return READ_ONCE(dev->stopping) || READ_ONCE(dev->deserted);
}

/* The range whose end io_done is told of, NULL when that is not what runs. */
static inline struct ublk_bpf_fwd *ublk_bpf_io_fwd(const struct ublk_bpf_io *io)
{
	if (!(io->flags & BIT(UBLK_BPF_IO_F_DONE)))
		return NULL;
	return container_of((struct ublk_bpf_io *)io, struct ublk_bpf_fwd, io);
}

static inline struct ublk_bpf_tag *ublk_bpf_io_tag(const struct ublk_bpf_io *io)
{
	struct ublk_bpf_fwd *fwd = ublk_bpf_io_fwd(io);

	return unlikely(fwd) ? fwd->tag :
	       container_of((struct ublk_bpf_io *)io, struct ublk_bpf_tag, io);
}

/* ops.c */
enum ublk_bpf_answer {
	UBLK_BPF_ASKED,		/* tag->answer is what the callback returned */
	UBLK_BPF_SERVER,	/* no program or no such callback: the server */
	UBLK_BPF_GONE,		/* the program is gone: -EOPNOTSUPP */
};

enum ublk_bpf_answer ublk_bpf_ask(struct ublk_bpf_tag *tag);
enum ublk_bpf_answer ublk_bpf_ask_daemon(struct ublk_bpf_tag *tag);
bool ublk_bpf_has_queue_io_cmd(struct ublk_bpf_dev *dev);
void ublk_bpf_ask_release(struct ublk_bpf_tag *tag);
int ublk_bpf_ask_done(struct ublk_bpf_fwd *fwd, int res);
int ublk_bpf_attach(struct ublk_bpf_dev *dev, const struct ublk_bpf_attach *arg);
int ublk_bpf_detach(struct ublk_bpf_dev *dev);
void ublk_bpf_eject(struct ublk_bpf_dev *dev, const struct ublk_bpf_tag *tag);
void ublk_bpf_eject_work(struct work_struct *work);
bool ublk_bpf_releasing(void);
int ublk_bpf_ops_init(void);

/* kfuncs.c */
int ublk_bpf_kfuncs_init(const struct btf *btf);

/* Called by programs alone: declared for sparse. */
const struct ublksrv_io_desc *ublk_bpf_get_iod(const struct ublk_bpf_io *io);
int ublk_bpf_get_dev_id(const struct ublk_bpf_io *io);
int ublk_bpf_get_queue_id(const struct ublk_bpf_io *io);
int ublk_bpf_get_io_tag(const struct ublk_bpf_io *io);
u64 ublk_bpf_get_cookie(const struct ublk_bpf_io *io);
void ublk_bpf_complete_io(const struct ublk_bpf_io *io, int res);
int ublk_bpf_forward(struct ublk_bpf_io *io, u32 off, u32 bytes, u32 slot, u64 pos);
struct ublk_bpf_hold *ublk_bpf_hold(struct ublk_bpf_io *io);
void ublk_bpf_hold_complete(struct ublk_bpf_hold *h, int res);
int ublk_bpf_hold_forward(struct ublk_bpf_hold *h, u32 off, u32 bytes, u32 slot, u64 pos);
void ublk_bpf_hold_release(struct ublk_bpf_hold *h);
void ublk_bpf_hold_release_dtor(void *h);
int ublk_bpf_payload_read(struct ublk_bpf_io *io, u32 off, void *dst, u32 dst__sz);
int ublk_bpf_payload_write(struct ublk_bpf_io *io, u32 off, const void *src, u32 src__sz);
u8 *ublk_bpf_scratch(struct ublk_bpf_io *io, const size_t rdwr_buf_size);

/* dev.c */
struct ublk_bpf_dev *ublk_bpf_queue_dev(const struct request_queue *q);
void ublk_bpf_put_dev(struct ublk_bpf_dev *dev);

static inline void ublk_bpf_get_dev(struct ublk_bpf_dev *dev)
{
	refcount_inc(&dev->ref);
}

/* io.c */
void ublk_bpf_put_io(struct ublk_bpf_tag *tag);
bool ublk_bpf_finish(struct ublk_bpf_tag *tag, struct io_comp_batch *iob);
void ublk_bpf_completed(struct ublk_bpf_tag *tag, int res);
void ublk_bpf_fail_range(struct ublk_bpf_tag *tag, int err);
void ublk_bpf_misused(struct ublk_bpf_tag *tag, const char *what);
void ublk_bpf_fail_rq(struct ublk_bpf_dev *dev, struct request *rq, int err, bool server);

/* batch.c */
void ublk_bpf_start_batch(struct ublk_bpf_batch *batch, const struct request_queue *q,
			  unsigned short nr_ios);
void ublk_bpf_finish_batch(struct ublk_bpf_batch *batch);
void ublk_bpf_batch_cb(struct blk_plug_cb *cb, bool from_schedule);
void ublk_bpf_let_go(struct ublk_bpf_batch *batch);

/* Its task may have slept: @batch is that's again. Context: the task, may sleep. */
static inline void ublk_bpf_sync_batch(struct ublk_bpf_batch *batch)
{
	if (likely(!batch->slept))
		return;
	irq_work_sync(&batch->sleeps);
	batch->slept = false;
}

/* wait.c */
void ublk_bpf_wait_for_server(struct ublk_bpf_tag *tag, struct request *rq);
void ublk_bpf_end_wait(struct ublk_bpf_dev *dev, int err);

/* record.c */
int ublk_bpf_record(struct ublk_bpf_tag *tag, struct ublk_bpf_batch *batch,
		    struct ublk_bpf_record *rec, struct ublk_bpf_range *ranges, u32 off, u32 bytes,
		    u32 slot, u64 pos);
int ublk_bpf_record_retry(struct ublk_bpf_fwd *fwd, u32 off, u32 bytes, u32 slot, u64 pos);
int ublk_bpf_record_io(struct ublk_bpf_tag *tag, u32 off, u32 bytes, u32 slot, u64 pos);
void ublk_bpf_drop_record(struct ublk_bpf_record *rec, const struct ublk_bpf_range *ranges);
void ublk_bpf_drop_ranges(struct ublk_bpf_tag *tag);

/* forward.c */
void ublk_bpf_start_plug(struct ublk_bpf_plug *plug);
void ublk_bpf_restore_plug(struct ublk_bpf_plug *plug);
bool ublk_bpf_send_held(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range);
bool ublk_bpf_may_send_here(struct blk_plug *outer, const struct request_queue *q);
void ublk_bpf_submit_ranges(struct ublk_bpf_tag *tag);
void ublk_bpf_submit_in_batch(struct ublk_bpf_tag *tag, struct ublk_bpf_batch *batch);
void ublk_bpf_end_fwd(struct ublk_bpf_fwd *fwd, int err);
int ublk_bpf_forward_init_dev(struct ublk_bpf_dev *dev);
void ublk_bpf_forward_exit_dev(struct ublk_bpf_dev *dev);
int ublk_bpf_forward_init(void);
void ublk_bpf_forward_exit(void);

/* hold.c */
struct ublk_bpf_hold *ublk_bpf_hold_io(struct ublk_bpf_tag *tag);
bool ublk_bpf_cut_hold(struct ublk_bpf_tag *tag, const struct request *rq);
void ublk_bpf_give_back(struct ublk_bpf_dev *dev);
void ublk_bpf_complete_hold(struct ublk_bpf_hold *h, int res);
void ublk_bpf_release_hold(struct ublk_bpf_hold *h);
void ublk_bpf_lose_hold(struct ublk_bpf_hold *h);
int ublk_bpf_forward_hold(struct ublk_bpf_hold *h, u32 off, u32 bytes, u32 slot, u64 pos);
int ublk_bpf_hold_init(void);
void ublk_bpf_hold_exit(void);

/* bdev.c */
bool ublk_bpf_bdev_submit_as_it_is(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range);
void ublk_bpf_bdev_submit(struct ublk_bpf_tag *tag, const struct ublk_bpf_range *range,
			  struct ublk_bpf_fwd *fwd);
void ublk_bpf_bdev_submit_told(struct ublk_bpf_fwd *fwd);
int ublk_bpf_bdev_write_zeroes(const struct ublk_bpf_range *range);
int ublk_bpf_bdev_init_dev(struct ublk_bpf_dev *dev);

/* file.c */
bool ublk_bpf_file_inline_ok(const struct ublk_bpf_tag *tag,
			     const struct ublk_bpf_backing *backing);
bool ublk_bpf_file_submit(struct ublk_bpf_fwd *fwd, bool nowait);

struct bio *ublk_bpf_bio_at(const struct request *rq, u32 off, u32 *skip);

/* payload.c */
int ublk_bpf_payload(const struct ublk_bpf_io *io, u32 off, void *mem, u32 bytes, bool to_mem);
u8 *ublk_bpf_io_scratch(struct ublk_bpf_tag *tag, size_t size);

/* slot.c */
int ublk_bpf_set_slot(struct ublk_bpf_dev *dev, struct mutex *mutex, u32 slot, int fd, u32 flags);
int ublk_bpf_clear_slot(struct ublk_bpf_dev *dev, struct mutex *mutex, u32 slot);
int ublk_bpf_get_slot(struct ublk_bpf_dev *dev, struct mutex *mutex, u32 slot, s32 __user *to);
void ublk_bpf_clear_slots(struct ublk_bpf_dev *dev);
struct gendisk *ublk_bpf_get_disk(struct ublk_bpf_dev *dev);
void ublk_bpf_enter_stack(struct ublk_bpf_dev *dev);
void ublk_bpf_leave_stack(struct ublk_bpf_dev *dev);
int ublk_bpf_slot_init(void);
void ublk_bpf_slot_exit(void);

/* Get the backing of a slot, NULL when it is empty. Context: any. */
static inline struct ublk_bpf_backing *ublk_bpf_backing_tryget(struct ublk_bpf_dev *dev, u32 slot)
{
	struct ublk_bpf_backing *backing;

	if (slot >= UBLK_BPF_MAX_SLOTS)
		return NULL;
	rcu_read_lock();
	do {	/* one that is dead is not in the slot any more */
		backing = rcu_dereference(dev->slots[slot]);
	} while (backing && !percpu_ref_tryget_live_rcu(&backing->ref));
	rcu_read_unlock();
	return backing;
}

extern struct workqueue_struct *ublk_bpf_free_wq;	/* backings: never behind I/O */

#endif
