/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * Bitmaps in an image, that tell what was written to its disk. They are not kept up here: a
 * bitmap that should be is marked as in use before the disk changes, and never trusted again.
 */
#ifndef TARGET_QCOW2_BITMAPS_H
#define TARGET_QCOW2_BITMAPS_H

#include "blk.h"
#include "format.h"
#include "guard.h"

/**
 * struct qcow2_bitmap - a bitmap
 * @pos:	of its entry in the bitmap directory
 * @table:	where its table is
 * @tracks:	it is to tell of what is written from now on
 */
struct qcow2_bitmap {
	__u64 pos;
	struct qcow2_extent table;
	bool tracks;
};

/**
 * struct qcow2_bitmaps - the bitmaps of an image
 * @list:	them
 * @nr:		how many
 */
struct qcow2_bitmaps {
	struct qcow2_bitmap *list;
	__u32 nr;
};

/**
 * qcow2_bitmaps_read() - read the bitmap directory
 * @bitmaps:	the result
 * @blk:	the image
 * @layout:	its layout
 * @guard:	knows where that is, and is told of the bitmaps' tables
 * @why:	what is wrong with it
 *
 * Return: 0, -EINVAL, -ENOMEM, or as the blk.
 */
int qcow2_bitmaps_read(struct qcow2_bitmaps *bitmaps, struct qcow2_blk *blk,
		       const struct qcow2_layout *layout, struct qcow2_guard *guard,
		       struct qcow2_why *why);
void qcow2_bitmaps_free(struct qcow2_bitmaps *bitmaps);

/* Mark those that track as in use, in the file; no flush. Return: as the blk. */
int qcow2_bitmaps_use(const struct qcow2_bitmaps *bitmaps, struct qcow2_blk *blk);

#endif
