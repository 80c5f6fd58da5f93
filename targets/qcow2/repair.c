// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* An image that was not closed: see repair.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "header.h"
#include "repair.h"

/* What is known of a dirty image. */
struct repair {
	struct qcow2_image *image;
	const struct qcow2_snapshots *snapshots;
	struct qcow2_why *why;
	__u64 nr;		/* clusters of the file, and of blocks that are to be made */
	__u16 *counts;		/* references to each */
	__u64 *metadata;	/* which of them are, a bit each */
	__u64 *fresh;		/* by entry of the refcount table: the block to be made; 0: none */
	__u8 *bytes, *old;	/* a cluster each */
};

static const struct qcow2_layout *layout_of(const struct repair *repair)
{
	return &repair->image->layout;
}

static int refuse(const struct repair *repair, const char *what, __u64 which)
{
	snprintf(repair->why->text, sizeof(repair->why->text),
		 "it was not closed, and there is more that is wrong with it than counts: %s %llu; qemu-img check -r all may mend it",
		 what, which);
	return -EINVAL;
}

static int refuse_size(struct qcow2_why *why)
{
	snprintf(why->text, sizeof(why->text),
		 "it was not closed, and is too large to be mended here; try qemu-img check -r all");
	return -EINVAL;
}

static bool is_metadata(const struct repair *repair, __u64 cluster)
{
	return repair->metadata[cluster / 64] >> cluster % 64 & 1;
}

static void set_metadata(const struct repair *repair, __u64 cluster)
{
	repair->metadata[cluster / 64] |= 1ULL << cluster % 64;
}

/* @times references to a cluster. */
static int refer(const struct repair *repair, __u64 cluster, __u32 times)
{
	__u64 most = qcow2_max_refcount(layout_of(repair));

	if (cluster >= repair->nr)
		return refuse(repair, "the file ends before cluster", cluster);
	if (most > 0xffff)
		most = 0xffff;
	if (repair->counts[cluster] + times > most)
		return refuse(repair, "too much refers to cluster", cluster);
	repair->counts[cluster] += times;
	return 0;
}

/* One reference to each of @nr clusters that are metadata, and can have no other. */
static int refer_only(const struct repair *repair, __u64 cluster, __u64 nr)
{
	int ret = 0;

	for (; !ret && nr; cluster++, nr--) {
		if (cluster < repair->nr && repair->counts[cluster])
			return refuse(repair, "what lies in one place overlaps, at cluster", cluster);
		ret = refer(repair, cluster, 1);
		if (!ret)
			set_metadata(repair, cluster);
	}
	return ret;
}

static int refer_extent(const struct repair *repair, const struct qcow2_extent *extent)
{
	__u64 size = qcow2_cluster_size(layout_of(repair));

	return refer_only(repair, extent->offset / size, (extent->bytes + size - 1) / size);
}

/* Call @entry for each of the 8-byte entries of a table that is read. */
static int for_each(const struct repair *repair, const struct qcow2_extent *table,
		    int (*entry)(const struct repair *repair, __u64 value))
{
	struct qcow2_blk *blk = repair->image->blk;
	__u64 at, nr, i;
	int ret = 0;

	for (at = 0; !ret && at < table->bytes; at += nr) {
		nr = table->bytes - at;
		if (nr > qcow2_cluster_size(layout_of(repair)))
			nr = qcow2_cluster_size(layout_of(repair));
		ret = blk->read(blk, repair->bytes, table->offset + at, nr);
		for (i = 0; !ret && i < nr; i += 8)
			ret = entry(repair, qcow2_get64(repair->bytes + i));
	}
	return ret;
}

/* An L2 table, which several L1 tables may name. */
static int count_l1_entry(const struct repair *repair, __u64 entry)
{
	__u64 cluster = (entry & QCOW2_OFFSET) >> layout_of(repair)->cluster_bits;
	int ret;

	if (!qcow2_l1_entry_is_valid(layout_of(repair), entry))
		return refuse(repair, "an L1 table cannot have the entry", entry);
	if (!entry)
		return 0;
	ret = refer(repair, cluster, 1);
	if (!ret)
		set_metadata(repair, cluster);
	return ret;
}

static int count_l1_tables(const struct repair *repair)
{
	int ret = for_each(repair, &layout_of(repair)->l1, count_l1_entry);
	__u32 i;

	for (i = 0; !ret && i < repair->snapshots->nr; i++)
		ret = for_each(repair, &repair->snapshots->l1[i], count_l1_entry);
	return ret;
}

static int read_cluster(const struct repair *repair, void *to, __u64 cluster)
{
	__u64 size = qcow2_cluster_size(layout_of(repair));

	return repair->image->blk->read(repair->image->blk, to, cluster * size, size);
}

/* Entry @nr of the L2 table in repair->bytes. */
static __u64 get_entry(const struct repair *repair, __u32 nr, struct qcow2_cluster *cluster)
{
	const struct qcow2_layout *layout = layout_of(repair);
	const __u8 *at = repair->bytes + ((size_t)nr << layout->entry_bits);
	__u64 entry = qcow2_get64(at);

	qcow2_parse_entry(layout, entry, layout->entry_bits == 4 ? qcow2_get64(at + 8) : 0, 0,
			  cluster);
	return entry;
}

/* What the L2 table at a cluster names, as often as it is named itself. */
static int count_l2_table(const struct repair *repair, __u64 table)
{
	const struct qcow2_layout *layout = layout_of(repair);
	__u32 nr = qcow2_l2_entries(layout), i;
	struct qcow2_cluster cluster;
	__u64 first, last;
	int ret = read_cluster(repair, repair->bytes, table);

	for (i = 0; !ret && i < nr; i++) {
		get_entry(repair, i, &cluster);
		if (cluster.kind == QCOW2_KIND_INVALID)
			return refuse(repair, "an entry cannot be true, of the L2 table at cluster",
				      table);
		first = cluster.offset >> layout->cluster_bits;
		last = first;
		if (cluster.kind == QCOW2_KIND_COMPRESSED)
			last = (cluster.offset + cluster.bytes - 1) >> layout->cluster_bits;
		else if (!cluster.allocated)
			continue;
		for (; !ret && first <= last; first++) {
			if (first < repair->nr && is_metadata(repair, first))
				return refuse(repair, "data would lie in the L2 table at cluster",
					      first);
			ret = refer(repair, first, repair->counts[table]);
		}
	}
	return ret;
}

/* With a data file: the table of L1 entry @l1 names no cluster of the image, and there its own. */
static int check_l2_table(const struct repair *repair, __u32 l1)
{
	const struct qcow2_layout *layout = layout_of(repair);
	__u64 table = (repair->image->tables.l1[l1] & QCOW2_OFFSET) >> layout->cluster_bits;
	__u64 at = (__u64)l1 << qcow2_l2_reach_bits(layout);
	__u32 nr = qcow2_l2_entries(layout), i;
	struct qcow2_cluster cluster;
	int ret = read_cluster(repair, repair->bytes, table);

	for (i = 0; !ret && i < nr; i++, at += qcow2_cluster_size(layout)) {
		get_entry(repair, i, &cluster);
		if (cluster.kind == QCOW2_KIND_INVALID)
			return refuse(repair, "an entry cannot be true, of the L2 table at cluster",
				      table);
		if (cluster.allocated && cluster.offset != at)
			return refuse(repair, "an entry names another's place in its data file, of the L2 table at cluster",
				      table);
	}
	return ret;
}

/* An image with a data file has no snapshots: all tables are those of its L1 table. */
static int check_l2_tables(const struct repair *repair)
{
	const struct qcow2_tables *tables = &repair->image->tables;
	__u32 i;
	int ret = 0;

	for (i = 0; !ret && i < layout_of(repair)->l1.bytes / sizeof(__u64); i++)
		if (tables->l1[i])
			ret = check_l2_table(repair, i);
	return ret;
}

/* Are there no more L2 tables and refcount blocks than can be read? So far, tables are known. */
static int check_bytes(const struct repair *repair)
{
	const struct qcow2_refs *refs = &repair->image->refs;
	__u64 nr = 0, i;

	for (i = 0; i <= repair->nr / 64; i++)
		nr += __builtin_popcountll(repair->metadata[i]);
	for (i = 0; i < refs->entries; i++)
		nr += !!refs->table[i];
	return nr * qcow2_cluster_size(layout_of(repair)) <= QCOW2_MAX_REPAIRED_BYTES ? 0 :
	       refuse_size(repair->why);
}

/* They are the only metadata that is known by now: in the order of the file. */
static int count_l2_tables(const struct repair *repair)
{
	__u64 i;
	int ret = 0;

	if (qcow2_has_data_file(layout_of(repair)))
		return check_l2_tables(repair);
	for (i = 0; !ret && i < repair->nr; i++)
		if (is_metadata(repair, i))
			ret = count_l2_table(repair, i);
	return ret;
}

static int count_bitmap_entry(const struct repair *repair, __u64 entry)
{
	__u64 offset = entry & QCOW2_OFFSET;

	if (offset & (qcow2_cluster_size(layout_of(repair)) - 1) ||
	    entry & ~(offset ? QCOW2_OFFSET : 1))
		return refuse(repair, "the table of a bitmap cannot have the entry", entry);
	return offset ? refer_only(repair, offset >> layout_of(repair)->cluster_bits, 1) : 0;
}

static int count_bitmaps(const struct repair *repair)
{
	const struct qcow2_bitmaps *bitmaps = &repair->image->bitmaps;
	int ret = refer_extent(repair, &layout_of(repair)->bitmaps);
	__u32 i;

	for (i = 0; !ret && i < bitmaps->nr; i++) {
		ret = refer_extent(repair, &bitmaps->list[i].table);
		if (!ret)
			ret = for_each(repair, &bitmaps->list[i].table, count_bitmap_entry);
	}
	return ret;
}

static int count_snapshots(const struct repair *repair)
{
	int ret = refer_extent(repair, &repair->snapshots->table);
	__u32 i;

	for (i = 0; !ret && i < repair->snapshots->nr; i++)
		ret = refer_extent(repair, &repair->snapshots->l1[i]);
	return ret;
}

static int count_refcounts(const struct repair *repair)
{
	const struct qcow2_refs *refs = &repair->image->refs;
	int ret = refer_extent(repair, &layout_of(repair)->reftable);
	__u32 i;

	for (i = 0; !ret && i < refs->entries; i++)
		if (refs->table[i])
			ret = refer_only(repair, refs->table[i] >> layout_of(repair)->cluster_bits, 1);
	return ret;
}

static int count_all(const struct repair *repair)
{
	int ret = count_l1_tables(repair) ?: check_bytes(repair);

	if (!ret)
		ret = count_l2_tables(repair);
	if (!ret)
		ret = refer_only(repair, 0, 1);
	if (!ret)
		ret = refer_extent(repair, &layout_of(repair)->l1);
	if (!ret)
		ret = count_refcounts(repair);
	if (!ret)
		ret = count_snapshots(repair);
	if (!ret)
		ret = count_bitmaps(repair);
	return ret;
}

/* The clusters that block @nr of the refcounts counts, of those that there are. */
static void clusters_of(const struct repair *repair, __u64 nr, __u64 *first, __u64 *end)
{
	__u32 entries = qcow2_refblock_entries(layout_of(repair));

	*first = nr * entries;
	*end = *first + entries < repair->nr ? *first + entries : repair->nr;
}

static bool has_references(const struct repair *repair, __u64 nr)
{
	__u64 at, end;

	for (clusters_of(repair, nr, &at, &end); at < end; at++)
		if (repair->counts[at])
			return true;
	return false;
}

/* Are there tables in memory that another one has left, and the file knows nothing of? */
static bool has_tables_left(const struct repair *repair)
{
	const struct qcow2_memory *memory = &repair->image->tables.memory;
	__u32 i;

	for (i = 0; i < memory->nr; i++)
		if (memory->owners[i].l1)
			return true;
	return false;
}

/*
 * Find a place for each block that there has to be and is not, which has to be counted itself:
 * the first clusters that nothing refers to, or the end of the file where tables in memory may.
 */
static int plan_blocks(struct repair *repair)
{
	const struct qcow2_refs *refs = &repair->image->refs;
	__u32 entries = qcow2_refblock_entries(layout_of(repair)), i;
	__u64 place = has_tables_left(repair) ? repair->nr : 1, nr;
	bool again;

	do {
		again = false;
		nr = (repair->nr + entries - 1) / entries;
		for (i = 0; i < nr; i++) {
			if (i < refs->entries && (refs->table[i] || repair->fresh[i]))
				continue;
			if (!has_references(repair, i))
				continue;
			if (i >= refs->entries)
				return refuse(repair, "its refcount table is too small for cluster",
					      (__u64)i * entries);
			while (place < repair->nr && repair->counts[place])
				place++;
			if (place >= repair->nr)
				repair->nr = place + 1;
			repair->counts[place] = 1;
			repair->fresh[i] = place;
			again = true;
		}
	} while (again);
	return 0;
}

/* Make refcount block @nr, if it is there or is to be made, what it should be. */
static int write_block(const struct repair *repair, __u32 nr)
{
	const struct qcow2_layout *layout = layout_of(repair);
	__u64 place = repair->image->refs.table[nr] >> layout->cluster_bits, at, first, end;
	__u64 size = qcow2_cluster_size(layout);
	struct qcow2_blk *blk = repair->image->blk;
	int ret = 0;

	memset(repair->bytes, 0, size);
	clusters_of(repair, nr, &first, &end);
	for (at = first; at < end; at++)
		qcow2_put_refcount(layout, repair->bytes, at - first, repair->counts[at]);
	if (place) {
		ret = read_cluster(repair, repair->old, place);
		if (ret || !memcmp(repair->bytes, repair->old, size))
			return ret;
	} else {
		place = repair->fresh[nr];
	}
	return place ? blk->write(blk, repair->bytes, place * size, size) : 0;
}

/* All blocks, and when they are there the entries of new ones. */
static int write_counts(const struct repair *repair)
{
	struct qcow2_refs *refs = &repair->image->refs;
	struct qcow2_blk *blk = repair->image->blk;
	__u32 i;
	int ret = 0;

	for (i = 0; !ret && i < refs->entries; i++)
		ret = write_block(repair, i);
	if (!ret)
		ret = blk->flush(blk);
	for (i = 0; !ret && i < refs->entries; i++) {
		if (!repair->fresh[i])
			continue;
		refs->table[i] = repair->fresh[i] << layout_of(repair)->cluster_bits;
		ret = qcow2_guard_take(refs->guard, repair->fresh[i], 1);
		if (!ret)
			ret = qcow2_guard_add(refs->guard, QCOW2_META_REFBLOCK, repair->fresh[i], 1,
					      repair->why);
		if (!ret)
			ret = qcow2_refs_write_entry(refs, i);
	}
	return ret;
}

/* Correct what the L2 table at a cluster says of whom clusters belong to. */
static int mark_l2_table(const struct repair *repair, __u64 table)
{
	const struct qcow2_layout *layout = layout_of(repair);
	struct qcow2_blk *blk = repair->image->blk;
	__u32 nr = qcow2_l2_entries(layout), i;
	struct qcow2_cluster cluster;
	bool changed = false;
	int ret = read_cluster(repair, repair->bytes, table);

	for (i = 0; !ret && i < nr; i++) {
		__u64 entry = get_entry(repair, i, &cluster);

		if (cluster.kind == QCOW2_KIND_COMPRESSED || !cluster.allocated ||
		    cluster.copied == (repair->counts[cluster.offset >> layout->cluster_bits] == 1))
			continue;
		qcow2_put64(repair->bytes + ((size_t)i << layout->entry_bits), entry ^ QCOW2_COPIED);
		changed = true;
	}
	if (ret || !changed)
		return ret;
	return blk->write(blk, repair->bytes, table << layout->cluster_bits,
			  qcow2_cluster_size(layout));
}

static int mark_tables(const struct repair *repair)
{
	const struct qcow2_layout *layout = layout_of(repair);
	struct qcow2_tables *tables = &repair->image->tables;
	__u64 table;
	__u32 i;
	int ret = 0;

	for (i = 0; !ret && i < layout->l1.bytes / sizeof(__u64); i++) {
		if (!tables->l1[i])
			continue;
		table = (tables->l1[i] & QCOW2_OFFSET) >> layout->cluster_bits;
		qcow2_tables_set_copied(tables, i, repair->counts[table] == 1);
		/* what is in a data file is nobody else's anyway */
		if (!qcow2_has_data_file(layout))
			ret = mark_l2_table(repair, table);
	}
	return ret ?: qcow2_tables_commit(tables);
}

static int write_header(const struct repair *repair)
{
	struct qcow2_blk *blk = repair->image->blk;
	int ret = qcow2_header_write(blk, layout_of(repair));

	return ret ?: blk->flush(blk);
}

/* The image is dirty until all is there: a crash before has it counted again. */
static int write_all(const struct repair *repair)
{
	struct qcow2_layout *layout = &repair->image->layout;
	int ret = 0;

	if (layout->autoclear & ~QCOW2_AUTOCLEAR_KNOWN) {
		layout->autoclear &= QCOW2_AUTOCLEAR_KNOWN;
		ret = write_header(repair);
	}
	if (!ret)
		ret = write_counts(repair);
	if (!ret)
		ret = mark_tables(repair);
	if (ret)
		return ret;
	layout->incompatible &= ~QCOW2_INCOMPAT_DIRTY;
	return write_header(repair);
}

int qcow2_repair(struct qcow2_image *image, const struct qcow2_snapshots *snapshots,
		 struct qcow2_why *why)
{
	__u64 nr = image->guard.end, room = nr + image->refs.entries;
	struct repair repair = {
		.image = image, .snapshots = snapshots, .why = why, .nr = nr,
	};
	int ret = -ENOMEM;

	if (nr > QCOW2_MAX_REPAIRED)
		return refuse_size(why);
	repair.counts = calloc(room, sizeof(*repair.counts));
	repair.metadata = calloc(room / 64 + 1, sizeof(*repair.metadata));
	repair.fresh = calloc(image->refs.entries, sizeof(*repair.fresh));
	repair.bytes = malloc(qcow2_cluster_size(&image->layout));
	repair.old = malloc(qcow2_cluster_size(&image->layout));
	if (repair.counts && repair.metadata && repair.fresh && repair.bytes && repair.old)
		ret = count_all(&repair);
	if (!ret)
		ret = plan_blocks(&repair);
	if (!ret)
		ret = write_all(&repair);
	free(repair.old);
	free(repair.bytes);
	free(repair.fresh);
	free(repair.metadata);
	free(repair.counts);
	return ret;
}
