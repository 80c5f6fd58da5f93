// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* The order in which what has changed is written, and what is not needed any more: tables.h. */
#include <unistd.h>
#include "tables_inner.h"

#define L1_SECTOR	(QCOW2_SECTOR / sizeof(__u64))	/* entries of a sector of the L1 table */
#define WAIT_US		100
#define MAX_WAITS	10000

/* Write the sectors of a table that have changed, those beside each other at once. */
static int write_table(struct qcow2_tables *tables, struct qcow2_table *table)
{
	__u32 nr = nr_sectors(tables), from, to;
	int ret;

	for (from = 0; table->nr_dirty && from < nr; from = to) {
		to = from + 1;
		if (!is_marked(table->dirty, from))
			continue;
		while (to < nr && is_marked(table->dirty, to))
			to++;
		ret = tables->blk->write(tables->blk, bytes_of(tables, table) + from * QCOW2_SECTOR,
					 place_of(tables, table) + from * QCOW2_SECTOR,
					 (size_t)(to - from) * QCOW2_SECTOR);
		if (ret)
			return ret;
	}
	memset(table->dirty, 0, bitmap_bytes(nr));
	table->nr_dirty = 0;
	return 0;
}

static int write_tables(struct qcow2_tables *tables)
{
	__u32 i;
	int ret;

	for (i = 0; i < tables->memory.nr; i++) {
		struct qcow2_table *table = &tables->tables[i];

		if (table->l1 == NO_L1)
			continue;
		ret = write_table(tables, table);
		if (ret)
			return ret;
	}
	return 0;
}

static int write_l1(struct qcow2_tables *tables)
{
	__u32 sectors = (tables->layout->l1.bytes + QCOW2_SECTOR - 1) / QCOW2_SECTOR, i, j, nr;
	__u64 sector[L1_SECTOR];
	int ret;

	for (i = 0; tables->l1_any_dirty && i < sectors; i++) {
		if (!is_marked(tables->l1_dirty, i))
			continue;
		/* nobody has the rest of the last one's cluster */
		for (j = 0; j < L1_SECTOR; j++) {
			nr = i * L1_SECTOR + j;
			sector[j] = nr < nr_l1(tables) ? htobe64(tables->l1[nr]) : 0;
		}
		ret = tables->blk->write(tables->blk, sector,
					 tables->layout->l1.offset + (__u64)i * QCOW2_SECTOR,
					 sizeof(sector));
		if (ret)
			return ret;
	}
	memset(tables->l1_dirty, 0, bitmap_bytes(tables->layout->l1.bytes / QCOW2_SECTOR + 1));
	tables->l1_any_dirty = false;
	return 0;
}

/* Wait until nobody uses table @nr, which is in no index. Return: nobody does. */
static bool wait_for_users(const struct qcow2_tables *tables, __u32 nr, unsigned int *waits)
{
	while (users_of(tables, nr) && (*waits)++ < MAX_WAITS)
		usleep(WAIT_US);
	return !users_of(tables, nr);
}

/* Is there, or was there since a loss was noted, a moment when no program could use it? */
static bool is_unused(const struct qcow2_tables *tables, const struct qcow2_loss *loss)
{
	return loss->table == NO_TABLE || !users_of(tables, loss->table);
}

/* Give back what the file does not name any more and nobody uses. What cannot be leaks. */
static void give_back(struct qcow2_tables *tables)
{
	unsigned int i, left = 0;

	/* who marks a table after this sees what its entries are now */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (i = 0; i < tables->nr_losses; i++) {
		struct qcow2_loss *loss = &tables->losses[i];

		loss->written = true;
		if (!is_unused(tables, loss)) {
			tables->losses[left++] = *loss;
			continue;
		}
		qcow2_refs_put(tables->refs, loss->cluster, loss->nr);
		if (loss->table != NO_TABLE)
			tables->tables[loss->table].stuck = false;
	}
	tables->nr_losses = left;
}

int qcow2_tables_flush(struct qcow2_tables *tables, struct qcow2_blk *blk)
{
	tables->failed = blk->flush(blk);
	return tables->failed;
}

static int write_all(struct qcow2_tables *tables)
{
	__u32 i;
	int ret = tables->refs->failed;

	if (!ret && !(tables->layout->incompatible & QCOW2_INCOMPAT_DIRTY))
		ret = qcow2_refs_write(tables->refs);
	if (!ret && tables->data)
		ret = qcow2_tables_flush(tables, tables->data);
	if (!ret)
		ret = qcow2_tables_flush(tables, tables->blk);
	if (ret || !tables->mapped)
		return ret;
	/* fresh ones, too: an L1 table whose write has failed may name them by now */
	ret = write_tables(tables);
	if (!ret)
		ret = write_l1(tables);
	if (!ret)
		ret = qcow2_tables_flush(tables, tables->blk);
	if (ret)
		return ret;
	for (i = 0; i < tables->memory.nr; i++)
		tables->tables[i].fresh = false;
	tables->mapped = false;
	return 0;
}

int qcow2_tables_commit(struct qcow2_tables *tables)
{
	int ret = stopped(tables) ?: write_all(tables);

	if (!ret)
		give_back(tables);
	return ret;
}

/* The same, but who was waited for in vain is not again: each time all I/O would stand still. */
static bool wait_once(const struct qcow2_tables *tables, struct qcow2_table *table,
		      unsigned int *waits)
{
	bool waited = !table->stuck && *waits < MAX_WAITS, unused;
	unsigned int no_more = MAX_WAITS;

	unused = wait_for_users(tables, table->nr, table->stuck ? &no_more : waits);
	table->stuck = !unused && (table->stuck || waited);
	return unused;
}

/*
 * Wait until nobody uses what has lost something. Their I/O does not need us; who comes
 * meanwhile does not find the table. What is used for ever, by a program that went away, leaks.
 */
static void drain(struct qcow2_tables *tables)
{
	unsigned int i, left = 0, waits = 0;

	for (i = 0; i < tables->nr_losses; i++) {
		struct qcow2_loss *loss = &tables->losses[i];
		__u32 nr = loss->table, *index;
		bool unused = true;

		if (nr != NO_TABLE && !is_hidden(tables, nr)) {
			index = &tables->memory.index[tables->tables[nr].l1];
			__atomic_store_n(index, 0, __ATOMIC_SEQ_CST);
			unused = wait_once(tables, &tables->tables[nr], &waits);
			__atomic_store_n(index, nr + 1, __ATOMIC_SEQ_CST);
		}
		if (!unused) {
			tables->leaks += loss->nr;
			continue;
		}
		loss->table = NO_TABLE;
		tables->losses[left++] = *loss;
	}
	tables->nr_losses = left;
}

int qcow2_tables_lose(struct qcow2_tables *tables, const struct qcow2_table *table,
		      __u64 cluster, __u32 nr)
{
	__u32 of = table ? table->nr : NO_TABLE;
	struct qcow2_loss *last;
	int ret;

	if (tables->nr_losses) {
		last = &tables->losses[tables->nr_losses - 1];
		if (last->table == of && !last->written && last->cluster + last->nr == cluster) {
			last->nr += nr;
			return 0;
		}
	}
	if (tables->nr_losses == MAX_LOSSES) {
		tables->mapped = true;
		drain(tables);
		ret = qcow2_tables_commit(tables);
		if (ret)
			return ret;
	}
	tables->losses[tables->nr_losses++] = (struct qcow2_loss){
		.cluster = cluster, .nr = nr, .table = of,
	};
	return 0;
}

int qcow2_tables_forget(struct qcow2_tables *tables, bool force)
{
	__u32 nr, seen = tables->memory.nr - QCOW2_HIDDEN_TABLES;
	unsigned int waits = 0;
	bool unused = true;

	for (nr = 0; nr < seen; nr++)
		if (tables->tables[nr].l1 != NO_L1)
			__atomic_store_n(&tables->memory.index[tables->tables[nr].l1], 0, __ATOMIC_SEQ_CST);
	for (nr = 0; unused && nr < seen; nr++)
		unused = wait_for_users(tables, nr, &waits);
	unused = unused || force;
	for (nr = 0; nr < tables->memory.nr; nr++) {
		struct qcow2_table *table = &tables->tables[nr];

		if (table->l1 == NO_L1)
			continue;
		if (!unused) {
			if (nr < seen)
				__atomic_store_n(&tables->memory.index[table->l1], nr + 1, __ATOMIC_SEQ_CST);
			continue;
		}
		__atomic_store_n(&tables->memory.owners[nr].l1, 0, __ATOMIC_RELEASE);
		table->l1 = NO_L1;
		tables->evictions++;
	}
	return unused ? 0 : -EBUSY;
}
