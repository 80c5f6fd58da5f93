/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * A qcow2 image that is read and written: what the disk that is in it does. Nothing here
 * knows of ublk; a program may read the mapping at the same time, see tables.h.
 *
 * Not locked: the caller's business.
 */
#ifndef TARGET_QCOW2_IMAGE_H
#define TARGET_QCOW2_IMAGE_H

#include "bitmaps.h"
#include "blk.h"
#include "compressed.h"
#include "format.h"
#include "guard.h"
#include "refs.h"
#include "tables.h"

/**
 * struct qcow2_image - an open image
 * @blk:	its file
 * @data:	where clusters are: the same file, or its data file
 * @backing:	what unallocated clusters are read from; NULL: they are zeroes
 * @layout:	what its header says
 * @guard:	where its metadata is
 * @refs:	its refcounts
 * @tables:	its mapping
 * @bitmaps:	those that tell of writes, if it can be written
 * @read_only:	nothing is ever written
 * @begun:	it was changed, or may be, see qcow2_image_begin()
 * @cluster:	a cluster that is being made
 * @compressed:	room for what a cluster is made from
 * @decompressor: what makes it
 */
struct qcow2_image {
	struct qcow2_blk *blk;
	struct qcow2_blk *data;
	struct qcow2_blk *backing;
	struct qcow2_layout layout;
	struct qcow2_guard guard;
	struct qcow2_refs refs;
	struct qcow2_tables tables;
	struct qcow2_bitmaps bitmaps;
	bool read_only;
	bool begun;
	__u8 *cluster;
	__u8 *compressed;
	struct qcow2_decompressor *decompressor;
};

/**
 * qcow2_image_open() - open an image whose header was read
 * @image:	the result
 * @blk:	its file; outlives it, as do the others
 * @data:	its data file, if @layout has one; else NULL
 * @backing:	its backing file, as a disk; NULL: none
 * @layout:	what qcow2_parse_header() says of it
 * @memory:	room for L2 tables
 * @read_only:	nothing is ever written, nor is what is only needed for that looked at
 * @why:	what is wrong
 *
 * One that was not closed, and says so, is repaired first if it is to be written: see repair.h.
 *
 * Return: 0, -EINVAL, -ENOMEM, or as the blk.
 */
int qcow2_image_open(struct qcow2_image *image, struct qcow2_blk *blk, struct qcow2_blk *data,
		     struct qcow2_blk *backing, const struct qcow2_layout *layout,
		     const struct qcow2_memory *memory, bool read_only, struct qcow2_why *why);

/*
 * Write what must be in the file before anything is changed: once, and a flush. An image that
 * is dirty, and has grown until it could hardly be repaired, ceases to be. Writes and zeroing
 * see to it themselves; before a program writes in place, the caller must. Return: 0, -EROFS,
 * -EIO it is corrupt, or as the blk.
 */
int qcow2_image_begin(struct qcow2_image *image);

/*
 * What was found to be wrong with it since it was opened; NULL: nothing. Then all writes fail,
 * flushes too, and reads of what that is about.
 */
const char *qcow2_image_corrupt(const struct qcow2_image *image);

/* Is nothing written any more, for that reason or since a flush has failed? */
bool qcow2_image_stopped(const struct qcow2_image *image);

/*
 * Flush, and write what is only good to be known: free clusters, and counts that are lazy.
 * Return: as the flush.
 */
int qcow2_image_close(struct qcow2_image *image);

/* Let go of it, and write nothing: it is somebody else's by now. */
void qcow2_image_drop(struct qcow2_image *image);

/*
 * Read, write or zero a part of the disk that lies within it. @unmap: it need not keep its
 * place. Return: 0, -EIO what the metadata says cannot be, -ENOSPC, -EROFS it was opened so, or
 * as the blk. A part may be done then.
 */
int qcow2_image_read(struct qcow2_image *image, void *to, __u64 pos, size_t bytes);
int qcow2_image_write(struct qcow2_image *image, const void *from, __u64 pos, size_t bytes);
int qcow2_image_zero(struct qcow2_image *image, __u64 pos, __u64 bytes, bool unmap);

/* What was done before is there after a crash. Return: 0, or as the blk. */
int qcow2_image_flush(struct qcow2_image *image);

#endif
