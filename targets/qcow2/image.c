// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* A qcow2 image that is read and written: see image.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "header.h"
#include "image.h"
#include "repair.h"
#include "snapshots.h"

#define MOST_RESERVED	(1U << 16)	/* clusters: 1 MiB */

/* Are the files that the header names given, and no others? */
static int check_files(const struct qcow2_layout *layout, const struct qcow2_blk *data,
		       const struct qcow2_blk *backing, struct qcow2_why *why)
{
	const char *what = !data != !qcow2_has_data_file(layout) ? "data" :
			   !backing != !layout->backing.bytes ? "backing" : NULL;

	if (!what)
		return 0;
	snprintf(why->text, sizeof(why->text), "its header and what is given differ in that it has a %s file",
		 what);
	return -EINVAL;
}

void qcow2_image_drop(struct qcow2_image *image)
{
	qcow2_bitmaps_free(&image->bitmaps);
	qcow2_tables_close(&image->tables);
	qcow2_refs_close(&image->refs);
	qcow2_guard_close(&image->guard);
	qcow2_decompressor_free(image->decompressor);
	free(image->compressed);
	free(image->cluster);
}

/*
 * Have the memory that it takes to know where tables and refcount blocks are when the disk is
 * full, or for the first of them: I/O does not ask for it.
 */
static int reserve_memory(struct qcow2_image *image)
{
	const struct qcow2_layout *layout = &image->layout;
	__u64 tables = layout->l1.bytes / sizeof(__u64);
	__u64 clusters = (layout->size >> layout->cluster_bits) + tables;
	__u64 nr = tables + clusters / qcow2_refblock_entries(layout) + 1;

	if (image->read_only)
		return 0;
	return qcow2_guard_reserve(&image->guard, nr < MOST_RESERVED ? nr : MOST_RESERVED);
}

/* Read the metadata that is kept, and see that no two parts of it are in one place. */
static int open_metadata(struct qcow2_image *image, const struct qcow2_memory *memory,
			 struct qcow2_why *why)
{
	struct qcow2_layout *layout = &image->layout;
	struct qcow2_guard *guard = &image->guard;
	struct qcow2_snapshots snapshots;
	int ret = qcow2_refs_open(&image->refs, image->blk, layout, guard, why);

	if (!ret)
		ret = qcow2_tables_open(&image->tables, image->blk, qcow2_has_data_file(layout) ?
					image->data : NULL, layout, &image->refs, guard, memory, why);
	if (!ret)
		ret = qcow2_guard_add_extent(guard, QCOW2_META_BITMAPS, &layout->bitmaps, why);
	if (!ret)
		ret = qcow2_snapshots_read(&snapshots, image->blk, layout, guard, why);
	if (ret)
		return ret;
	if (!image->read_only)
		ret = qcow2_bitmaps_read(&image->bitmaps, image->blk, layout, guard, why);
	if (!ret && !image->read_only && layout->incompatible & QCOW2_INCOMPAT_DIRTY)
		ret = qcow2_repair(image, &snapshots, why);
	qcow2_snapshots_free(&snapshots);
	return ret ?: qcow2_tables_adopt(&image->tables, why);
}

int qcow2_image_open(struct qcow2_image *image, struct qcow2_blk *blk, struct qcow2_blk *data,
		     struct qcow2_blk *backing, const struct qcow2_layout *layout,
		     const struct qcow2_memory *memory, bool read_only, struct qcow2_why *why)
{
	int ret = check_files(layout, data, backing, why);

	if (ret)
		return ret;
	*image = (struct qcow2_image){
		.blk		= blk,
		.data		= data ?: blk,
		.backing	= backing,
		.layout		= *layout,
		.read_only	= read_only,
		.cluster	= malloc(qcow2_cluster_size(layout)),
		.compressed	= malloc(2 * qcow2_cluster_size(layout) + QCOW2_SECTOR),
		.decompressor	= qcow2_decompressor_new(layout->compression),
	};
	ret = image->cluster && image->compressed && image->decompressor ? 0 : -ENOMEM;
	if (!ret)
		ret = qcow2_guard_open(&image->guard, blk, &image->layout, read_only);
	if (!ret)
		ret = open_metadata(image, memory, why);
	if (!ret)
		ret = reserve_memory(image);
	if (!ret && image->tables.mapped)	/* who changed it before has died */
		ret = qcow2_image_begin(image);
	if (ret)
		qcow2_image_drop(image);
	return ret;
}

const char *qcow2_image_corrupt(const struct qcow2_image *image)
{
	return qcow2_guard_state(&image->guard) ? image->guard.corrupt.text : NULL;
}

bool qcow2_image_stopped(const struct qcow2_image *image)
{
	return qcow2_image_corrupt(image) || image->tables.failed || image->refs.failed;
}

/* Also when it has grown, were it not closed. */
static bool can_be_repaired(const struct qcow2_image *image)
{
	__u64 tables = image->layout.l1.bytes / sizeof(__u64);

	return image->guard.end < QCOW2_MAX_REPAIRED / 2 &&
	       tables * qcow2_cluster_size(&image->layout) <= QCOW2_MAX_REPAIRED_BYTES / 2;
}

/* It has grown: soon it could not be repaired any more, were it not closed. */
static bool is_too_large_to_be_dirty(const struct qcow2_image *image)
{
	return image->layout.incompatible & QCOW2_INCOMPAT_DIRTY &&
	       image->guard.end > QCOW2_MAX_REPAIRED / 4 * 3;
}

/* What is written once before anything else is. */
static int write_beginning(struct qcow2_image *image)
{
	struct qcow2_layout layout = image->layout;
	int ret = 0;

	layout.autoclear &= QCOW2_AUTOCLEAR_KNOWN;
	if (layout.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS && can_be_repaired(image))
		layout.incompatible |= QCOW2_INCOMPAT_DIRTY;
	if (layout.autoclear != image->layout.autoclear ||
	    layout.incompatible != image->layout.incompatible)
		ret = qcow2_header_write(image->blk, &layout);
	if (!ret)
		ret = qcow2_bitmaps_use(&image->bitmaps, image->blk);
	if (ret)
		return ret;
	image->layout = layout;
	return qcow2_tables_flush(&image->tables, image->blk);
}

/* Write what was changed, also what need not be there after a crash: it is not dirty then. */
static int finish(struct qcow2_image *image)
{
	int ret = qcow2_image_flush(image);

	if (!ret)
		ret = qcow2_refs_write(&image->refs);
	if (!ret)
		ret = qcow2_tables_flush(&image->tables, image->blk);
	if (ret || !(image->layout.incompatible & QCOW2_INCOMPAT_DIRTY))
		return ret;
	image->layout.incompatible &= ~QCOW2_INCOMPAT_DIRTY;
	/* what the header says when that fails, nobody knows */
	image->tables.failed = qcow2_header_write(image->blk, &image->layout);
	return image->tables.failed ?: qcow2_tables_flush(&image->tables, image->blk);
}

int qcow2_image_begin(struct qcow2_image *image)
{
	int ret = image->read_only ? -EROFS : image->tables.failed;

	if (!ret)
		ret = qcow2_guard_state(&image->guard);
	if (ret)
		return ret;
	if (image->begun)
		return is_too_large_to_be_dirty(image) ? finish(image) : 0;
	ret = write_beginning(image);
	image->begun = !ret;
	return ret;
}

int qcow2_image_close(struct qcow2_image *image)
{
	int ret = image->begun ? finish(image) : 0;

	qcow2_image_drop(image);
	return ret;
}

int qcow2_image_flush(struct qcow2_image *image)
{
	if (image->read_only)
		return 0;
	return qcow2_tables_commit(&image->tables);
}
