/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* What the parts of tables.h share, and nobody else sees. */
#ifndef TARGET_QCOW2_TABLES_INNER_H
#define TARGET_QCOW2_TABLES_INNER_H

#include <errno.h>
#include "tables.h"

#define NO_L1		(~0U)
#define NO_TABLE	(~0U)
#define MAX_LOSSES	4096

static inline __u32 nr_l1(const struct qcow2_tables *tables)
{
	return tables->layout->l1.bytes / sizeof(__u64);
}

static inline __u8 *bytes_of(const struct qcow2_tables *tables, const struct qcow2_table *table)
{
	return tables->memory.bytes + ((size_t)table->nr << tables->layout->cluster_bits);
}

static inline __u64 place_of(const struct qcow2_tables *tables, const struct qcow2_table *table)
{
	return tables->l1[table->l1] & QCOW2_OFFSET;
}

static inline __u32 nr_sectors(const struct qcow2_tables *tables)
{
	return qcow2_cluster_size(tables->layout) / QCOW2_SECTOR;
}

/* I/Os of a program that use table @nr. */
static inline __u32 users_of(const struct qcow2_tables *tables, __u32 nr)
{
	return __atomic_load_n(&tables->memory.users[nr], __ATOMIC_SEQ_CST);
}

static inline bool is_hidden(const struct qcow2_tables *tables, __u32 nr)
{
	return nr >= tables->memory.nr - QCOW2_HIDDEN_TABLES;
}

static inline size_t bitmap_bytes(__u64 bits)
{
	return (bits + 63) / 64 * sizeof(__u64);
}

static inline void mark(__u64 *bitmap, __u32 bit)
{
	bitmap[bit / 64] |= 1ULL << bit % 64;
}

static inline bool is_marked(const __u64 *bitmap, __u32 bit)
{
	return bitmap[bit / 64] >> bit % 64 & 1;
}

static inline void mark_sector(struct qcow2_table *table, __u32 sector)
{
	if (is_marked(table->dirty, sector))
		return;
	mark(table->dirty, sector);
	table->nr_dirty++;
}

static inline void set_l1(struct qcow2_tables *tables, __u32 l1, __u64 entry)
{
	tables->l1[l1] = entry;
	mark(tables->l1_dirty, l1 * sizeof(__u64) / QCOW2_SECTOR);
	tables->l1_any_dirty = true;
	tables->mapped = true;
}

/* Where entry @nr is. */
static inline __u64 *entry_of(const struct qcow2_tables *tables, const struct qcow2_table *table,
			      __u32 nr)
{
	return (__u64 *)(bytes_of(tables, table) + ((size_t)nr << tables->layout->entry_bits));
}

/* Why nothing is written any more; 0: it is. */
static inline int stopped(const struct qcow2_tables *tables)
{
	return tables->failed ?: qcow2_guard_state(tables->guard);
}

/* The table for L1 entry @l1, if it is in memory. */
static inline struct qcow2_table *find_table(const struct qcow2_tables *tables, __u32 l1)
{
	__u32 nr = tables->memory.index[l1];

	if (nr)
		return &tables->tables[nr - 1];
	for (nr = tables->memory.nr - QCOW2_HIDDEN_TABLES; nr < tables->memory.nr; nr++)
		if (tables->tables[nr].l1 == l1)
			return &tables->tables[nr];
	return NULL;
}

#endif
