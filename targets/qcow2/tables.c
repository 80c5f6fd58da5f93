// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* The L1 table of an image and some of its L2 tables: see tables.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tables.h"

#define SECTOR		512
#define L1_SECTOR	(SECTOR / sizeof(__u64))	/* entries of a sector of the L1 table */
#define NO_L1		(~0U)
#define NO_TABLE	(~0U)
#define MAX_LOSSES	4096
#define WAIT_US		100
#define MAX_WAITS	10000

static __u32 nr_l1(const struct qcow2_tables *tables)
{
	return tables->layout->l1.bytes / sizeof(__u64);
}

static __u8 *bytes_of(const struct qcow2_tables *tables, const struct qcow2_table *table)
{
	return tables->memory.bytes + ((size_t)table->nr << tables->layout->cluster_bits);
}

static __u64 place_of(const struct qcow2_tables *tables, const struct qcow2_table *table)
{
	return tables->l1[table->l1] & QCOW2_OFFSET;
}

static __u32 nr_sectors(const struct qcow2_tables *tables)
{
	return qcow2_cluster_size(tables->layout) / SECTOR;
}

/* I/Os of a program that use table @nr. */
static __u32 users_of(const struct qcow2_tables *tables, __u32 nr)
{
	return __atomic_load_n(&tables->memory.users[nr], __ATOMIC_SEQ_CST);
}

static bool is_hidden(const struct qcow2_tables *tables, __u32 nr)
{
	return nr >= tables->memory.nr - QCOW2_HIDDEN_TABLES;
}

static size_t bitmap_bytes(__u64 bits)
{
	return (bits + 63) / 64 * sizeof(__u64);
}

/* The L1 table and the tables that it names are metadata. */
static int add_to_guard(struct qcow2_tables *tables, struct qcow2_why *why)
{
	const struct qcow2_layout *layout = tables->layout;
	int ret = qcow2_guard_add_extent(tables->guard, QCOW2_META_L1, &layout->l1, why);
	__u32 i;

	for (i = 0; !ret && i < nr_l1(tables); i++)
		if (tables->l1[i])
			ret = qcow2_guard_add(tables->guard, QCOW2_META_L2, (tables->l1[i] &
					      QCOW2_OFFSET) >> layout->cluster_bits, 1, why);
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

static void mark(__u64 *bitmap, __u32 bit)
{
	bitmap[bit / 64] |= 1ULL << bit % 64;
}

static bool is_marked(const __u64 *bitmap, __u32 bit)
{
	return bitmap[bit / 64] >> bit % 64 & 1;
}

static void mark_sector(struct qcow2_table *table, __u32 sector)
{
	if (is_marked(table->dirty, sector))
		return;
	mark(table->dirty, sector);
	table->nr_dirty++;
}

static void set_l1(struct qcow2_tables *tables, __u32 l1, __u64 entry)
{
	tables->l1[l1] = entry;
	mark(tables->l1_dirty, l1 * sizeof(__u64) / SECTOR);
	tables->l1_any_dirty = true;
	tables->mapped = true;
}

void qcow2_tables_set_copied(struct qcow2_tables *tables, __u32 l1, bool copied)
{
	__u64 entry = tables->l1[l1] & ~QCOW2_COPIED;

	if (copied)
		entry |= QCOW2_COPIED;
	if (entry != tables->l1[l1])
		set_l1(tables, l1, entry);
}

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
		ret = tables->blk->write(tables->blk, bytes_of(tables, table) + from * SECTOR,
					 place_of(tables, table) + from * SECTOR,
					 (size_t)(to - from) * SECTOR);
		if (ret)
			return ret;
	}
	memset(table->dirty, 0, bitmap_bytes(nr));
	table->nr_dirty = 0;
	return 0;
}

static int write_tables(struct qcow2_tables *tables, bool fresh)
{
	__u32 i;
	int ret;

	for (i = 0; i < tables->memory.nr; i++) {
		struct qcow2_table *table = &tables->tables[i];

		if (table->l1 == NO_L1 || table->fresh != fresh)
			continue;
		ret = write_table(tables, table);
		if (ret)
			return ret;
	}
	return 0;
}

static int write_l1(struct qcow2_tables *tables)
{
	__u32 sectors = (tables->layout->l1.bytes + SECTOR - 1) / SECTOR, i, j, nr;
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
					 tables->layout->l1.offset + (__u64)i * SECTOR,
					 sizeof(sector));
		if (ret)
			return ret;
	}
	memset(tables->l1_dirty, 0, bitmap_bytes(tables->layout->l1.bytes / SECTOR + 1));
	tables->l1_any_dirty = false;
	return 0;
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
		if (is_unused(tables, loss))
			qcow2_refs_put(tables->refs, loss->cluster, loss->nr);
		else
			tables->losses[left++] = *loss;
	}
	tables->nr_losses = left;
}

static int flush(struct qcow2_tables *tables, struct qcow2_blk *blk)
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
	if (!ret)
		ret = write_tables(tables, true);
	if (!ret && tables->data)
		ret = flush(tables, tables->data);
	if (!ret)
		ret = flush(tables, tables->blk);
	if (ret || !tables->mapped)
		return ret;
	ret = write_tables(tables, false);
	if (!ret)
		ret = write_l1(tables);
	if (!ret)
		ret = flush(tables, tables->blk);
	if (ret)
		return ret;
	for (i = 0; i < tables->memory.nr; i++)
		tables->tables[i].fresh = false;
	tables->mapped = false;
	return 0;
}

/* Why nothing is written any more; 0: it is. */
static int stopped(const struct qcow2_tables *tables)
{
	return tables->failed ?: qcow2_guard_state(tables->guard);
}

int qcow2_tables_commit(struct qcow2_tables *tables)
{
	int ret = stopped(tables) ?: write_all(tables);

	if (!ret)
		give_back(tables);
	return ret;
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
		__u32 nr = loss->table, l1, users = 0;

		if (nr != NO_TABLE && !is_hidden(tables, nr)) {
			l1 = tables->tables[nr].l1;
			__atomic_store_n(&tables->memory.index[l1], 0, __ATOMIC_SEQ_CST);
			while ((users = users_of(tables, nr)) && waits++ < MAX_WAITS)
				usleep(WAIT_US);
			__atomic_store_n(&tables->memory.index[l1], nr + 1, __ATOMIC_SEQ_CST);
		}
		if (users)
			continue;
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

/*
 * Take a table out of the index: who marks it as used from now on sees that. Return: nobody
 * uses it, and its memory is free; else it is as it was.
 */
static bool withdraw(struct qcow2_tables *tables, struct qcow2_table *table)
{
	__u32 *index = &tables->memory.index[table->l1];

	if (is_hidden(tables, table->nr))
		return true;
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

/* The table that was used least lately, of those from @from to @to. NULL: none can leave memory. */
static struct qcow2_table *find_oldest(const struct qcow2_tables *tables, __u32 from, __u32 to)
{
	struct qcow2_table *oldest = NULL, *table;

	for (table = tables->tables + from; table < tables->tables + to; table++)
		if ((!oldest || table->used < oldest->used) &&
		    (!stopped(tables) || is_in_file(table)))
			oldest = table;
	return oldest;
}

/*
 * Memory for a table, of those from @from to @to: another one leaves it. Return: 0, -EBUSY
 * all are used, or as qcow2_tables_commit().
 */
static int make_room(struct qcow2_tables *tables, struct qcow2_table **room, __u32 from, __u32 to)
{
	struct qcow2_table *oldest;
	__u32 tries;
	int ret;

	for (tries = from; tries < to; tries++) {
		oldest = find_oldest(tables, from, to);
		if (!oldest)
			return stopped(tables);
		*room = oldest;
		if (oldest->l1 == NO_L1)
			return 0;
		if (!is_in_file(oldest)) {
			ret = qcow2_tables_commit(tables);
			if (ret)
				return ret;
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
	return -EBUSY;
}

/* The same, of one that a program may see, if that can be had. */
static int make_any_room(struct qcow2_tables *tables, struct qcow2_table **room)
{
	__u32 seen = tables->memory.nr - QCOW2_HIDDEN_TABLES;
	int ret = make_room(tables, room, 0, seen);

	return ret == -EBUSY ? make_room(tables, room, seen, tables->memory.nr) : ret;
}

static void publish(struct qcow2_tables *tables, struct qcow2_table *table, __u32 l1)
{
	struct qcow2_owner *owner = &tables->memory.owners[table->nr];

	owner->entry = tables->l1[l1];
	owner->nr = 0;
	__atomic_store_n(&owner->l1, l1 + 1, __ATOMIC_RELEASE);
	table->l1 = l1;
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
		return ret == -EBUSY ? 0 : ret;
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

/* The table for L1 entry @l1, if it is in memory. */
static struct qcow2_table *find_table(const struct qcow2_tables *tables, __u32 l1)
{
	__u32 nr = tables->memory.index[l1];

	if (nr)
		return &tables->tables[nr - 1];
	for (nr = tables->memory.nr - QCOW2_HIDDEN_TABLES; nr < tables->memory.nr; nr++)
		if (tables->tables[nr].l1 == l1)
			return &tables->tables[nr];
	return NULL;
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

/* A place of its own in the file for a table that is in memory, all of it to be written. */
static int give_place(struct qcow2_tables *tables, struct qcow2_table *table, __u32 l1)
{
	struct qcow2_why why;
	__u64 cluster;
	__u32 i;
	int ret = qcow2_refs_alloc(tables->refs, 1, &cluster);

	if (ret)
		return ret;
	ret = qcow2_guard_add(tables->guard, QCOW2_META_L2, cluster, 1, &why);
	if (ret) {
		qcow2_refs_put(tables->refs, cluster, 1);
		return ret;
	}
	for (i = 0; i < nr_sectors(tables); i++)
		mark_sector(table, i);
	table->fresh = true;
	set_l1(tables, l1, cluster << tables->layout->cluster_bits | QCOW2_COPIED);
	__atomic_store_n(&tables->memory.owners[table->nr].entry, tables->l1[l1], __ATOMIC_RELEASE);
	return 0;
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

/* Where entry @nr is. */
static __u64 *entry_of(const struct qcow2_tables *tables, const struct qcow2_table *table, __u32 nr)
{
	return (__u64 *)(bytes_of(tables, table) + ((size_t)nr << tables->layout->entry_bits));
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
	mark_sector(table, ((size_t)nr << tables->layout->entry_bits) / SECTOR);
	tables->mapped = true;
}

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

	for (at = 0; !ret && at < qcow2_cluster_size(tables->layout); at += SECTOR) {
		if (!memcmp(old + at, now + at, SECTOR))
			continue;
		mark_sector(table, at / SECTOR);
		tables->mapped = true;
		/* nobody counts what is in a data file */
		for (i = at; !tables->data && !ret && i < at + SECTOR; i += entry)
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
	return ret || was == owner->entry ? ret : adopt_place(tables, table, was, owner->entry, count);
}

int qcow2_tables_adopt(struct qcow2_tables *tables, struct qcow2_why *why)
{
	struct qcow2_owner *owners = tables->memory.owners;
	struct qcow2_table *other;
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
			other = find_table(tables, owners[i].l1 - 1);
			if (is_hidden(tables, i) && other && other->nr != i && other->l1 != NO_L1) {
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
		.l1_dirty = calloc(1, bitmap_bytes(layout->l1.bytes / SECTOR + 1)),
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
	ret = nr ? blk->read(blk, tables->l1, layout->l1.offset, layout->l1.bytes) : 0;
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
