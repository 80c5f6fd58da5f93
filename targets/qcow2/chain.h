/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * The files that an image lies over, of any number: each as a disk that is read only. They
 * stay what they are while they are in use: QEMU's locks and flock(2) see to that.
 */
#ifndef TARGET_QCOW2_CHAIN_H
#define TARGET_QCOW2_CHAIN_H

#include "blk.h"
#include "format.h"
#include "names.h"

struct qcow2_chain;

/**
 * qcow2_read_header() - the header of an image
 * @blk:	the image
 * @layout:	the result
 * @why:	what is wrong
 *
 * Return: 0, as qcow2_parse_header(), -ENOMEM, or as the blk.
 */
int qcow2_read_header(struct qcow2_blk *blk, struct qcow2_layout *layout, struct qcow2_why *why);

/**
 * qcow2_find_data() - the data file of an image
 * @blk:	the image
 * @path:	a path of it
 * @layout:	what its header says
 * @trust:	which names in images may be opened
 * @why:	what is wrong
 *
 * Return: as qcow2_find_named(); -ENOENT the image has none, or does not say which.
 */
int qcow2_find_data(struct qcow2_blk *blk, const char *path, const struct qcow2_layout *layout,
		    const struct qcow2_trust *trust, struct qcow2_why *why);

/**
 * qcow2_chain_open() - open what an image lies over
 * @chain:	the result; NULL: it lies over nothing
 * @fd:		the image
 * @path:	a path of it
 * @blk:	the same, to be read
 * @layout:	what its header says
 * @trust:	which names in images may be opened
 * @why:	what is wrong; starts with the file's name when that is another
 *
 * Return: 0, -ELOOP an image would lie over itself, or there are too many, -EFBIG to read them
 * takes too much memory, -ENOTSUP a format is not known or not said, -EAGAIN somebody writes one,
 * or as qcow2_find_named(), qcow2_image_open().
 */
int qcow2_chain_open(struct qcow2_chain **chain, int fd, const char *path, struct qcow2_blk *blk,
		     const struct qcow2_layout *layout, const struct qcow2_trust *trust,
		     struct qcow2_why *why);

/* The first of them, as a disk that can be read; NULL for no chain. */
struct qcow2_blk *qcow2_chain_blk(struct qcow2_chain *chain);

/*
 * Which files these are, and when the regular ones among them have changed last, as a number:
 * the same as long as nothing of that changes. 0: none.
 */
__u64 qcow2_chain_identity(const struct qcow2_chain *chain);

void qcow2_chain_close(struct qcow2_chain *chain);

#endif
