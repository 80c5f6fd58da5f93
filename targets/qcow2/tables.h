/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * The L1 table of an image and some of its L2 tables, in memory that a program may read
 * while they change, and the order in which what has changed is written:
 *
 *	1. counts of what is referenced anew, and (by whoever maps it, before it does) the
 *	   data of new clusters, and new L2 tables as they are at first: empty, or as the one
 *	   whose place they take;			flush, the data file too
 *	2. what has changed of L2 tables, the L1 table;	flush
 *	3. what is not referenced any more may be used again, and its counts are written
 *	   with the next 1.
 *
 * In an image that is dirty counts are not to be relied on, and not written for that.
 *
 * So after a crash nothing is referenced that has no count, no data or no table, each entry
 * is the one of before or after, and what was not flushed leaks clusters at most. All that
 * was done before qcow2_tables_commit() is there after a crash.
 *
 * A table with an entry that cannot be true is never in the index: the image is corrupt then,
 * and nothing is written any more.
 *
 * A program marks a table as used, by adding one to its users, looks whether it still is in
 * the index, and takes the mark away when its I/O has ended. A table without users leaves
 * memory, and a cluster is used again, only when there was a moment without users since
 * nothing named it any more. We wait for such a moment, so a mark must be of an I/O that ends
 * without us: a program takes it away before it sends the I/O on to the server.
 *
 * With subclusters, an entry is two words. When the first changes it cannot be meant
 * (QCOW2_CHANGING) until the second is there: a program reads the first, the second, the first
 * again, and believes them when the first is the same both times, and can be meant.
 *
 * Not locked: the caller's business.
 */
#ifndef TARGET_QCOW2_TABLES_H
#define TARGET_QCOW2_TABLES_H

#include "blk.h"
#include "format.h"
#include "guard.h"
#include "refs.h"

/**
 * struct qcow2_owner - whose a table in memory is
 * @entry:	the L1 entry as it is to be
 * @l1:		which one that is, and one; 0: the memory is free
 * @nr:		of an entry of two words that is being changed, and one
 * @words:	what it is to be
 */
struct qcow2_owner {
	__u64 entry;
	__u32 l1;
	__u32 nr;
	__u64 words[2];
};

/**
 * struct qcow2_memory - the tables in memory
 * @index:	by L1 entry: the number of its table, and one; 0: it is not there
 * @users:	by table: I/Os of a program that use it
 * @bytes:	the tables, a cluster each, as they lie in the file
 * @owners:	by table; no program needs it
 * @nr:		how many
 *
 * All zeroes at first. It may outlive whoever changes it, at any moment: then it is what
 * the disk's mapping is, and qcow2_tables_adopt() goes on with it.
 */
struct qcow2_memory {
	__u32 *index;
	__u32 *users;
	__u8 *bytes;
	struct qcow2_owner *owners;
	__u32 nr;
};

#define QCOW2_HIDDEN_TABLES 2	/* never in the index: else we would wait when all others are used */
#define QCOW2_MIN_TABLES	(QCOW2_HIDDEN_TABLES + 2)

/* Memory of our own, for @nr tables. Return: 0 or -ENOMEM. */
int qcow2_memory_alloc(struct qcow2_memory *memory, const struct qcow2_layout *layout, __u32 nr);
void qcow2_memory_free(struct qcow2_memory *memory);

/**
 * struct qcow2_table - an L2 table in memory
 * @nr:		its number in there
 * @l1:		its L1 entry; ~0: there is none
 * @fresh:	the L1 table in the file may not name it yet
 * @stuck:	its users were waited for in vain
 * @used:	when, by struct qcow2_tables.clock
 * @dirty:	sectors that have changed, a bit each
 * @nr_dirty:	how many
 */
struct qcow2_table {
	__u32 nr;
	__u32 l1;
	bool fresh;
	bool stuck;
	unsigned long used;
	__u64 *dirty;
	__u32 nr_dirty;
};

/* Clusters that are not needed any more, once the tables say so and nobody uses them. */
struct qcow2_loss {
	__u64 cluster;
	__u32 nr;
	__u32 table;	/* number of the one that had them; ~0: none */
	bool written;	/* the tables say so in the file */
};

/**
 * struct qcow2_tables - the tables of an image
 * @blk:	the image
 * @data:	its data file; NULL: it has none
 * @layout:	its layout
 * @refs:	its refcounts
 * @guard:	knows where the tables are
 * @memory:	where L2 tables are
 * @l1:		the L1 table, in the machine's byte order
 * @l1_dirty:	its sectors that have changed, a bit each
 * @l1_any_dirty: there are such
 * @tables:	by number
 * @clock:	of their use
 * @losses:	what is to be given back
 * @nr_losses:	how many
 * @mapped:	something was done that is to be flushed
 * @failed:	the error of a flush: what is in the file is not known, nothing more is written
 * @loads:	tables that were read
 * @evictions:	tables that left memory
 * @leaks:	clusters that were not given back, since somebody did not stop using them
 */
struct qcow2_tables {
	struct qcow2_blk *blk;
	struct qcow2_blk *data;
	struct qcow2_layout *layout;
	struct qcow2_refs *refs;
	struct qcow2_guard *guard;
	struct qcow2_memory memory;
	__u64 *l1;
	__u64 *l1_dirty;
	bool l1_any_dirty;
	struct qcow2_table *tables;
	unsigned long clock;
	struct qcow2_loss *losses;
	unsigned int nr_losses;
	bool mapped;
	int failed;
	__u64 loads;
	__u64 evictions;
	__u64 leaks;
};

/**
 * qcow2_tables_open() - read the L1 table
 * @tables:	the result
 * @blk:	the image; outlives it, as do the others
 * @data:	its data file; NULL: it has none
 * @layout:	its layout
 * @refs:	its refcounts
 * @guard:	is told of the tables
 * @memory:	room for L2 tables, QCOW2_MIN_TABLES at least
 * @why:	what is wrong
 *
 * Return: 0, -EINVAL, -ENOMEM, or as @blk.
 */
int qcow2_tables_open(struct qcow2_tables *tables, struct qcow2_blk *blk, struct qcow2_blk *data,
		      struct qcow2_layout *layout, struct qcow2_refs *refs,
		      struct qcow2_guard *guard, const struct qcow2_memory *memory,
		      struct qcow2_why *why);

/**
 * qcow2_tables_adopt() - go on with the tables that are in memory
 * @tables:	before anything else is done with them
 * @why:	what is wrong
 *
 * What is not in the file yet counts as changed: what it names is counted, and what the file
 * names in its place is lost. What had been given back and was not counted yet when the one
 * before died leaks.
 *
 * Return: 0, -ENOMEM, or as the blk.
 */
int qcow2_tables_adopt(struct qcow2_tables *tables, struct qcow2_why *why);

/*
 * All tables leave memory, with what of them is not in the file. Return: 0, -EBUSY some did not
 * cease to be used, and all are there still; unless @force: what they name is nobody's to reuse.
 */
int qcow2_tables_forget(struct qcow2_tables *tables, bool force);

/* Nothing is written. */
void qcow2_tables_close(struct qcow2_tables *tables);

/**
 * qcow2_tables_get() - an L2 table, to look at it
 * @tables:	the tables
 * @l1:		its L1 entry
 * @table:	the result; NULL: there is none, all its clusters are unallocated. It stays
 *		until the next call. While all others are used it may be one that is in no index
 *
 * Return: 0, -EIO it cannot be true, or its L1 entry, or as the blk.
 */
int qcow2_tables_get(struct qcow2_tables *tables, __u32 l1, struct qcow2_table **table);

/* The same, to change it: one that is not there, or a snapshot's too, is made. */
int qcow2_tables_get_own(struct qcow2_tables *tables, __u32 l1, struct qcow2_table **table);

/* Entry @nr of a table; *@bitmap: its second half, 0 if it has none. */
__u64 qcow2_table_entry(const struct qcow2_tables *tables, const struct qcow2_table *table,
			__u32 nr, __u64 *bitmap);

/* Change entry @nr of a table that was got to be changed. Seen by programs at once. */
void qcow2_table_set(struct qcow2_tables *tables, struct qcow2_table *table, __u32 nr,
		     __u64 entry, __u64 bitmap);

/* What L1 entry @l1 says of whether its table is nobody else's; written by the next commit. */
void qcow2_tables_set_copied(struct qcow2_tables *tables, __u32 l1, bool copied);

/*
 * @table, or NULL: the L1 table, named @nr clusters from @cluster on and does not any more:
 * their counts are to be less by one. Return: 0, or as qcow2_tables_commit().
 */
int qcow2_tables_lose(struct qcow2_tables *tables, const struct qcow2_table *table,
		      __u64 cluster, __u32 nr);

/*
 * Make all that was done last, data too. Return: 0, or as the blk; after an error of a flush
 * it is always that, and nothing is written any more.
 */
int qcow2_tables_commit(struct qcow2_tables *tables);

/* Flush @blk, the image or its data file. After an error nothing is written any more. Return: that. */
int qcow2_tables_flush(struct qcow2_tables *tables, struct qcow2_blk *blk);

#endif
