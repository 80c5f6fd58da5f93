// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Bitmaps in an image: see bitmaps.h. */
#include <errno.h>
#include <stdlib.h>
#include "bitmaps.h"
#include "why.h"

#define MOST_ENTRIES	0x8000000U	/* of a bitmap's table: as QEMU */
#define MOST_BYTES	(64U << 20)	/* of all tables */
#define TRACKING	1		/* the only type there is */

/* An entry of the directory; extra data and the name follow, padded to 8 bytes. */
enum {
	AT_TABLE	= 0,
	AT_TABLE_ENTRIES = 8,
	AT_FLAGS	= 12,
	AT_TYPE		= 16,
	AT_GRANULARITY	= 17,
	AT_NAME_BYTES	= 18,
	AT_EXTRA_BYTES	= 20,
	HEAD_BYTES	= 24,
};

enum {
	FLAG_IN_USE	= 1 << 0,
	FLAG_AUTO	= 1 << 1,
	FLAGS_KNOWN	= (1 << 3) - 1,
};

/* Can it be in the file? */
static bool is_in_file(const struct qcow2_extent *table, const struct qcow2_layout *layout,
		       __u64 size)
{
	__u64 cluster = qcow2_cluster_size(layout);

	return table->bytes && table->bytes <= 8ULL * MOST_ENTRIES && table->offset >= cluster &&
	       !(table->offset & (cluster - 1)) && table->offset < QCOW2_MAX_OFFSET &&
	       table->offset + table->bytes <= ((size + cluster - 1) & ~(cluster - 1));
}

/* The entry at bitmap->pos. *@bytes: how long it is; there are @left of the directory. */
static int read_entry(struct qcow2_bitmap *bitmap, struct qcow2_blk *blk,
		      const struct qcow2_layout *layout, __u64 left, __u64 *bytes)
{
	__u8 head[HEAD_BYTES];
	__u32 name, flags;
	int ret = left < sizeof(head) ? -EINVAL : blk->read(blk, head, bitmap->pos, sizeof(head));

	if (ret)
		return ret;
	bitmap->table.offset = qcow2_get64(head + AT_TABLE);
	bitmap->table.bytes = 8ULL * qcow2_get32(head + AT_TABLE_ENTRIES);
	flags = qcow2_get32(head + AT_FLAGS);
	bitmap->tracks = flags & FLAG_AUTO;
	name = head[AT_NAME_BYTES] << 8 | head[AT_NAME_BYTES + 1];
	*bytes = (HEAD_BYTES + name + (__u64)qcow2_get32(head + AT_EXTRA_BYTES) + 7) & ~7ULL;
	if (flags & ~FLAGS_KNOWN || head[AT_TYPE] != TRACKING || head[AT_GRANULARITY] > 63 ||
	    !name || *bytes > left || !is_in_file(&bitmap->table, layout, blk->size(blk)))
		return -EINVAL;
	return 0;
}

static int read_all(struct qcow2_bitmaps *bitmaps, struct qcow2_blk *blk,
		    const struct qcow2_layout *layout, struct qcow2_guard *guard,
		    struct qcow2_why *why)
{
	__u64 at = layout->bitmaps.offset, left = layout->bitmaps.bytes, bytes, total = 0;
	__u32 i;
	int ret = 0;

	for (i = 0; i < bitmaps->nr; i++, at += bytes, left -= bytes) {
		bitmaps->list[i].pos = at;
		ret = read_entry(&bitmaps->list[i], blk, layout, left, &bytes);
		if (ret)
			break;
		total += bitmaps->list[i].table.bytes;
	}
	if (!ret && left)
		ret = -EINVAL;
	if (ret == -EINVAL)
		return refuse(why, ret,
			      "entry %u of its bitmap directory cannot be true; it can be opened read-only, and copied",
			      i);
	if (!ret && total > MOST_BYTES)
		return refuse(why, -EINVAL,
			      "the tables of its bitmaps are too large together; it can be opened read-only, and copied");
	for (i = 0; !ret && i < bitmaps->nr; i++)
		ret = qcow2_guard_add_extent(guard, QCOW2_META_BITMAP_TABLE, &bitmaps->list[i].table,
					     why);
	return ret;
}

int qcow2_bitmaps_read(struct qcow2_bitmaps *bitmaps, struct qcow2_blk *blk,
		       const struct qcow2_layout *layout, struct qcow2_guard *guard,
		       struct qcow2_why *why)
{
	int ret = -ENOMEM;

	*bitmaps = (struct qcow2_bitmaps){
		.list	= calloc(layout->nr_bitmaps ?: 1, sizeof(*bitmaps->list)),
		.nr	= layout->nr_bitmaps,
	};
	if (bitmaps->list)
		ret = read_all(bitmaps, blk, layout, guard, why);
	if (ret)
		qcow2_bitmaps_free(bitmaps);
	return ret;
}

void qcow2_bitmaps_free(struct qcow2_bitmaps *bitmaps)
{
	free(bitmaps->list);
	*bitmaps = (struct qcow2_bitmaps){};
}

static int use(const struct qcow2_bitmap *bitmap, struct qcow2_blk *blk)
{
	__u64 at = (bitmap->pos + AT_FLAGS) % QCOW2_SECTOR, start = bitmap->pos + AT_FLAGS - at;
	__u8 sector[QCOW2_SECTOR];
	int ret = blk->read(blk, sector, start, sizeof(sector));

	if (ret)
		return ret;
	sector[at + 3] |= FLAG_IN_USE;
	return blk->write(blk, sector, start, sizeof(sector));
}

int qcow2_bitmaps_use(const struct qcow2_bitmaps *bitmaps, struct qcow2_blk *blk)
{
	__u32 i;
	int ret = 0;

	for (i = 0; !ret && i < bitmaps->nr; i++)
		if (bitmaps->list[i].tracks)
			ret = use(&bitmaps->list[i], blk);
	return ret;
}
