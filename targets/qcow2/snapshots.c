// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* The snapshots in an image: see snapshots.h. */
#include <stdio.h>
#include <stdlib.h>
#include "snapshots.h"

/* What is larger is no image of anybody's, and not to be read. */
#define MOST_TABLE_BYTES	(64U << 20)
#define MOST_L1_BYTES		(1ULL << 30)	/* of all L1 tables */

/* An entry of the table; extra data, the id and the name follow. */
enum {
	AT_L1		= 0,
	AT_L1_ENTRIES	= 8,
	AT_ID_BYTES	= 12,
	AT_NAME_BYTES	= 14,
	AT_EXTRA_BYTES	= 36,
	HEAD_BYTES	= 40,
};

static __u32 get16(const __u8 *bytes)
{
	return bytes[0] << 8 | bytes[1];
}

/* Entry @nr, at the end of the table as far as it was read: which becomes longer by it. */
static int read_entry(struct qcow2_snapshots *snapshots, struct qcow2_blk *blk, __u32 nr,
		      const struct qcow2_guard *guard, struct qcow2_why *why)
{
	struct qcow2_extent *l1 = &snapshots->l1[nr], needed = snapshots->table;
	__u8 head[HEAD_BYTES];
	int ret;

	needed.bytes += sizeof(head);
	ret = qcow2_guard_check_end(guard, QCOW2_META_SNAPSHOTS, &needed, why);
	if (!ret)
		ret = blk->read(blk, head, needed.offset + snapshots->table.bytes, sizeof(head));
	if (ret)
		return ret;
	l1->offset = qcow2_get64(head + AT_L1);
	l1->bytes = 8ULL * qcow2_get32(head + AT_L1_ENTRIES);
	snapshots->table.bytes += (HEAD_BYTES + get16(head + AT_ID_BYTES) +
				   get16(head + AT_NAME_BYTES) +
				   (__u64)qcow2_get32(head + AT_EXTRA_BYTES) + 7) & ~7ULL;
	if (l1->bytes <= QCOW2_MAX_L1_BYTES && l1->offset < QCOW2_MAX_OFFSET &&
	    !(l1->offset & (qcow2_cluster_size(guard->layout) - 1)) &&
	    snapshots->table.bytes <= MOST_TABLE_BYTES)
		return 0;
	snprintf(why->text, sizeof(why->text),
		 "entry %u of its snapshot table cannot be true; qemu-img check -r all may mend it",
		 nr);
	return -EINVAL;
}

static int read_all(struct qcow2_snapshots *snapshots, struct qcow2_blk *blk,
		    struct qcow2_guard *guard, struct qcow2_why *why)
{
	__u64 total = 0;
	__u32 i;
	int ret = 0;

	for (i = 0; !ret && i < snapshots->nr; i++) {
		ret = read_entry(snapshots, blk, i, guard, why);
		total += snapshots->l1[i].bytes;
		if (!ret && total > MOST_L1_BYTES) {
			snprintf(why->text, sizeof(why->text),
				 "the L1 tables of its snapshots are too large together");
			ret = -EINVAL;
		}
	}
	if (!ret)
		ret = qcow2_guard_add_extent(guard, QCOW2_META_SNAPSHOTS, &snapshots->table, why);
	for (i = 0; !ret && i < snapshots->nr; i++)
		ret = qcow2_guard_add_extent(guard, QCOW2_META_SNAPSHOT_L1, &snapshots->l1[i], why);
	return ret;
}

int qcow2_snapshots_read(struct qcow2_snapshots *snapshots, struct qcow2_blk *blk,
			 const struct qcow2_layout *layout, struct qcow2_guard *guard,
			 struct qcow2_why *why)
{
	int ret = -ENOMEM;

	*snapshots = (struct qcow2_snapshots){
		.table	= { .offset = layout->snapshots_offset },
		.l1	= calloc(layout->nr_snapshots ?: 1, sizeof(*snapshots->l1)),
		.nr	= layout->nr_snapshots,
	};
	if (snapshots->l1)
		ret = read_all(snapshots, blk, guard, why);
	if (ret)
		qcow2_snapshots_free(snapshots);
	return ret;
}

void qcow2_snapshots_free(struct qcow2_snapshots *snapshots)
{
	free(snapshots->l1);
	*snapshots = (struct qcow2_snapshots){};
}
