/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is true of an image in memory, found without any of the engine's code but the parsers of
 * its header and entries: is it to be refused, and are all of its references counted?
 */
#ifndef TESTS_FUZZ_QCOW2_COUNT_H
#define TESTS_FUZZ_QCOW2_COUNT_H

#include <stdarg.h>
#include "qcow2_mem.h"

enum verdict {
	COUNT_IMPOSSIBLE,	/* metadata overlaps, or is not in the file: nobody may open it */
	COUNT_WRONG,		/* something else cannot be true */
	COUNT_CLEAN,		/* all that refers to something is counted; at most too much is */
};

/* The engine does not know what only snapshots and bitmaps name, beside their first tables. */
enum { META_NONE, META_OTHER, META_L2, META_UNKNOWN };

/**
 * struct count - what is known of an image
 * @file:	it
 * @layout:	what its header says
 * @snapshots:	the L1 tables of its snapshots
 * @used:	it was changed since it was right: see count_mark()
 * @nr:		clusters of the file
 * @refers:	references to each
 * @metadata:	what each is
 * @what:	what is wrong with it
 * @verdict:	the result
 */
struct count {
	const struct mem *file;
	struct qcow2_layout layout;
	struct qcow2_extent *snapshots;
	bool used;
	__u64 nr;
	__u32 *refers;
	__u8 *metadata;
	char what[128];
	enum verdict verdict;
};

static inline bool count_failed(const struct count *count)
{
	return count->what[0];
}

static inline void __attribute__((format(printf, 2, 3)))
count_note(struct count *count, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!count_failed(count))
		vsnprintf(count->what, sizeof(count->what), format, args);
	va_end(args);
}

static inline __u64 count_cluster(const struct count *count)
{
	return qcow2_cluster_size(&count->layout);
}

/* Metadata that nothing else can refer to. */
static inline void count_own(struct count *count, const char *name, __u64 offset, __u64 bytes,
			     __u8 what)
{
	__u64 size = count_cluster(count), at = offset / size, end = at + (bytes + size - 1) / size;

	if (bytes && offset % size)
		count_note(count, "%s at %llu", name, offset);
	for (; at < end && !count_failed(count); at++) {
		if (at >= count->nr)
			count_note(count, "%s at cluster %llu is not in the file", name, at);
		else if (count->refers[at])
			count_note(count, "%s and something else are at cluster %llu", name, at);
		else
			count->metadata[at] = what;
		if (at < count->nr)
			count->refers[at]++;
	}
}

static inline void count_l1(struct count *count)
{
	const struct qcow2_extent *l1 = &count->layout.l1;
	__u64 at, entry;

	count_own(count, "L1", l1->offset, l1->bytes, META_OTHER);
	for (at = 0; at < l1->bytes && !count_failed(count); at += 8) {
		entry = mem_get64(count->file, l1->offset + at);
		if (!qcow2_l1_entry_is_valid(&count->layout, entry))
			count_note(count, "L1 entry 0x%llx", entry);
		else if (entry)
			count_own(count, "L2", entry & QCOW2_OFFSET, 1, META_L2);
	}
}

static inline void count_refcounts(struct count *count)
{
	const struct qcow2_extent *table = &count->layout.reftable;
	__u64 at, entry;

	count_own(count, "refcount table", table->offset, table->bytes, META_OTHER);
	for (at = 0; at < table->bytes && !count_failed(count); at += 8) {
		entry = mem_get64(count->file, table->offset + at);
		if (entry >= QCOW2_MAX_OFFSET || (!entry && !at))
			count_note(count, "entry 0x%llx of refcount table", entry);
		else if (entry)
			count_own(count, "refcount block", entry, 1, META_OTHER);
	}
}

static inline void count_snapshot_table(struct count *count)
{
	__u64 table = count->layout.snapshots_offset, at = table;
	__u32 i;

	for (i = 0; i < count->layout.nr_snapshots && !count_failed(count); i++) {
		struct qcow2_extent *l1 = &count->snapshots[i];

		l1->offset = mem_get64(count->file, at);
		l1->bytes = 8ULL * mem_get32(count->file, at + 8);
		if (l1->offset >= QCOW2_MAX_OFFSET || l1->offset % count_cluster(count))
			count_note(count, "L1 table of snapshot %u at %llu", i, l1->offset);
		at += (40 + mem_get16(count->file, at + 12) + mem_get16(count->file, at + 14) +
		       (__u64)mem_get32(count->file, at + 36) + 7) & ~7ULL;
		if (at - table > MEM_ROOM)
			count_note(count, "snapshot table of %llu bytes", at - table);
	}
	count_own(count, "snapshot table", table, at - table, META_OTHER);
	for (i = 0; i < count->layout.nr_snapshots && !count_failed(count); i++)
		count_own(count, "a snapshot's L1", count->snapshots[i].offset,
			  count->snapshots[i].bytes, META_OTHER);
}

/* What has to be right for an image to be opened. */
static inline void count_metadata(struct count *count)
{
	const struct qcow2_extent *bitmaps = &count->layout.bitmaps;

	count_own(count, "header", 0, 1, META_OTHER);
	count_refcounts(count);
	count_l1(count);
	count_own(count, "bitmap directory", bitmaps->offset, bitmaps->bytes, META_OTHER);
	count_snapshot_table(count);
}

/* Data, which may be referred to several times. */
static inline void count_data(struct count *count, __u64 offset, __u64 bytes)
{
	__u64 size = count_cluster(count), at = offset / size, last = (offset + bytes - 1) / size;

	for (; at <= last && !count_failed(count); at++) {
		if (at >= count->nr)
			count_note(count, "data at cluster %llu is not in the file", at);
		else if (count->metadata[at])
			count_note(count, "data at cluster %llu is metadata", at);
		else
			count->refers[at]++;
	}
}

/* What entry @nr of the table at @place says, which is that of L1 entry @l1. */
static inline void count_entry(struct count *count, __u64 place, __u32 l1, __u32 nr,
			       struct qcow2_cluster *cluster)
{
	const struct qcow2_layout *layout = &count->layout;
	__u64 at = ((__u64)l1 * qcow2_l2_entries(layout) + nr) << layout->cluster_bits;
	__u64 pos = place + ((__u64)nr << layout->entry_bits), entry = mem_get64(count->file, pos);
	__u64 bitmap = layout->entry_bits == 4 ? mem_get64(count->file, pos + 8) : 0;

	qcow2_parse_entry(layout, entry, bitmap, 0, cluster);
	if (cluster->kind == QCOW2_KIND_INVALID)
		count_note(count, "L2 entry 0x%llx, 0x%llx", entry, bitmap);
	if (layout->incompatible & QCOW2_INCOMPAT_DATA_FILE && cluster->allocated &&
	    cluster->offset != at)
		count_note(count, "L2 entry 0x%llx in the data file", entry);
}

static inline void count_l2(struct count *count, __u64 place, __u32 l1)
{
	const struct qcow2_layout *layout = &count->layout;
	struct qcow2_cluster cluster;
	__u32 i;

	for (i = 0; i < qcow2_l2_entries(layout) && !count_failed(count); i++) {
		count_entry(count, place, l1, i, &cluster);
		if (cluster.kind == QCOW2_KIND_COMPRESSED)
			count_data(count, cluster.offset, cluster.bytes);
		else if (cluster.allocated && !(layout->incompatible & QCOW2_INCOMPAT_DATA_FILE))
			count_data(count, cluster.offset, 1);
	}
}

/* The L2 tables of a snapshot, which may be those of others too. */
static inline void count_snapshot(struct count *count, const struct qcow2_extent *l1)
{
	__u64 i, entry, place, cluster;

	for (i = 0; i < l1->bytes / 8 && !count_failed(count); i++) {
		entry = mem_get64(count->file, l1->offset + i * 8);
		place = entry & QCOW2_OFFSET;
		cluster = place / count_cluster(count);
		if (!qcow2_l1_entry_is_valid(&count->layout, entry) || cluster >= count->nr)
			count_note(count, "a snapshot's L1 entry 0x%llx", entry);
		else if (entry && (count->metadata[cluster] == META_OTHER ||
				   (!count->metadata[cluster] && count->refers[cluster])))
			count_note(count, "a snapshot's L2 at cluster %llu is something else",
				   cluster);
		if (!entry || count_failed(count))
			continue;
		if (!count->metadata[cluster])
			count->metadata[cluster] = META_UNKNOWN;
		count->refers[cluster]++;
		count_l2(count, place, i);
	}
}

static inline void count_bitmap(struct count *count, const struct qcow2_extent *table)
{
	__u64 at, entry;

	count_own(count, "table of a bitmap", table->offset, table->bytes, META_UNKNOWN);
	for (at = 0; at < table->bytes && !count_failed(count); at += 8) {
		entry = mem_get64(count->file, table->offset + at);
		if (entry & ~QCOW2_OFFSET & ~1ULL || (entry & 1 && entry != 1))
			count_note(count, "entry 0x%llx of a bitmap", entry);
		else if (entry & QCOW2_OFFSET)
			count_own(count, "bitmap", entry & QCOW2_OFFSET, 1, META_UNKNOWN);
	}
}

static inline void count_bitmaps(struct count *count)
{
	__u64 at = count->layout.bitmaps.offset;
	__u32 i;

	for (i = 0; i < count->layout.nr_bitmaps && !count_failed(count); i++) {
		struct qcow2_extent table = {
			.offset	= mem_get64(count->file, at),
			.bytes	= 8ULL * mem_get32(count->file, at + 8),
		};

		if (table.offset >= QCOW2_MAX_OFFSET)
			count_note(count, "table of bitmap %u at %llu", i, table.offset);
		else
			count_bitmap(count, &table);
		at += (24 + mem_get16(count->file, at + 18) +
		       (__u64)mem_get32(count->file, at + 20) + 7) & ~7ULL;
	}
}

/* The refcount of a cluster, as the file has it. */
static inline __u64 count_is(const struct count *count, __u64 cluster)
{
	__u32 entries = qcow2_refblock_entries(&count->layout);
	__u64 nr = cluster / entries, block = 0;

	if (nr < count->layout.reftable.bytes / 8)
		block = mem_get64(count->file, count->layout.reftable.offset + nr * 8);
	return block ? qcow2_get_refcount(&count->layout, count->file->bytes + block,
					  cluster % entries) : 0;
}

/*
 * What is marked as nobody else's is, and what is not is not: but for what two entries named, of
 * which one has a place of its own now.
 */
static inline void count_mark(struct count *count, __u64 offset, bool copied)
{
	__u64 cluster = offset / count_cluster(count), is = count_is(count, cluster);

	if (copied != (is == 1) && !(count->used && !copied))
		count_note(count, "cluster %llu is counted %llu times, and %smarked as its own",
			   cluster, is, copied ? "" : "not ");
}

static inline void count_marks(struct count *count)
{
	const struct qcow2_layout *layout = &count->layout;
	__u32 nr = layout->l1.bytes / 8, i, j;
	struct qcow2_cluster cluster;

	for (i = 0; i < nr && !count_failed(count); i++) {
		__u64 entry = mem_get64(count->file, layout->l1.offset + i * 8ULL);

		if (!entry)
			continue;
		count_mark(count, entry & QCOW2_OFFSET, entry & QCOW2_COPIED);
		for (j = 0; j < qcow2_l2_entries(layout); j++) {
			count_entry(count, entry & QCOW2_OFFSET, i, j, &cluster);
			if (cluster.allocated && !(layout->incompatible & QCOW2_INCOMPAT_DATA_FILE))
				count_mark(count, cluster.offset, cluster.copied);
		}
	}
}

/* Is all that is referred to counted as often? */
static inline void count_references(struct count *count)
{
	const struct qcow2_extent *l1 = &count->layout.l1;
	__u64 i, entry;

	for (i = 0; i < l1->bytes / 8 && !count_failed(count); i++) {
		entry = mem_get64(count->file, l1->offset + i * 8);
		if (entry)
			count_l2(count, entry & QCOW2_OFFSET, i);
	}
	for (i = 0; i < count->layout.nr_snapshots; i++)
		count_snapshot(count, &count->snapshots[i]);
	count_bitmaps(count);
	for (i = 0; i < count->nr && !count_failed(count); i++)
		if (count_is(count, i) < count->refers[i])
			count_note(count, "cluster %llu is counted %llu times, and named %u times",
				   i, count_is(count, i), count->refers[i]);
	count_marks(count);
}

static inline void count_begin(struct count *count, const struct mem *file,
			       const struct qcow2_layout *layout, bool used)
{
	__u64 size = qcow2_cluster_size(layout);

	*count = (struct count){
		.file	= file,
		.layout	= *layout,
		.used	= used,
		.nr	= (file->size + size - 1) / size,
	};
	count->snapshots = calloc(layout->nr_snapshots + 1, sizeof(*count->snapshots));
	count->refers = calloc(count->nr + 1, sizeof(*count->refers));
	count->metadata = calloc(count->nr + 1, sizeof(*count->metadata));
	ensure(count->snapshots && count->refers && count->metadata, "no memory");
	count_metadata(count);
	if (count_failed(count))
		return;
	count_references(count);
	count->verdict = count_failed(count) ? COUNT_WRONG : COUNT_CLEAN;
}

static inline void count_end(struct count *count)
{
	free(count->snapshots);
	free(count->refers);
	free(count->metadata);
	*count = (struct count){};
}

/* Can all entries of the table of L1 entry @l1 be true? */
static inline bool count_table_is_good(const struct count *of, __u32 l1)
{
	__u64 entry = mem_get64(of->file, of->layout.l1.offset + l1 * 8ULL), first, last;
	struct count count = *of;
	struct qcow2_cluster cluster;
	__u32 i;

	count.what[0] = '\0';
	for (i = 0; entry && i < qcow2_l2_entries(&count.layout) && !count_failed(&count); i++) {
		count_entry(&count, entry & QCOW2_OFFSET, l1, i, &cluster);
		if (cluster.kind != QCOW2_KIND_COMPRESSED && !cluster.allocated)
			continue;
		if (count.layout.incompatible & QCOW2_INCOMPAT_DATA_FILE)
			continue;
		first = cluster.offset / count_cluster(&count);
		last = cluster.kind != QCOW2_KIND_COMPRESSED ? first :
		       (cluster.offset + cluster.bytes - 1) / count_cluster(&count);
		for (; first <= last && !count_failed(&count); first++)
			if (first >= count.nr || count.metadata[first] == META_OTHER ||
			    count.metadata[first] == META_L2)
				count_note(&count, "data at cluster %llu", first);
	}
	return !count_failed(&count);
}

#endif
