// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Which clusters of an image are metadata, and whether it is corrupt: see guard.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include "guard.h"
#include "header.h"
#include "tables.h"

#define WHAT_BITS	4
#define FEWEST_BITS	6
#define WAY_OUT		"; qemu-img check -r all may mend it"

static const char *const names[] = {
	[QCOW2_META_HEADER]	= "its header",
	[QCOW2_META_REFTABLE]	= "its refcount table",
	[QCOW2_META_REFBLOCK]	= "a refcount block",
	[QCOW2_META_L1]		= "its L1 table",
	[QCOW2_META_L2]		= "an L2 table",
	[QCOW2_META_SNAPSHOTS]	= "its snapshot table",
	[QCOW2_META_SNAPSHOT_L1] = "a snapshot's L1 table",
	[QCOW2_META_BITMAPS]	= "its bitmap directory",
	[QCOW2_META_BITMAP_TABLE] = "the table of a bitmap",
};

static __u64 nr_slots(const struct qcow2_guard *guard)
{
	return 1ULL << guard->bits;
}

static __u64 cluster_in(__u64 slot)
{
	return slot >> WHAT_BITS;
}

/* The slot where the search for a cluster begins. */
static __u64 home_of(const struct qcow2_guard *guard, __u64 cluster)
{
	__u64 hash = (cluster ^ guard->seed) * 0x9e3779b97f4a7c15ULL;

	hash = (hash ^ hash >> 32) * (guard->seed | 1);
	return hash >> (64 - guard->bits);
}

/* The slot of a cluster, or the empty one that it would have. */
static __u64 slot_of(const struct qcow2_guard *guard, __u64 cluster)
{
	__u64 at = home_of(guard, cluster);

	while (guard->slots[at] && cluster_in(guard->slots[at]) != cluster)
		at = (at + 1) & (nr_slots(guard) - 1);
	return at;
}

/* What is not there yet. */
static void put(struct qcow2_guard *guard, __u64 slot)
{
	guard->slots[slot_of(guard, cluster_in(slot))] = slot;
}

/* Half of the slots stay empty. */
int qcow2_guard_reserve(struct qcow2_guard *guard, __u64 nr)
{
	struct qcow2_guard larger = *guard;
	__u64 i;

	while (2 * (guard->nr + nr) > nr_slots(&larger))
		larger.bits++;
	if (larger.bits == guard->bits)
		return 0;
	larger.slots = calloc(nr_slots(&larger), sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (i = 0; i < nr_slots(guard); i++)
		if (guard->slots[i])
			put(&larger, guard->slots[i]);
	free(guard->slots);
	*guard = larger;
	return 0;
}

int qcow2_guard_open(struct qcow2_guard *guard, struct qcow2_blk *blk,
		     struct qcow2_layout *layout, bool read_only)
{
	__u64 size = blk->size(blk), cluster = qcow2_cluster_size(layout);

	*guard = (struct qcow2_guard){
		.blk	= blk,
		.layout	= layout,
		.read_only = read_only,
		.bits	= FEWEST_BITS,
		.slots	= calloc(1ULL << FEWEST_BITS, sizeof(*guard->slots)),
		.end	= size / cluster + !!(size % cluster),
	};
	guard->opened = guard->end;
	if (!guard->slots)
		return -ENOMEM;
	if (getrandom(&guard->seed, sizeof(guard->seed), 0) < 0)
		guard->seed = (__u64)(unsigned long)guard->slots;
	put(guard, QCOW2_META_HEADER);
	guard->nr = 1;
	return 0;
}

void qcow2_guard_close(struct qcow2_guard *guard)
{
	free(guard->slots);
	*guard = (struct qcow2_guard){};
}

static int check_end(const struct qcow2_guard *guard, enum qcow2_metadata what, __u64 cluster,
		     __u64 nr, struct qcow2_why *why)
{
	if (nr <= guard->end && cluster <= guard->end - nr)
		return 0;
	snprintf(why->text, sizeof(why->text),
		 "%s at cluster %llu goes past the end of the file" WAY_OUT, names[what], cluster);
	return -EINVAL;
}

/* Clusters that an extent touches, which starts with one. */
static __u64 clusters_of(const struct qcow2_guard *guard, const struct qcow2_extent *extent)
{
	return (extent->bytes + qcow2_cluster_size(guard->layout) - 1) >> guard->layout->cluster_bits;
}

int qcow2_guard_check_end(const struct qcow2_guard *guard, enum qcow2_metadata what,
			  const struct qcow2_extent *extent, struct qcow2_why *why)
{
	return check_end(guard, what, extent->offset >> guard->layout->cluster_bits,
			 clusters_of(guard, extent), why);
}

int qcow2_guard_add(struct qcow2_guard *guard, enum qcow2_metadata what, __u64 cluster, __u64 nr,
		    struct qcow2_why *why)
{
	enum qcow2_metadata is;
	__u64 *slot;
	int ret;

	ret = check_end(guard, what, cluster, nr, why) ?: qcow2_guard_reserve(guard, nr);
	for (; !ret && nr; cluster++, nr--) {
		slot = &guard->slots[slot_of(guard, cluster)];
		is = *slot & ((1 << WHAT_BITS) - 1);
		if (is) {
			snprintf(why->text, sizeof(why->text),
				 "%s and %s overlap at cluster %llu" WAY_OUT, names[what],
				 is == what ? "another" : names[is], cluster);
			return -EINVAL;
		}
		*slot = cluster << WHAT_BITS | what;
		guard->nr++;
	}
	return ret;
}

int qcow2_guard_add_extent(struct qcow2_guard *guard, enum qcow2_metadata what,
			   const struct qcow2_extent *extent, struct qcow2_why *why)
{
	if (!extent->bytes)
		return 0;
	return qcow2_guard_add(guard, what, extent->offset >> guard->layout->cluster_bits,
			       clusters_of(guard, extent), why);
}

static void empty(struct qcow2_guard *guard, __u64 at)
{
	__u64 mask = nr_slots(guard) - 1, next;

	/* what is behind it must be found without it */
	for (next = (at + 1) & mask; guard->slots[next]; next = (next + 1) & mask) {
		__u64 home = home_of(guard, cluster_in(guard->slots[next]));

		if (((next - home) & mask) < ((next - at) & mask))
			continue;
		guard->slots[at] = guard->slots[next];
		at = next;
	}
	guard->slots[at] = 0;
	guard->nr--;
}

void qcow2_guard_remove(struct qcow2_guard *guard, __u64 cluster, __u64 nr)
{
	__u64 at;

	for (; nr; cluster++, nr--) {
		at = slot_of(guard, cluster);
		if (guard->slots[at])
			empty(guard, at);
	}
}

enum qcow2_metadata qcow2_guard_find(const struct qcow2_guard *guard, __u64 cluster)
{
	return guard->slots[slot_of(guard, cluster)] & ((1 << WHAT_BITS) - 1);
}

/* The first that is found is what is told. That the header cannot be written changes nothing. */
static int __attribute__((format(printf, 2, 3)))
is_corrupt(struct qcow2_guard *guard, const char *format, ...)
{
	struct qcow2_blk *blk = guard->blk;
	va_list args;

	if (qcow2_guard_state(guard))
		return -EIO;
	va_start(args, format);
	vsnprintf(guard->corrupt.text, sizeof(guard->corrupt.text), format, args);
	va_end(args);
	if (guard->read_only || guard->layout->version == 2)
		return -EIO;
	guard->layout->incompatible |= QCOW2_INCOMPAT_CORRUPT;
	if (!qcow2_header_write(blk, guard->layout))
		blk->flush(blk);
	return -EIO;
}

int qcow2_guard_take(struct qcow2_guard *guard, __u64 cluster, __u64 nr)
{
	enum qcow2_metadata is;

	for (; nr; cluster++, nr--) {
		is = qcow2_guard_find(guard, cluster);
		if (is)
			return is_corrupt(guard, "its refcounts say that cluster %llu is free, which is %s" WAY_OUT,
					  cluster, names[is]);
	}
	if (guard->end < cluster)
		guard->end = cluster;
	return 0;
}

/* Does an L2 entry that can be true name a cluster of those from @first to @last? */
static bool names_one_of(const struct qcow2_layout *layout, __u64 entry, __u64 first, __u64 last)
{
	__u64 from = (entry & QCOW2_OFFSET) >> layout->cluster_bits, to = from;
	struct qcow2_cluster cluster;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_parse_entry(layout, entry, 0, 0, &cluster);
		from = cluster.offset >> layout->cluster_bits;
		to = (cluster.offset + cluster.bytes - 1) >> layout->cluster_bits;
	}
	return from <= last && first <= to;
}

int qcow2_guard_check_unnamed(struct qcow2_guard *guard, __u64 cluster, __u64 nr)
{
	const struct qcow2_memory *memory = guard->memory;
	const struct qcow2_layout *layout = guard->layout;
	__u32 entries = qcow2_l2_entries(layout), i, j;
	const __u8 *at;
	__u64 entry;

	if (!memory || cluster >= guard->opened || qcow2_has_data_file(layout))
		return 0;
	for (i = 0; i < memory->nr; i++) {
		if (!memory->owners[i].l1)
			continue;
		at = memory->bytes + ((size_t)i << layout->cluster_bits);
		for (j = 0; j < entries; j++, at += 1U << layout->entry_bits) {
			entry = qcow2_get64(at);
			if (names_one_of(layout, entry, cluster, cluster + nr - 1))
				return is_corrupt(guard, "entry %u of its L2 table %u, 0x%llx, names what its refcounts say is free"
						  WAY_OUT, j, memory->owners[i].l1 - 1, entry);
		}
	}
	return 0;
}

/* A cluster that entry @nr of table @l1 names: can it be its? */
static int check_place(struct qcow2_guard *guard, __u32 l1, __u32 nr, __u64 cluster)
{
	enum qcow2_metadata is = qcow2_guard_find(guard, cluster);

	if (cluster >= guard->end)
		return is_corrupt(guard, "entry %u of its L2 table %u names cluster %llu, which is behind the end of the file"
				  WAY_OUT, nr, l1, cluster);
	if (is)
		return is_corrupt(guard, "entry %u of its L2 table %u names cluster %llu, which is %s"
				  WAY_OUT, nr, l1, cluster, names[is]);
	return 0;
}

static int check_entry(struct qcow2_guard *guard, __u32 l1, __u32 nr, __u64 entry, __u64 bitmap)
{
	const struct qcow2_layout *layout = guard->layout;
	__u64 at = ((__u64)l1 * qcow2_l2_entries(layout) + nr) << layout->cluster_bits, first, last;
	struct qcow2_cluster cluster;
	int ret = 0;

	qcow2_parse_entry(layout, entry, bitmap, 0, &cluster);
	if (cluster.kind == QCOW2_KIND_INVALID)
		return is_corrupt(guard, "entry %u of its L2 table %u, 0x%llx, cannot be true" WAY_OUT,
				  nr, l1, entry);
	if (qcow2_has_data_file(layout)) {
		if (!cluster.allocated || cluster.offset == at)
			return 0;
		return is_corrupt(guard, "entry %u of its L2 table %u names %llu in its data file, and can only be %llu"
				  WAY_OUT, nr, l1, cluster.offset, at);
	}
	first = cluster.offset >> layout->cluster_bits;
	last = first;
	if (cluster.kind == QCOW2_KIND_COMPRESSED)
		last = (cluster.offset + cluster.bytes - 1) >> layout->cluster_bits;
	else if (!cluster.allocated)
		return 0;
	for (; !ret && first <= last; first++)
		ret = check_place(guard, l1, nr, first);
	return ret;
}

/* Is it an entry as nearly all are, of a whole cluster that can be its? */
static bool is_plain(const struct qcow2_guard *guard, __u64 entry)
{
	__u64 place = entry & QCOW2_OFFSET, cluster = place >> guard->layout->cluster_bits;

	return place && !(entry & ~(QCOW2_COPIED | QCOW2_OFFSET)) &&
	       cluster << guard->layout->cluster_bits == place && cluster < guard->end &&
	       !qcow2_guard_find(guard, cluster);
}

int qcow2_guard_check_table(struct qcow2_guard *guard, __u32 l1, const void *bytes)
{
	bool subclusters = guard->layout->entry_bits == 4;
	bool plain = !subclusters && !qcow2_has_data_file(guard->layout);
	__u32 nr = qcow2_l2_entries(guard->layout), i;
	int ret = 0;

	for (i = 0; !ret && i < nr; i++, bytes += 1U << guard->layout->entry_bits) {
		__u64 entry = qcow2_get64(bytes), bitmap = subclusters ? qcow2_get64(bytes + 8) : 0;

		if ((entry || bitmap) && !(plain && is_plain(guard, entry)))
			ret = check_entry(guard, l1, i, entry, bitmap);
	}
	return ret;
}
