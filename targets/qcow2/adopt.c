// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Tables that another one has left in memory: see tables.h. */
#include <stdio.h>
#include <stdlib.h>
#include "tables_inner.h"

/* Cluster @cluster is named, also when nobody has written it or counted it yet. */
static int adopt_cluster(struct qcow2_tables *tables, __u64 cluster)
{
	return qcow2_guard_take(tables->guard, cluster, 1) ?: qcow2_refs_claim(tables->refs, cluster);
}

/*
 * An entry of a table in memory, and what the file has in its place: what is named now is
 * counted, or what is not named any more lost.
 */
static int adopt_entry(struct qcow2_tables *tables, const struct qcow2_table *table, __u64 old_entry,
		       __u64 entry, bool count)
{
	unsigned int bits = tables->layout->cluster_bits;
	struct qcow2_cluster old, now;
	__u64 last;

	if (old_entry == entry)
		return 0;
	qcow2_parse_entry(tables->layout, old_entry, 0, 0, &old);
	qcow2_parse_entry(tables->layout, entry, 0, 0, &now);
	if (old.allocated && now.allocated && old.offset == now.offset)
		return 0;
	if (count)
		return now.allocated ? adopt_cluster(tables, now.offset >> bits) : 0;
	last = old.offset;
	if (old.kind == QCOW2_KIND_COMPRESSED)
		last += old.bytes - 1;
	else if (!old.allocated)
		return 0;
	return qcow2_tables_lose(tables, table, old.offset >> bits,
				 (last >> bits) - (old.offset >> bits) + 1);
}

/* What of a table in memory is not in the file, whose version is @old. */
static int adopt_changes(struct qcow2_tables *tables, struct qcow2_table *table, const __u8 *old,
			 bool count)
{
	__u32 entry = 1U << tables->layout->entry_bits, at, i;
	const __u8 *now = bytes_of(tables, table);
	int ret = 0;

	for (at = 0; !ret && at < qcow2_cluster_size(tables->layout); at += QCOW2_SECTOR) {
		if (!memcmp(old + at, now + at, QCOW2_SECTOR))
			continue;
		mark_sector(table, at / QCOW2_SECTOR);
		tables->mapped = true;
		/* nobody counts what is in a data file */
		for (i = at; !tables->data && !ret && i < at + QCOW2_SECTOR; i += entry)
			ret = adopt_entry(tables, table, qcow2_get64(old + i), qcow2_get64(now + i),
					  count);
	}
	return ret;
}

/* A table that is in memory and not in the file yet, where L1 entry @old is. */
static int adopt_place(struct qcow2_tables *tables, struct qcow2_table *table, __u64 old, __u64 entry,
		       bool count)
{
	__u64 cluster = (entry & QCOW2_OFFSET) >> tables->layout->cluster_bits;
	struct qcow2_why why;
	__u32 i;
	int ret = 0;

	if (!count && old)
		return qcow2_tables_lose(tables, NULL,
			(old & QCOW2_OFFSET) >> tables->layout->cluster_bits, 1);
	if (!count)
		return 0;
	table->fresh = true;
	for (i = 0; i < nr_sectors(tables); i++)
		mark_sector(table, i);
	set_l1(tables, table->l1, entry);
	if (old)
		qcow2_guard_remove(tables->guard, (old & QCOW2_OFFSET) >> tables->layout->cluster_bits, 1);
	ret = adopt_cluster(tables, cluster);
	return ret ?: qcow2_guard_add(tables->guard, QCOW2_META_L2, cluster, 1, &why);
}

/*
 * Table @nr, which is in memory. @was: its L1 entry in the file; @old: room for a cluster.
 * @count what is named now, or lose what is not any more.
 */
static int adopt_table(struct qcow2_tables *tables, __u32 nr, __u64 was, __u8 *old, bool count)
{
	struct qcow2_owner *owner = &tables->memory.owners[nr];
	struct qcow2_table *table = &tables->tables[nr];
	int ret = 0;

	if (count) {
		table->l1 = owner->l1 - 1;
		table->used = ++tables->clock;
		if (owner->nr)
			memcpy(entry_of(tables, table, owner->nr - 1), owner->words, sizeof(owner->words));
		owner->nr = 0;
	}
	memset(old, 0, qcow2_cluster_size(tables->layout));
	if (was)
		ret = tables->blk->read(tables->blk, old, was & QCOW2_OFFSET,
					qcow2_cluster_size(tables->layout));
	if (!ret)
		ret = adopt_changes(tables, table, old, count);
	/* whether it is nobody else's may have been corrected in the file, by who opened that */
	if (ret || !((was ^ owner->entry) & QCOW2_OFFSET))
		return ret;
	return adopt_place(tables, table, was, owner->entry, count);
}

/* Is the table for L1 entry @l1 among the first @nr that were taken over? */
static bool is_adopted(const struct qcow2_tables *tables, __u32 l1, __u32 nr)
{
	while (nr--)
		if (tables->tables[nr].l1 == l1)
			return true;
	return false;
}

int qcow2_tables_adopt(struct qcow2_tables *tables, struct qcow2_why *why)
{
	struct qcow2_owner *owners = tables->memory.owners;
	__u8 *old = malloc(qcow2_cluster_size(tables->layout));
	__u64 *was = calloc(tables->memory.nr, sizeof(*was));
	int ret = old && was ? 0 : -ENOMEM, count;
	__u32 i;

	/* first all is counted that is named, then what is not is lost */
	for (count = 1; count >= 0; count--) {
		for (i = 0; !ret && i < tables->memory.nr; i++) {
			if (!owners[i].l1 || owners[i].l1 > nr_l1(tables))
				continue;
			/* who died may just have shown it to programs */
			if (count && is_hidden(tables, i) && is_adopted(tables, owners[i].l1 - 1, i)) {
				owners[i].l1 = 0;
				continue;
			}
			if (count)
				was[i] = tables->l1[owners[i].l1 - 1];
			ret = adopt_table(tables, i, was[i], old, count);
		}
	}
	free(old);
	free(was);
	if (ret) {
		snprintf(why->text, sizeof(why->text), "its tables in memory cannot be taken over: %s",
			 strerror(-ret));
		return ret;
	}
	/* who died may just have taken one out */
	for (i = 0; i < tables->memory.nr - QCOW2_HIDDEN_TABLES; i++)
		if (tables->tables[i].l1 != NO_L1)
			__atomic_store_n(&tables->memory.index[tables->tables[i].l1], i + 1,
					 __ATOMIC_SEQ_CST);
	return 0;
}
