// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* The L1 table of an image and some of its L2 tables: see tables.h. */
#include <stdio.h>
#include <stdlib.h>
#include "tables_inner.h"

int qcow2_memory_alloc(struct qcow2_memory *memory, const struct qcow2_layout *layout, __u32 nr)
{
	*memory = (struct qcow2_memory){
		.index	= calloc(layout->l1.bytes / sizeof(__u64) + 1, sizeof(*memory->index)),
		.users	= calloc(nr, sizeof(*memory->users)),
		.bytes	= calloc(nr, qcow2_cluster_size(layout)),
		.owners	= calloc(nr, sizeof(*memory->owners)),
		.nr	= nr,
	};
	if (memory->index && memory->users && memory->bytes && memory->owners)
		return 0;
	qcow2_memory_free(memory);
	return -ENOMEM;
}

void qcow2_memory_free(struct qcow2_memory *memory)
{
	free(memory->index);
	free(memory->users);
	free(memory->bytes);
	free(memory->owners);
	*memory = (struct qcow2_memory){};
}

/* The tables that the L1 table names are metadata, as is that. */
static int add_to_guard(struct qcow2_tables *tables, struct qcow2_why *why)
{
	const struct qcow2_layout *layout = tables->layout;
	__u32 i;
	int ret = 0;

	for (i = 0; !ret && i < nr_l1(tables); i++)
		if (tables->l1[i])
			ret = qcow2_guard_add(tables->guard, QCOW2_META_L2, (tables->l1[i] &
					      QCOW2_OFFSET) >> layout->cluster_bits, 1, why);
	return ret;
}

int qcow2_tables_open(struct qcow2_tables *tables, struct qcow2_blk *blk, struct qcow2_blk *data,
		      struct qcow2_layout *layout, struct qcow2_refs *refs,
		      struct qcow2_guard *guard, const struct qcow2_memory *memory,
		      struct qcow2_why *why)
{
	__u32 i, nr = layout->l1.bytes / sizeof(__u64);
	int ret = -ENOMEM;

	*tables = (struct qcow2_tables){
		.blk	= blk,
		.data	= data,
		.layout	= layout,
		.refs	= refs,
		.guard	= guard,
		.memory	= *memory,
		.l1	= calloc(nr ?: 1, sizeof(__u64)),
		.l1_dirty = calloc(1, bitmap_bytes(layout->l1.bytes / QCOW2_SECTOR + 1)),
		.tables	= calloc(memory->nr, sizeof(*tables->tables)),
		.losses	= calloc(MAX_LOSSES, sizeof(*tables->losses)),
	};
	if (!tables->l1 || !tables->l1_dirty || !tables->tables || !tables->losses)
		goto close;
	for (i = 0; i < memory->nr; i++) {
		tables->tables[i].nr = i;
		tables->tables[i].l1 = NO_L1;
		tables->tables[i].dirty = calloc(1, bitmap_bytes(nr_sectors(tables)));
		if (!tables->tables[i].dirty)
			goto close;
	}
	guard->memory = &tables->memory;
	ret = qcow2_guard_add_extent(guard, QCOW2_META_L1, &layout->l1, why);
	if (!ret && nr)
		ret = blk->read(blk, tables->l1, layout->l1.offset, layout->l1.bytes);
	if (ret)
		goto close;
	for (i = 0; i < nr; i++) {
		tables->l1[i] = be64toh(tables->l1[i]);
		if (qcow2_l1_entry_is_valid(layout, tables->l1[i]))
			continue;
		snprintf(why->text, sizeof(why->text),
			 "entry %u of its L1 table, 0x%llx, cannot be true", i, tables->l1[i]);
		ret = -EINVAL;
		goto close;
	}
	ret = add_to_guard(tables, why);
	if (!ret)
		return 0;

close:
	qcow2_tables_close(tables);
	return ret;
}

void qcow2_tables_close(struct qcow2_tables *tables)
{
	__u32 i;

	for (i = 0; tables->tables && i < tables->memory.nr; i++)
		free(tables->tables[i].dirty);
	free(tables->tables);
	free(tables->losses);
	free(tables->l1_dirty);
	free(tables->l1);
	*tables = (struct qcow2_tables){};
}

void qcow2_tables_set_copied(struct qcow2_tables *tables, __u32 l1, bool copied)
{
	__u64 entry = tables->l1[l1] & ~QCOW2_COPIED;

	if (copied)
		entry |= QCOW2_COPIED;
	if (entry != tables->l1[l1])
		set_l1(tables, l1, entry);
}

__u64 qcow2_table_entry(const struct qcow2_tables *tables, const struct qcow2_table *table,
			__u32 nr, __u64 *bitmap)
{
	const __u64 *entry = entry_of(tables, table, nr);

	*bitmap = tables->layout->entry_bits == 4 ? be64toh(entry[1]) : 0;
	return be64toh(entry[0]);
}

void qcow2_table_set(struct qcow2_tables *tables, struct qcow2_table *table, __u32 nr,
		     __u64 entry, __u64 bitmap)
{
	struct qcow2_owner *owner = &tables->memory.owners[table->nr];
	__u64 *to = entry_of(tables, table, nr);

	if (tables->layout->entry_bits == 4) {
		owner->words[0] = htobe64(entry);
		owner->words[1] = htobe64(bitmap);
		__atomic_store_n(&owner->nr, nr + 1, __ATOMIC_RELEASE);
		if (to[0] != htobe64(entry))
			__atomic_store_n(&to[0], htobe64(QCOW2_CHANGING), __ATOMIC_RELEASE);
		__atomic_store_n(&to[1], htobe64(bitmap), __ATOMIC_RELEASE);
	}
	__atomic_store_n(&to[0], htobe64(entry), __ATOMIC_RELEASE);
	__atomic_store_n(&owner->nr, 0, __ATOMIC_RELEASE);
	mark_sector(table, ((size_t)nr << tables->layout->entry_bits) / QCOW2_SECTOR);
	tables->mapped = true;
}
