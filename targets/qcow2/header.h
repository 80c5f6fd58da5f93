/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* The header of an image that is open, when something in it changes. */
#ifndef TARGET_QCOW2_HEADER_H
#define TARGET_QCOW2_HEADER_H

#include "blk.h"
#include "format.h"

/*
 * Write what @layout says of the refcount table and, in version 3, of incompatible and
 * autoclear features: with the header's first sector, at once. No flush. Return: as the blk.
 */
int qcow2_header_write(struct qcow2_blk *blk, const struct qcow2_layout *layout);

#endif
