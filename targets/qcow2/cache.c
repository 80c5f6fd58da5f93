// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Which L2 tables are in memory, and may leave it: see tables.h. */
#include "tables_inner.h"

/*
 * Take a table out of the index: who marks it as used from now on sees that. Return: nobody
 * uses it, and its memory is free; else it is as it was.
 */
static bool withdraw(struct qcow2_tables *tables, struct qcow2_table *table)
{
	__u32 *index = &tables->memory.index[table->l1];

	if (is_hidden(tables, table->nr))
		return true;
	if (users_of(tables, table->nr))	/* one may be an I/O that has to find it */
		return false;
	__atomic_store_n(index, 0, __ATOMIC_SEQ_CST);
	if (!users_of(tables, table->nr))
		return true;
	__atomic_store_n(index, table->nr + 1, __ATOMIC_SEQ_CST);
	return false;
}

/* What is in a table's memory was lost with a moment without users: this one. */
static void forget_losses_of(struct qcow2_tables *tables, const struct qcow2_table *table)
{
	unsigned int i;

	for (i = 0; i < tables->nr_losses; i++)
		if (tables->losses[i].table == table->nr)
			tables->losses[i].table = NO_TABLE;
}

static bool is_in_file(const struct qcow2_table *table)
{
	return !table->nr_dirty && !table->fresh;
}

/*
 * The table that was used least lately, of those from @from to @to; @clean: of those that the
 * file has. NULL: there is none.
 */
static struct qcow2_table *find_oldest(const struct qcow2_tables *tables, __u32 from, __u32 to,
				       bool clean)
{
	struct qcow2_table *oldest = NULL, *table;

	for (table = tables->tables + from; table < tables->tables + to; table++)
		if ((!oldest || table->used < oldest->used) &&
		    (!clean || is_in_file(table)))
			oldest = table;
	return oldest;
}

/*
 * Memory for a table, of those from @from to @to: another one leaves it. Return: 0, -EBUSY
 * all are used, or as qcow2_tables_commit().
 */
static int make_room(struct qcow2_tables *tables, struct qcow2_table **room, __u32 from, __u32 to)
{
	int error = stopped(tables);	/* nothing can be written, for this reason */
	struct qcow2_table *oldest;
	__u32 tries;

	for (tries = from; tries < to; tries++) {
		oldest = find_oldest(tables, from, to, error);
		if (!oldest)
			return error;
		*room = oldest;
		if (oldest->l1 == NO_L1)
			return 0;
		if (!is_in_file(oldest)) {
			error = qcow2_tables_commit(tables);
			if (error)
				continue;
		}
		if (withdraw(tables, oldest)) {
			forget_losses_of(tables, oldest);
			__atomic_store_n(&tables->memory.owners[oldest->nr].l1, 0, __ATOMIC_RELEASE);
			oldest->l1 = NO_L1;
			tables->evictions++;
			return 0;
		}
		oldest->used = ++tables->clock;	/* it is used, after all */
	}
	return error ?: -EBUSY;
}

/* The same, of one that a program may see, if that can be had. */
static int make_any_room(struct qcow2_tables *tables, struct qcow2_table **room)
{
	__u32 seen = tables->memory.nr - QCOW2_HIDDEN_TABLES;

	return make_room(tables, room, 0, seen) ? make_room(tables, room, seen, tables->memory.nr) : 0;
}

static void publish(struct qcow2_tables *tables, struct qcow2_table *table, __u32 l1)
{
	struct qcow2_owner *owner = &tables->memory.owners[table->nr];

	owner->entry = tables->l1[l1];
	owner->nr = 0;
	__atomic_store_n(&owner->l1, l1 + 1, __ATOMIC_RELEASE);
	table->l1 = l1;
	table->stuck = false;
	table->used = ++tables->clock;
	if (!is_hidden(tables, table->nr))
		__atomic_store_n(&tables->memory.index[l1], table->nr + 1, __ATOMIC_RELEASE);
}

/* A table that no program sees: let them see it, if there is room by now. */
static int show(struct qcow2_tables *tables, struct qcow2_table **table)
{
	struct qcow2_table *hidden = *table, *room;
	__u64 *dirty;
	int ret = make_room(tables, &room, 0, tables->memory.nr - QCOW2_HIDDEN_TABLES);

	if (ret)
		return 0;
	memcpy(bytes_of(tables, room), bytes_of(tables, hidden), qcow2_cluster_size(tables->layout));
	dirty = room->dirty;
	room->dirty = hidden->dirty;
	hidden->dirty = dirty;		/* nothing is */
	room->nr_dirty = hidden->nr_dirty;
	room->fresh = hidden->fresh;
	publish(tables, room, hidden->l1);
	forget_losses_of(tables, hidden);
	__atomic_store_n(&tables->memory.owners[hidden->nr].l1, 0, __ATOMIC_RELEASE);
	hidden->l1 = NO_L1;
	hidden->nr_dirty = 0;
	hidden->fresh = false;
	*table = room;
	return 0;
}

int qcow2_tables_get(struct qcow2_tables *tables, __u32 l1, struct qcow2_table **table)
{
	int ret;

	*table = NULL;
	if (l1 >= nr_l1(tables))
		return -EIO;
	*table = find_table(tables, l1);
	if (*table) {
		(*table)->used = ++tables->clock;
		return is_hidden(tables, (*table)->nr) ? show(tables, table) : 0;
	}
	if (!tables->l1[l1])
		return 0;
	ret = make_any_room(tables, table);
	if (!ret)
		ret = tables->blk->read(tables->blk, bytes_of(tables, *table),
					tables->l1[l1] & QCOW2_OFFSET,
					qcow2_cluster_size(tables->layout));
	if (!ret)
		ret = qcow2_guard_check_table(tables->guard, l1, bytes_of(tables, *table));
	if (ret) {
		*table = NULL;
		return ret;
	}
	publish(tables, *table, l1);
	tables->loads++;
	return 0;
}

/* A place of its own in the file for a table that is in memory. */
static int give_place(struct qcow2_tables *tables, struct qcow2_table *table, __u32 l1)
{
	struct qcow2_why why;
	__u64 cluster;
	int ret = qcow2_refs_alloc(tables->refs, 1, &cluster);

	if (!ret)
		ret = qcow2_guard_check_unnamed(tables->guard, cluster, 1);
	if (ret)
		return ret;
	ret = qcow2_guard_add(tables->guard, QCOW2_META_L2, cluster, 1, &why);
	if (ret)
		goto put;
	/* now, while there still is a way back if there is no room */
	ret = tables->blk->write(tables->blk, bytes_of(tables, table),
				 cluster << tables->layout->cluster_bits,
				 qcow2_cluster_size(tables->layout));
	if (ret) {
		qcow2_guard_remove(tables->guard, cluster, 1);
		goto put;
	}
	memset(table->dirty, 0, bitmap_bytes(nr_sectors(tables)));
	table->nr_dirty = 0;
	table->fresh = true;
	set_l1(tables, l1, cluster << tables->layout->cluster_bits | QCOW2_COPIED);
	__atomic_store_n(&tables->memory.owners[table->nr].entry, tables->l1[l1], __ATOMIC_RELEASE);
	return 0;

put:
	qcow2_refs_put(tables->refs, cluster, 1);
	return ret;
}

int qcow2_tables_get_own(struct qcow2_tables *tables, __u32 l1, struct qcow2_table **table)
{
	__u64 old;
	int ret = stopped(tables) ?: qcow2_tables_get(tables, l1, table);

	if (ret)
		return ret;
	old = tables->l1[l1];
	if (*table && old & QCOW2_COPIED)
		return 0;
	if (*table) {
		ret = give_place(tables, *table, l1);
		if (ret)
			return ret;
		old = (old & QCOW2_OFFSET) >> tables->layout->cluster_bits;
		qcow2_guard_remove(tables->guard, old, 1);
		return qcow2_tables_lose(tables, NULL, old, 1);
	}

	ret = make_any_room(tables, table);
	if (ret)
		return ret;
	memset(bytes_of(tables, *table), 0, qcow2_cluster_size(tables->layout));
	ret = give_place(tables, *table, l1);
	if (!ret)
		publish(tables, *table, l1);
	return ret;
}
