/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* Compressed clusters. Pure. */
#ifndef TARGET_QCOW2_COMPRESSED_H
#define TARGET_QCOW2_COMPRESSED_H

#include "format.h"

/*
 * The cluster of @size bytes that @bytes of @nr make, which may be followed by others.
 * Return: 0, -EIO they make none, -ENOMEM.
 */
int qcow2_decompress(enum qcow2_compression compression, void *to, size_t size,
		     const void *bytes, size_t nr);

#endif
