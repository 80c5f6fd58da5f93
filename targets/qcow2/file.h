/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* A file or block device as what the engine reads and writes: by direct I/O, synchronously. */
#ifndef TARGET_QCOW2_FILE_H
#define TARGET_QCOW2_FILE_H

#include "blk.h"

/**
 * struct qcow2_file - an open file
 * @blk:	what the engine uses
 * @fd:		its descriptor
 * @block:	what positions, sizes and addresses of I/O must be a multiple of
 * @is_block:	a block device
 * @bounce:	for I/O that is none
 * @failed:	where the error of a flush is kept, which the kernel tells once; NULL: nowhere
 *
 * What is written in parts of a block is read before: nobody else may write the rest of such a
 * block. Not locked: the caller's business.
 */
struct qcow2_file {
	struct qcow2_blk blk;
	int fd;
	unsigned int block;
	bool is_block;
	__u8 *bounce;
	__u64 *failed;
};

/* The descriptor stays the caller's. Return: 0 or -ENOMEM. */
int qcow2_file_init(struct qcow2_file *file, int fd, unsigned int block, bool is_block);
void qcow2_file_free(struct qcow2_file *file);

#endif
