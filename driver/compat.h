/* SPDX-License-Identifier: GPL-2.0 */
/* Differences between the supported kernels; the only place that asks for one. */
#ifndef UBLK_BPF_COMPAT_H
#define UBLK_BPF_COMPAT_H

#include <linux/version.h>
#include <linux/blk-mq.h>
#include <linux/btf.h>

/* 7.0: arguments of kfuncs are trusted by default */
#ifndef KF_TRUSTED_ARGS
#define KF_TRUSTED_ARGS		0
#endif

/* 6.19: metadata of a device's I/O */
#ifndef UBLK_F_INTEGRITY
#define UBLK_F_INTEGRITY	0
#endif

/* 6.13: see ublk_bpf_flags() */
#ifndef UBLK_F_USER_RECOVERY_FAIL_IO
#define UBLK_F_USER_RECOVERY_FAIL_IO	(1ULL << 9)
#endif

/* Exported, with its declaration in the block layer's own header */
#ifdef CONFIG_BLK_WBT
void wbt_disable_default(struct gendisk *disk);
#endif

/* Before the disk is there: 7.x does not even make it then, which saves its hooks as well. */
static inline void ublk_bpf_prevent_wbt(struct request_queue *q)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
	blk_queue_flag_set(QUEUE_FLAG_DISABLE_WBT_DEF, q);
#endif
}

static inline void ublk_bpf_disable_wbt(struct gendisk *disk)
{
#ifdef CONFIG_BLK_WBT
	wbt_disable_default(disk);
#endif
}

/* 7.3: the bytes that an iterator has passed of its current bvec have a new name */
static inline unsigned int ublk_bpf_bvec_done(const struct bvec_iter *iter)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
	return iter->bi_bvec_done;
#else
	return iter->bi_offset;
#endif
}

#endif
