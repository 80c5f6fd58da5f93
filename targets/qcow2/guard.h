/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * Which clusters of an image are metadata, so that nothing else is ever taken to be there,
 * and what was found to be wrong with an image that is open: it is corrupt from then on,
 * says so in its header, and nothing is written to it any more.
 *
 * By the limits of format.h, snapshots.c and bitmaps.c no image has 8 million such clusters: 128 MiB.
 *
 * What only snapshots name beside their L1 tables, or bitmaps beside their own, is not known here:
 * it is never written.
 */
#ifndef TARGET_QCOW2_GUARD_H
#define TARGET_QCOW2_GUARD_H

#include <errno.h>
#include "blk.h"
#include "format.h"

enum qcow2_metadata {
	QCOW2_META_NONE,
	QCOW2_META_HEADER,
	QCOW2_META_REFTABLE,
	QCOW2_META_REFBLOCK,
	QCOW2_META_L1,
	QCOW2_META_L2,
	QCOW2_META_SNAPSHOTS,
	QCOW2_META_SNAPSHOT_L1,
	QCOW2_META_BITMAPS,
	QCOW2_META_BITMAP_TABLE,
};

struct qcow2_memory;

/**
 * struct qcow2_guard - the metadata of an image, and whether it is corrupt
 * @blk:	the image
 * @layout:	its layout
 * @read_only:	nothing is written, whatever is found
 * @slots:	a hash table: a cluster's number, and in the last 4 bits what it is; 0: empty
 * @bits:	of the number of slots
 * @nr:		slots that are not empty
 * @seed:	of the hash, so that no image can be made for it
 * @end:	no cluster from here on is in the file, or was allocated
 * @opened:	what that was at first: what is behind it is named by what we have done only
 * @memory:	the L2 tables in memory; NULL: there are none yet
 * @corrupt:	what was found to be wrong; empty: nothing
 */
struct qcow2_guard {
	struct qcow2_blk *blk;
	struct qcow2_layout *layout;
	bool read_only;
	__u64 *slots;
	unsigned int bits;
	__u64 nr;
	__u64 seed;
	__u64 end;
	__u64 opened;
	const struct qcow2_memory *memory;
	struct qcow2_why corrupt;
};

/**
 * qcow2_guard_open() - begin with the header
 * @guard:	the result
 * @blk:	the image; outlives it
 * @layout:	its layout; outlives it, and is changed when it is corrupt
 * @read_only:	nothing is to be written
 *
 * Return: 0, -ENOMEM.
 */
int qcow2_guard_open(struct qcow2_guard *guard, struct qcow2_blk *blk,
		     struct qcow2_layout *layout, bool read_only);
void qcow2_guard_close(struct qcow2_guard *guard);

/* Memory for @nr more clusters: to add them needs no more then. Return: 0, -ENOMEM. */
int qcow2_guard_reserve(struct qcow2_guard *guard, __u64 nr);

/**
 * qcow2_guard_add() - clusters that are metadata
 * @guard:	the guard
 * @what:	what they are
 * @cluster:	the first of them
 * @nr:		how many
 * @why:	what they overlap with, or that they are not in the file
 *
 * Return: 0, -ENOMEM with none of them added, -EINVAL see @why.
 */
int qcow2_guard_add(struct qcow2_guard *guard, enum qcow2_metadata what, __u64 cluster, __u64 nr,
		    struct qcow2_why *why);

/* The same of all clusters that @extent touches. */
int qcow2_guard_add_extent(struct qcow2_guard *guard, enum qcow2_metadata what,
			   const struct qcow2_extent *extent, struct qcow2_why *why);

/* Is all of @extent, which is to be read, in the file? Return: 0, -EINVAL see @why. */
int qcow2_guard_check_end(const struct qcow2_guard *guard, enum qcow2_metadata what,
			  const struct qcow2_extent *extent, struct qcow2_why *why);

/* Clusters that are no metadata any more; those that were none are not minded. */
void qcow2_guard_remove(struct qcow2_guard *guard, __u64 cluster, __u64 nr);

enum qcow2_metadata qcow2_guard_find(const struct qcow2_guard *guard, __u64 cluster);

/*
 * @nr clusters from @cluster on, which the refcounts say are free, are taken. Return: 0, -EIO
 * one is metadata: the image is corrupt.
 */
int qcow2_guard_take(struct qcow2_guard *guard, __u64 cluster, __u64 nr);

/*
 * Those become metadata: no L2 table in memory may name one, which were looked through before.
 * Return: 0, -EIO one does: the image is corrupt.
 */
int qcow2_guard_check_unnamed(struct qcow2_guard *guard, __u64 cluster, __u64 nr);

/*
 * Can all entries of L2 table @l1 be true? @bytes: the table as it lies in the file. Return: 0,
 * -EIO one cannot: the image is corrupt.
 */
int qcow2_guard_check_table(struct qcow2_guard *guard, __u32 l1, const void *bytes);

/* Is it corrupt? Return: -EIO then, else 0. */
static inline int qcow2_guard_state(const struct qcow2_guard *guard)
{
	return guard->corrupt.text[0] ? -EIO : 0;
}

#endif
