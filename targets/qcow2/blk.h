/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * What the metadata is read from and written to: a file, or what a test makes of one. What
 * has been written is there after a crash when it was flushed; else each 512 bytes of it are
 * there, or those of before.
 */
#ifndef TARGET_QCOW2_BLK_H
#define TARGET_QCOW2_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

/**
 * struct qcow2_blk - a file
 * @read:	read @bytes at @pos; what lies behind the end are zeroes
 * @write:	write @bytes at @pos; the file grows
 * @discard:	@bytes at @pos are not needed any more: what is read there are zeroes, or
 *		what was there
 * @flush:	all that has been written is there after a crash
 * @size:	bytes of the file
 *
 * Return of @read, @write and @flush: 0, or a negative errno. After a write that failed each
 * sector is what it was or was to be. After a flush that failed the same is true of all that
 * was written since the last one, so that nothing that depends on an order can go on.
 */
struct qcow2_blk {
	int (*read)(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes);
	int (*write)(struct qcow2_blk *blk, const void *from, __u64 pos, size_t bytes);
	void (*discard)(struct qcow2_blk *blk, __u64 pos, __u64 bytes);
	int (*flush)(struct qcow2_blk *blk);
	__u64 (*size)(struct qcow2_blk *blk);
};

#endif
