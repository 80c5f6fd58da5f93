// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Refcounts of an image's clusters, and where there is room: see refs.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "header.h"
#include "refs.h"

#define CACHE_BYTES	(4U << 20)	/* of blocks, or the fewest that do */
#define FEWEST_BLOCKS	4
#define NO_BLOCK	(~0U)

/* Entries to write at once: a sector is written whole or not at all. */
#define SECTOR_ENTRIES	(512 / sizeof(__u64))

static __u64 position(const struct qcow2_refs *refs, __u64 cluster)
{
	return cluster << refs->layout->cluster_bits;
}

static __u64 block_of(const struct qcow2_refs *refs, __u64 cluster)
{
	return cluster / qcow2_refblock_entries(refs->layout);
}

static __u32 entry_of(const struct qcow2_refs *refs, __u64 cluster)
{
	return cluster % qcow2_refblock_entries(refs->layout);
}

/* The blocks are metadata, as is the table. */
static int add_to_guard(struct qcow2_refs *refs, struct qcow2_why *why)
{
	__u32 i;
	int ret = 0;

	for (i = 0; !ret && i < refs->entries; i++)
		if (refs->table[i])
			ret = qcow2_guard_add(refs->guard, QCOW2_META_REFBLOCK,
					      refs->table[i] >> refs->layout->cluster_bits, 1, why);
	return ret;
}

int qcow2_refs_open(struct qcow2_refs *refs, struct qcow2_blk *blk, struct qcow2_layout *layout,
		    struct qcow2_guard *guard, struct qcow2_why *why)
{
	__u64 cluster = qcow2_cluster_size(layout);
	__u32 i;
	int ret;

	*refs = (struct qcow2_refs){
		.blk		= blk,
		.layout		= layout,
		.guard		= guard,
		.entries	= layout->reftable.bytes / sizeof(__u64),
		.nr_blocks	= CACHE_BYTES >> layout->cluster_bits,
		.next		= 1,	/* that before it is the header's */
	};
	if (refs->nr_blocks < FEWEST_BLOCKS)
		refs->nr_blocks = FEWEST_BLOCKS;
	if (guard->read_only)
		refs->nr_blocks = 0;	/* nobody asks for a count */
	refs->table = malloc(layout->reftable.bytes);
	refs->blocks = calloc(refs->nr_blocks, sizeof(*refs->blocks));
	ret = -ENOMEM;
	if (!refs->table || !refs->blocks)
		goto close;
	for (i = 0; i < refs->nr_blocks; i++) {
		refs->blocks[i].nr = NO_BLOCK;
		refs->blocks[i].bytes = malloc(cluster);
		if (!refs->blocks[i].bytes)
			goto close;
	}
	ret = qcow2_guard_add_extent(guard, QCOW2_META_REFTABLE, &layout->reftable, why);
	if (!ret)
		ret = blk->read(blk, refs->table, layout->reftable.offset, layout->reftable.bytes);
	if (ret)
		goto close;
	for (i = 0; i < refs->entries; i++) {
		refs->table[i] = be64toh(refs->table[i]);
		/* the header is counted by the first */
		if (!(refs->table[i] & (cluster - 1)) && refs->table[i] < QCOW2_MAX_OFFSET &&
		    (refs->table[i] || i))
			continue;
		snprintf(why->text, sizeof(why->text),
			 "entry %u of its refcount table, 0x%llx, cannot be true", i,
			 refs->table[i]);
		ret = -EINVAL;
		goto close;
	}
	ret = add_to_guard(refs, why);
	if (!ret && guard->read_only) {
		free(refs->table);
		refs->table = NULL;
		refs->entries = 0;
	}
	if (!ret)
		return 0;

close:
	qcow2_refs_close(refs);
	return ret;
}

void qcow2_refs_close(struct qcow2_refs *refs)
{
	unsigned int i;

	for (i = 0; refs->blocks && i < refs->nr_blocks; i++)
		free(refs->blocks[i].bytes);
	free(refs->blocks);
	free(refs->table);
	*refs = (struct qcow2_refs){};
}

/* Why nothing is written any more; 0: it is. */
static int stopped(const struct qcow2_refs *refs)
{
	return refs->failed ?: qcow2_guard_state(refs->guard);
}

static int write_block(struct qcow2_refs *refs, struct qcow2_refblock *block)
{
	int ret = stopped(refs);

	if (!ret)
		ret = refs->blk->write(refs->blk, block->bytes, refs->table[block->nr],
				       qcow2_cluster_size(refs->layout));
	if (!ret)
		block->dirty = false;
	return ret;
}

int qcow2_refs_write(struct qcow2_refs *refs)
{
	unsigned int i;
	int ret = stopped(refs);

	for (i = 0; !ret && i < refs->nr_blocks; i++)
		if (refs->blocks[i].dirty)
			ret = write_block(refs, &refs->blocks[i]);
	return ret;
}

static int flush(struct qcow2_refs *refs)
{
	refs->failed = refs->blk->flush(refs->blk);
	return refs->failed;
}

/* A place in memory for block @nr, which is not there. What was in it is written. */
static int make_room(struct qcow2_refs *refs, __u32 nr, struct qcow2_refblock **block)
{
	struct qcow2_refblock *oldest = refs->blocks;
	unsigned int i;
	int ret;

	for (i = 1; i < refs->nr_blocks; i++)
		if (refs->blocks[i].used < oldest->used)
			oldest = &refs->blocks[i];
	if (oldest->dirty) {
		/* larger counts are written early, smaller ones when that is safe: no harm */
		ret = write_block(refs, oldest);
		if (ret)
			return ret;
	}
	oldest->nr = nr;
	oldest->used = ++refs->clock;
	*block = oldest;
	return 0;
}

/* Block @nr in memory. NULL: there is none, and all of its counts are 0. */
static int get_block(struct qcow2_refs *refs, __u64 nr, struct qcow2_refblock **block)
{
	unsigned int i, at;
	int ret;

	*block = NULL;
	if (nr >= refs->entries || !refs->table[nr])
		return 0;
	for (i = 0; i < refs->nr_blocks; i++) {
		at = (refs->last + i) % refs->nr_blocks;
		if (refs->blocks[at].nr != nr)
			continue;
		*block = &refs->blocks[at];
		(*block)->used = ++refs->clock;
		refs->last = at;
		return 0;
	}
	ret = make_room(refs, nr, block);
	if (ret)
		return ret;
	ret = refs->blk->read(refs->blk, (*block)->bytes, refs->table[nr],
			      qcow2_cluster_size(refs->layout));
	if (ret) {
		(*block)->nr = NO_BLOCK;
		*block = NULL;
	}
	return ret;
}

int qcow2_refs_get(struct qcow2_refs *refs, __u64 cluster, __u64 *count)
{
	struct qcow2_refblock *block;
	int ret = get_block(refs, block_of(refs, cluster), &block);

	if (!ret)
		*count = block ? qcow2_get_refcount(refs->layout, block->bytes,
						    entry_of(refs, cluster)) : 0;
	return ret;
}

/* @nr clusters before @cluster are free now: their bytes, too. */
static void discard(struct qcow2_refs *refs, __u64 cluster, __u64 nr)
{
	if (nr)
		refs->blk->discard(refs->blk, position(refs, cluster - nr), position(refs, nr));
}

int qcow2_refs_put(struct qcow2_refs *refs, __u64 cluster, __u64 nr)
{
	struct qcow2_refblock *block;
	__u64 count, run = 0;
	int ret = 0;

	for (; nr; cluster++, nr--) {
		ret = get_block(refs, block_of(refs, cluster), &block);
		if (ret)
			break;
		count = block ? qcow2_get_refcount(refs->layout, block->bytes,
						   entry_of(refs, cluster)) : 0;
		if (!count) {
			ret = -EIO;
			break;
		}
		qcow2_put_refcount(refs->layout, block->bytes, entry_of(refs, cluster), count - 1);
		block->dirty = true;
		if (count == 1) {
			if (cluster < refs->next)
				refs->next = cluster;
			run++;
			continue;
		}
		discard(refs, cluster, run);
		run = 0;
	}
	discard(refs, cluster, run);
	return ret;
}

int qcow2_refs_claim(struct qcow2_refs *refs, __u64 cluster)
{
	struct qcow2_refblock *block;
	int ret = get_block(refs, block_of(refs, cluster), &block);

	if (ret)
		return ret;
	if (!block)
		return -EIO;
	if (qcow2_get_refcount(refs->layout, block->bytes, entry_of(refs, cluster)))
		return 0;
	qcow2_put_refcount(refs->layout, block->bytes, entry_of(refs, cluster), 1);
	block->dirty = true;
	return 0;
}

int qcow2_refs_write_entry(struct qcow2_refs *refs, __u32 nr)
{
	__u64 sector[SECTOR_ENTRIES];
	__u32 first = nr - nr % SECTOR_ENTRIES, i;

	for (i = 0; i < SECTOR_ENTRIES; i++)
		sector[i] = htobe64(refs->table[first + i]);
	return refs->blk->write(refs->blk, sector, refs->layout->reftable.offset +
				first * sizeof(__u64), sizeof(sector));
}

/*
 * Block @nr, which the table has room for, in the first of the clusters that it counts:
 * that is as free as the others.
 */
static int add_block(struct qcow2_refs *refs, __u32 nr)
{
	__u64 cluster = (__u64)nr * qcow2_refblock_entries(refs->layout);
	struct qcow2_refblock *block;
	struct qcow2_why why;
	int ret = qcow2_guard_take(refs->guard, cluster, 1);

	if (!ret)
		ret = qcow2_guard_check_unnamed(refs->guard, cluster, 1);
	if (!ret)
		ret = qcow2_guard_add(refs->guard, QCOW2_META_REFBLOCK, cluster, 1, &why);
	if (ret)
		return ret;
	ret = make_room(refs, nr, &block);
	if (ret)
		goto remove;
	memset(block->bytes, 0, qcow2_cluster_size(refs->layout));
	qcow2_put_refcount(refs->layout, block->bytes, 0, 1);
	refs->table[nr] = position(refs, cluster);
	ret = write_block(refs, block);
	if (!ret)
		ret = flush(refs);
	if (!ret)
		ret = qcow2_refs_write_entry(refs, nr);
	if (!ret)
		ret = flush(refs);
	if (!ret)
		return 0;
	/* should the entry have got there: nobody but this block is ever put at its place */
	refs->table[nr] = 0;
	block->nr = NO_BLOCK;
remove:
	qcow2_guard_remove(refs->guard, cluster, 1);
	return ret;
}

/*
 * A table of @clusters clusters behind all that the present one can count, and before it the
 * blocks that count both: @nr_new of them. Nothing of that is anybody's until the header
 * names it.
 */
static int write_table(struct qcow2_refs *refs, __u64 *table, __u32 nr_new, __u32 clusters)
{
	__u32 entries = qcow2_refblock_entries(refs->layout), i, j;
	__u64 first = (__u64)refs->entries * entries, size = qcow2_cluster_size(refs->layout);
	__u64 counted = nr_new + clusters;
	void *block = malloc(size);
	int ret = block ? 0 : -ENOMEM;

	for (i = 0; !ret && i < nr_new; i++) {
		memset(block, 0, size);
		for (j = 0; j < entries && counted; j++, counted--)
			qcow2_put_refcount(refs->layout, block, j, 1);
		ret = refs->blk->write(refs->blk, block, position(refs, first + i), size);
		table[refs->entries + i] = htobe64(position(refs, first + i));
	}
	if (!ret)
		ret = refs->blk->write(refs->blk, table, position(refs, first + nr_new),
				       position(refs, clusters));
	if (!ret)
		ret = flush(refs);
	free(block);
	return ret;
}

/* @nr_blocks blocks and @clusters clusters of a table, from @first on, become metadata. */
static int take_place(struct qcow2_refs *refs, __u64 first, __u32 nr_blocks, __u64 clusters)
{
	struct qcow2_why why;
	int ret = qcow2_guard_take(refs->guard, first, nr_blocks + clusters);

	if (!ret)
		ret = qcow2_guard_check_unnamed(refs->guard, first, nr_blocks + clusters);
	if (!ret)
		ret = qcow2_guard_add(refs->guard, QCOW2_META_REFBLOCK, first, nr_blocks, &why);
	if (!ret)
		ret = qcow2_guard_add(refs->guard, QCOW2_META_REFTABLE, first + nr_blocks, clusters,
				      &why);
	return ret;
}

/* A larger table, that can count cluster @cluster. */
static int grow_table(struct qcow2_refs *refs, __u64 cluster)
{
	struct qcow2_extent old = refs->layout->reftable;
	__u64 entries = qcow2_refblock_entries(refs->layout), clusters, bytes, *table;
	__u64 first = refs->entries * entries, needed = block_of(refs, cluster) + 1, nr_new;
	__u64 most = QCOW2_MAX_REFTABLE_BYTES / sizeof(__u64);
	__u32 i;
	int ret;

	/* half as large again, so that this is seldom; or as large as a table can be */
	if (needed < most)
		needed = needed + needed / 2 < most ? needed + needed / 2 : most;
	for (nr_new = 1;; nr_new++) {
		__u64 total = needed > refs->entries + nr_new ? needed : refs->entries + nr_new;

		bytes = total * sizeof(__u64);
		clusters = (bytes + qcow2_cluster_size(refs->layout) - 1) >> refs->layout->cluster_bits;
		if (nr_new * entries >= nr_new + clusters)
			break;
	}
	bytes = position(refs, clusters);
	if (bytes > QCOW2_MAX_REFTABLE_BYTES ||
	    position(refs, first + nr_new + clusters) >= QCOW2_MAX_OFFSET)
		return -ENOSPC;

	table = calloc(1, bytes);
	if (!table)
		return -ENOMEM;
	for (i = 0; i < refs->entries; i++)
		table[i] = htobe64(refs->table[i]);
	ret = take_place(refs, first, nr_new, clusters);
	if (!ret)
		ret = write_table(refs, table, nr_new, clusters);
	if (!ret) {
		refs->layout->reftable.offset = position(refs, first + nr_new);
		refs->layout->reftable.bytes = bytes;
		ret = qcow2_header_write(refs->blk, refs->layout);
		refs->failed = ret;	/* which of them is the table, nobody knows */
	}
	if (!ret)
		ret = flush(refs);
	if (ret) {
		refs->layout->reftable = old;
		qcow2_guard_remove(refs->guard, first, nr_new + clusters);
		free(table);
		return ret;
	}

	refs->entries = bytes / sizeof(__u64);
	for (i = 0; i < refs->entries; i++)
		table[i] = be64toh(table[i]);
	free(refs->table);
	refs->table = table;
	first = old.offset >> refs->layout->cluster_bits;
	clusters = old.bytes >> refs->layout->cluster_bits;
	qcow2_guard_remove(refs->guard, first, clusters);
	/* else it leaks */
	qcow2_refs_put(refs, first, clusters);
	return 0;
}

/* See to it that there is a block that counts cluster @cluster. */
static int need_block(struct qcow2_refs *refs, __u64 cluster)
{
	__u64 nr = block_of(refs, cluster);
	int ret = 0;

	if (nr >= refs->entries)
		ret = grow_table(refs, cluster);
	if (!ret && !refs->table[nr])
		ret = add_block(refs, nr);
	return ret;
}

/* The first of @nr free clusters beside each other. */
static int find_free(struct qcow2_refs *refs, __u64 nr, __u64 *cluster)
{
	struct qcow2_refblock *block = NULL;
	__u64 at, run = 0;
	int ret;

	for (at = refs->next; run < nr; at++) {
		if (position(refs, at) >= QCOW2_MAX_OFFSET)
			return -ENOSPC;
		if (at == refs->next || !entry_of(refs, at)) {
			ret = get_block(refs, block_of(refs, at), &block);
			if (ret)
				return ret;
		}
		run = block && qcow2_get_refcount(refs->layout, block->bytes, entry_of(refs, at)) ?
		      0 : run + 1;
	}
	*cluster = at - nr;
	return 0;
}

int qcow2_refs_alloc(struct qcow2_refs *refs, __u64 nr, __u64 *cluster)
{
	struct qcow2_refblock *block;
	__u64 first, i, count;
	int ret;

	ret = stopped(refs);
	if (ret)
		return ret;
again:
	ret = find_free(refs, nr, &first);
	for (i = 0; !ret && i < nr; i++) {
		ret = need_block(refs, first + i);
		if (ret)
			break;
		/* a block or table that had to be made may be just there */
		ret = qcow2_refs_get(refs, first + i, &count);
		if (!ret && count)
			goto again;
	}
	if (!ret)
		ret = qcow2_guard_take(refs->guard, first, nr);
	for (i = 0; !ret && i < nr; i++) {
		ret = get_block(refs, block_of(refs, first + i), &block);
		if (ret)
			break;
		qcow2_put_refcount(refs->layout, block->bytes, entry_of(refs, first + i), 1);
		block->dirty = true;
	}
	if (ret)
		return ret;	/* what was counted leaks */
	if (nr == 1)
		refs->next = first + 1;
	refs->allocations += nr;
	*cluster = first;
	return 0;
}
