/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * An image that was not closed, whose refcounts may be anything: what refers to its clusters
 * is counted anew. What the image holds is not changed, and if it cannot be true nothing is.
 */
#ifndef TARGET_QCOW2_REPAIR_H
#define TARGET_QCOW2_REPAIR_H

#include "image.h"
#include "snapshots.h"

/* A count takes 2 bytes of memory: 256 MiB. */
#define QCOW2_MAX_REPAIRED	(1U << 27)	/* clusters of a file */
/* It takes time to read them, also where they are holes; twice. */
#define QCOW2_MAX_REPAIRED_BYTES (16ULL << 30)	/* of L2 tables and refcount blocks */

/**
 * qcow2_repair() - correct the refcounts of an image, and what its tables say of them
 * @image:	whose metadata was read, and it is dirty; L2 tables that are in memory are to be
 *		adopted, and what they name is not written
 * @snapshots:	in it
 * @why:	what is wrong with it beside that
 *
 * It is not dirty any more, once all of that is in the file.
 *
 * Return: 0, -EINVAL nothing was written, -ENOMEM likewise, or as the blk.
 */
int qcow2_repair(struct qcow2_image *image, const struct qcow2_snapshots *snapshots,
		 struct qcow2_why *why);

#endif
