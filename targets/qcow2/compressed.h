/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * Compressed clusters. Pure, and nothing is allocated to make one: it may be that the machine
 * waits for it to have memory.
 */
#ifndef TARGET_QCOW2_COMPRESSED_H
#define TARGET_QCOW2_COMPRESSED_H

#include "format.h"

/* What makes clusters, one after the other. */
struct qcow2_decompressor;

/* For those that are compressed in this way. Return: NULL: no memory. */
struct qcow2_decompressor *qcow2_decompressor_new(enum qcow2_compression compression);
void qcow2_decompressor_free(struct qcow2_decompressor *decompressor);

/*
 * The cluster of @size bytes that @bytes of @nr make, which may be followed by others.
 * Return: 0, -EIO they make none.
 */
int qcow2_decompress(struct qcow2_decompressor *decompressor, void *to, size_t size,
		     const void *bytes, size_t nr);

#endif
