/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the hooks in the kernel's ublk_drv.c call, and nothing else. Each hook
 * names its site first; a device without UBLK_F_BPF has no state of ours (the
 * pointer is NULL) and costs one test.
 */
#ifndef UBLK_BPF_HOOKS_H
#define UBLK_BPF_HOOKS_H

#include <linux/blk-mq.h>
#include <linux/mutex.h>
#include <uapi/linux/ublk_cmd.h>
#include "uapi/linux/ublk_bpf.h"

struct ublk_bpf_dev;
struct ublk_bpf_queue;

/* The sites, in the order of a device's life; shown in parameters/hooks. */
#define UBLK_BPF_SITES(S)	\
	S(INIT)			\
	S(FEATURES)		\
	S(ALLOC_TAG_SET)	\
	S(STACK_LIMITS)		\
	S(INIT_HCTX)		\
	S(CTRL_CMD)		\
	S(MAY_START)		\
	S(STARTED)		\
	S(QUEUE_RQ)		\
	S(BATCH_QUEUE_RQ)	\
	S(QUEUE_RQS)		\
	S(BATCH_QUEUE_RQS)	\
	S(TASK_WORK)		\
	S(DISPATCH_REQ)		\
	S(BATCH_DISPATCH)	\
	S(COMPLETE_RQ)		\
	S(TIMEOUT)		\
	S(CANCEL_CMD)		\
	S(SERVER_DIES)		\
	S(ABORT_RQ)		\
	S(CHECK_INFLIGHT)	\
	S(ALONE)		\
	S(ALONE_LIST)		\
	S(FAIL_IO)		\
	S(QUIESCED)		\
	S(LAST_SERVER)		\
	S(START_RECOVERY)	\
	S(CANCEL_FN)		\
	S(ALIVE)		\
	S(END_RECOVERY)		\
	S(STOP_ALONE)		\
	S(STOP_CANCELS)		\
	S(STOPPING)		\
	S(STOP_DEV)		\
	S(FREE_DEV)

#define UBLK_BPF_SITE_ENUM(name)	UBLK_BPF_SITE_##name,
enum ublk_bpf_site {
	UBLK_BPF_SITES(UBLK_BPF_SITE_ENUM)
	UBLK_BPF_NR_SITES
};

/* Set once and then only read, so that it costs no cache line traffic. */
extern bool ublk_bpf_site_hit[UBLK_BPF_NR_SITES];

static inline void ublk_bpf_hit(enum ublk_bpf_site site)
{
	if (unlikely(!READ_ONCE(ublk_bpf_site_hit[site])))
		WRITE_ONCE(ublk_bpf_site_hit[site], true);
}

int ublk_bpf_do_init(void);
void ublk_bpf_exit(void);
int ublk_bpf_do_alloc_tag_set(struct blk_mq_tag_set *set,
			      const struct ublksrv_ctrl_dev_info *info,
			      struct ublk_bpf_dev **bpf);
void ublk_bpf_do_free_dev(struct ublk_bpf_dev *dev);
void ublk_bpf_do_stop_dev(struct ublk_bpf_dev *dev);
void ublk_bpf_do_stack_limits(struct ublk_bpf_dev *dev, struct queue_limits *lim);
struct ublk_bpf_queue *ublk_bpf_do_init_hctx(struct ublk_bpf_dev *dev, struct blk_mq_hw_ctx *hctx,
					     bool *canceling);
int ublk_bpf_do_ctrl_cmd(struct ublk_bpf_dev *dev, struct mutex *mutex, struct ublk_params *params,
			 u32 cmd_op, const struct ublksrv_ctrl_cmd *header);
bool ublk_bpf_do_queue_rq(struct ublk_bpf_queue *q, struct request *rq);
bool ublk_bpf_do_dispatch_rq(struct ublk_bpf_queue *q, struct request *rq);
bool ublk_bpf_do_complete_rq(struct request *rq, int *res);
bool ublk_bpf_do_timeout(struct ublk_bpf_queue *q, struct request *rq);
bool ublk_bpf_do_is_away(const struct ublk_bpf_queue *q, unsigned int tag);
void ublk_bpf_do_stopping(struct ublk_bpf_dev *dev);
void ublk_bpf_do_server_dies(struct ublk_bpf_dev *dev, struct request_queue *q);
bool ublk_bpf_do_alone(const struct ublk_bpf_queue *q);
void ublk_bpf_do_quiesced(struct ublk_bpf_dev *dev, struct request_queue *q);
void ublk_bpf_do_cancel_cmds(struct ublk_bpf_dev *dev);
bool ublk_bpf_do_may_start(struct ublk_bpf_dev *dev);
bool ublk_bpf_do_last_server(const struct ublk_bpf_dev *dev, bool open,
			     struct work_struct *quiesce_work);
bool ublk_bpf_do_start_recovery(struct ublk_bpf_queue *q);
bool ublk_bpf_do_alive(struct ublk_bpf_dev *dev);
void ublk_bpf_do_started(struct ublk_bpf_dev *dev, struct gendisk *disk, int server);
bool ublk_bpf_do_is_starting(const struct ublk_bpf_queue *q);
void ublk_bpf_do_end_recovery(struct ublk_bpf_dev *dev, int server);
u64 ublk_bpf_do_flags(void);

/* module_init. Return: 0 or a negative errno, which fails it. */
static inline int ublk_bpf_init(enum ublk_bpf_site site)
{
	ublk_bpf_hit(site);
	return ublk_bpf_do_init();
}

/* GET_FEATURES. Return: the flags that are ours. */
static inline u64 ublk_bpf_features(enum ublk_bpf_site site)
{
	ublk_bpf_hit(site);
	return UBLK_F_BPF;
}

/* ADD_DEV with @flags. Return: those that are known beside the kernel's. */
static inline u64 ublk_bpf_flags(u64 flags)
{
	return flags & UBLK_F_BPF ? ublk_bpf_do_flags() : 0;
}

/*
 * ADD_DEV, once the device's flags and shape are final: allocate the tag set,
 * and our own state when the device has UBLK_F_BPF.
 */
static inline int ublk_bpf_alloc_tag_set(enum ublk_bpf_site site, struct blk_mq_tag_set *set,
					 const struct ublksrv_ctrl_dev_info *info,
					 struct ublk_bpf_dev **bpf)
{
	if (!(info->flags & UBLK_F_BPF))
		return blk_mq_alloc_tag_set(set);
	ublk_bpf_hit(site);
	return ublk_bpf_do_alloc_tag_set(set, info, bpf);
}

/* The tag set is freed: no I/O and no command can come any more. May sleep. */
static inline void ublk_bpf_free_dev(enum ublk_bpf_site site, struct ublk_bpf_dev *dev)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_free_dev(dev);
}

/*
 * The server goes. Return: true when the tag's I/O has been taken, or waits for the
 * next server: nobody waits for it, and it does not come to this server's command.
 */
static inline bool ublk_bpf_is_away(enum ublk_bpf_site site, const struct ublk_bpf_queue *q,
				    unsigned int tag)
{
	if (!q)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_is_away(q, tag);
}

/* The disk is about to go: what is held is given back. Under ub->mutex; may sleep. */
static inline void ublk_bpf_stopping(enum ublk_bpf_site site, struct ublk_bpf_dev *dev)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_stopping(dev);
}

/* START_DEV of process @server has made the disk, or has tried to. Under ub->mutex. */
static inline void ublk_bpf_started(enum ublk_bpf_site site, struct ublk_bpf_dev *dev,
				    struct gendisk *disk, int server)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_started(dev, disk, server);
}

/* A server's task ends with this I/O. Return: is it START_DEV that waits for it? */
static inline bool ublk_bpf_is_starting(enum ublk_bpf_site site, const struct ublk_bpf_queue *q)
{
	if (!q)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_is_starting(q);
}

/* The server's task ends, new I/O sees it already. Context: task, may sleep. */
static inline void ublk_bpf_server_dies(enum ublk_bpf_site site, struct ublk_bpf_dev *dev,
					struct request_queue *q)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_server_dies(dev, q);
}

/* The disk is gone, all I/O has ended. Under ub->mutex; may sleep. */
static inline void ublk_bpf_stop_dev(enum ublk_bpf_site site, struct ublk_bpf_dev *dev)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_stop_dev(dev);
}

/* START_DEV, before the disk is allocated. Under ub->mutex. */
static inline void ublk_bpf_stack_limits(enum ublk_bpf_site site, struct ublk_bpf_dev *dev,
					 struct queue_limits *lim)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_stack_limits(dev, lim);
}

/*
 * The disk gets its queues. @canceling: set while the server takes no I/O.
 * Return: what of ours belongs to this one.
 */
static inline struct ublk_bpf_queue *ublk_bpf_init_hctx(enum ublk_bpf_site site,
							struct ublk_bpf_dev *dev,
							struct blk_mq_hw_ctx *hctx,
							bool *canceling)
{
	if (!dev)
		return NULL;
	ublk_bpf_hit(site);
	return ublk_bpf_do_init_hctx(dev, hctx, canceling);
}

/* A control command that the driver does not know. Return: its result. */
static inline int ublk_bpf_ctrl_cmd(enum ublk_bpf_site site, struct ublk_bpf_dev *dev,
				    struct mutex *mutex, struct ublk_params *params,
				    u32 cmd_op, const struct ublksrv_ctrl_cmd *header)
{
	if (!dev)
		return -EOPNOTSUPP;
	ublk_bpf_hit(site);
	return ublk_bpf_do_ctrl_cmd(dev, mutex, params, cmd_op, header);
}

/*
 * A started request on its way to the server. Context: queue_rq of a BLOCKING
 * tag set, may sleep. Return: true when it is ours or was ended.
 */
static inline bool ublk_bpf_queue_rq(enum ublk_bpf_site site, struct ublk_bpf_queue *q,
				     struct request *rq)
{
	if (!q)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_queue_rq(q, rq);
}

/*
 * The same of a queue in batch mode: when we take the last request of a run,
 * the ones before it still wait for their kick.
 */
static inline bool ublk_bpf_batch_queue_rq(enum ublk_bpf_site site, struct ublk_bpf_queue *q,
					   struct request *rq, bool last)
{
	struct blk_mq_hw_ctx *hctx = rq->mq_hctx;	/* rq may end in there */

	if (!ublk_bpf_queue_rq(site, q, rq))
		return false;
	if (last)
		hctx->queue->mq_ops->commit_rqs(hctx);
	return true;
}

/* The request reached the server's task. May sleep; true when it is ours. */
static inline bool ublk_bpf_dispatch_rq(enum ublk_bpf_site site, struct ublk_bpf_queue *q,
					struct request *rq)
{
	if (!q)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_dispatch_rq(q, rq);
}

/*
 * The server committed *res. On -EAGAIN the program is asked again; true when
 * it took the I/O, else *res is what the I/O ends with.
 */
static inline bool ublk_bpf_complete_rq(enum ublk_bpf_site site, struct request *rq, int *res)
{
	if (likely(*res != -EAGAIN))
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_complete_rq(rq, res);
}

/*
 * Of what a program has, only what it holds times out: what it forwarded is under
 * DMA in the backing, and stop waits for it. Return: true to set the timer again.
 */
static inline bool ublk_bpf_timeout(enum ublk_bpf_site site, struct ublk_bpf_queue *q,
				    struct request *rq)
{
	if (!q)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_timeout(q, rq);
}

/*
 * No server takes I/O, or all of it is to fail. Return: true when its program is
 * asked all the same, and what that redirects waits or fails.
 */
static inline bool ublk_bpf_alone(enum ublk_bpf_site site, const struct ublk_bpf_queue *q)
{
	if (!q)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_alone(q);
}

/* 6.12: the server is gone, the queue quiesced and idle: it goes on without. */
static inline void ublk_bpf_quiesced(enum ublk_bpf_site site, struct ublk_bpf_dev *dev,
				     struct request_queue *q)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_quiesced(dev, q);
}

/* 6.12: the disk goes while there is no server: as if it had stayed quiesced. */
static inline void ublk_bpf_stop_alone(enum ublk_bpf_site site, const struct ublk_bpf_dev *dev,
				       struct request_queue *q)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	blk_mq_quiesce_queue(q);
}

/*
 * 6.12: START_USER_RECOVERY. Its commands must not be found by what the end of the last
 * server has scheduled. @open: the char device is. Return: that server is still there.
 * May sleep.
 */
static inline bool ublk_bpf_last_server(enum ublk_bpf_site site, const struct ublk_bpf_dev *dev,
					bool open, struct work_struct *quiesce_work)
{
	if (!dev)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_last_server(dev, open, quiesce_work);
}

/* 6.12: a new server may fetch. Return: it takes no I/O before END_USER_RECOVERY. */
static inline bool ublk_bpf_start_recovery(enum ublk_bpf_site site, struct ublk_bpf_queue *q)
{
	if (!q)
		return false;
	ublk_bpf_hit(site);
	return ublk_bpf_do_start_recovery(q);
}

/*
 * 6.12: commands of the server are about to be cancelled, since its task ends or the
 * device is stopped; not under ub->lock.
 */
static inline void ublk_bpf_cancel_cmds(enum ublk_bpf_site site, struct ublk_bpf_dev *dev)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_cancel_cmds(dev);
}

/*
 * 6.12: START_DEV is about to add the disk, which cancelling sees from here on. Return:
 * false when it has been, and nobody would answer. Under ub->mutex.
 */
static inline bool ublk_bpf_may_start(enum ublk_bpf_site site, struct ublk_bpf_dev *dev)
{
	if (!dev)
		return true;
	ublk_bpf_hit(site);
	return ublk_bpf_do_may_start(dev);
}

/*
 * 6.12: a new server has fetched on all queues, which take I/O from here on. Return:
 * false when it died meanwhile; nothing has changed then. Under ub->mutex.
 */
static inline bool ublk_bpf_alive(enum ublk_bpf_site site, struct ublk_bpf_dev *dev)
{
	if (!dev)
		return true;
	ublk_bpf_hit(site);
	return ublk_bpf_do_alive(dev);
}

/* A new server, process @server, has fetched on all queues. Under ub->mutex. */
static inline void ublk_bpf_end_recovery(enum ublk_bpf_site site, struct ublk_bpf_dev *dev,
					 int server)
{
	if (!dev)
		return;
	ublk_bpf_hit(site);
	ublk_bpf_do_end_recovery(dev, server);
}

#endif
