/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * Refcounts of an image's clusters, and where there is room.
 *
 * Counts change in memory: qcow2_refs_write() writes them. Whoever makes a reference writes
 * and flushes the count first, whoever drops one flushes that first: after a crash a count
 * may be larger than the references, which leaks a cluster, and never smaller. What the
 * counts need themselves, blocks and a larger table, is written and flushed at once: it
 * happens once in many thousand clusters.
 *
 * Not locked: the caller's business.
 */
#ifndef TARGET_QCOW2_REFS_H
#define TARGET_QCOW2_REFS_H

#include "blk.h"
#include "format.h"
#include "guard.h"

/* A refcount block in memory. */
struct qcow2_refblock {
	__u32 nr;		/* entry of the table; ~0: none */
	bool dirty;
	unsigned long used;	/* when, by struct qcow2_refs.clock */
	void *bytes;
};

/**
 * struct qcow2_refs - the refcounts of an image
 * @blk:	the image
 * @layout:	its layout; the place of the refcount table is kept up to date
 * @guard:	knows where table and blocks are; what it knows of is never free
 * @table:	the refcount table, in the machine's byte order
 * @entries:	its entries
 * @blocks:	some of its blocks
 * @nr_blocks:	how many
 * @last:	the one that was used last, mostly
 * @clock:	of their use
 * @next:	no cluster before this one is free
 * @allocations: clusters that were free and are not
 * @failed:	the error of a flush: what was counted may not be in the file
 */
struct qcow2_refs {
	struct qcow2_blk *blk;
	struct qcow2_layout *layout;
	struct qcow2_guard *guard;
	__u64 *table;
	__u32 entries;
	struct qcow2_refblock *blocks;
	unsigned int nr_blocks;
	unsigned int last;
	unsigned long clock;
	__u64 next;
	__u64 allocations;
	int failed;
};

/**
 * qcow2_refs_open() - read the refcount table
 * @refs:	the result
 * @blk:	the image; must outlive it
 * @layout:	of the image; must outlive it, and is changed when the table moves
 * @guard:	of the image; must outlive it
 * @why:	what is wrong with it
 *
 * Of an image that is not to be written the table is looked at, and not kept: all counts are 0.
 *
 * Return: 0, -EINVAL, -ENOMEM, or an error of @blk.
 */
int qcow2_refs_open(struct qcow2_refs *refs, struct qcow2_blk *blk, struct qcow2_layout *layout,
		    struct qcow2_guard *guard, struct qcow2_why *why);

/* Nothing is written. */
void qcow2_refs_close(struct qcow2_refs *refs);

/* The refcount of cluster @cluster. Return: 0, -EIO what is there cannot be, or as the blk. */
int qcow2_refs_get(struct qcow2_refs *refs, __u64 cluster, __u64 *count);

/**
 * qcow2_refs_put() - a reference of each of @nr clusters is gone
 * @refs:	the refcounts
 * @cluster:	the first of them
 * @nr:		how many
 *
 * What nobody has any more is discarded.
 *
 * Return: 0, -EIO one had none, or as the blk; then some may have been dropped.
 */
int qcow2_refs_put(struct qcow2_refs *refs, __u64 cluster, __u64 nr);

/**
 * qcow2_refs_alloc() - @nr clusters beside each other that are free, with a count of one
 * @refs:	the refcounts
 * @nr:		how many
 * @cluster:	the first of them
 *
 * Return: 0, -ENOSPC an image cannot be so large, -ENOMEM, -EIO it is corrupt, or as the blk.
 */
int qcow2_refs_alloc(struct qcow2_refs *refs, __u64 nr, __u64 *cluster);

/*
 * Something refers to cluster @cluster that may not be counted: it is now. Return: 0, -EIO
 * nothing can count it, or as the blk.
 */
int qcow2_refs_claim(struct qcow2_refs *refs, __u64 cluster);

/* Write the counts that have changed; no flush. Return: as the blk, or of a flush before. */
int qcow2_refs_write(struct qcow2_refs *refs);

/* Write entry @nr of the table, with its sector; no flush. Return: as the blk. */
int qcow2_refs_write_entry(struct qcow2_refs *refs, __u32 nr);

#endif
