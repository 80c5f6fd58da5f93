/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* The snapshots in an image: where they are, so that they are not harmed. */
#ifndef TARGET_QCOW2_SNAPSHOTS_H
#define TARGET_QCOW2_SNAPSHOTS_H

#include "blk.h"
#include "format.h"
#include "guard.h"

/**
 * struct qcow2_snapshots - the snapshots of an image
 * @table:	the snapshot table
 * @l1:		their L1 tables
 * @nr:		how many
 */
struct qcow2_snapshots {
	struct qcow2_extent table;
	struct qcow2_extent *l1;
	__u32 nr;
};

/**
 * qcow2_snapshots_read() - read the snapshot table
 * @snapshots:	the result
 * @blk:	the image
 * @layout:	its layout
 * @guard:	is told of what is metadata
 * @why:	what is wrong with it
 *
 * Return: 0, -EINVAL, -ENOMEM, or as the blk.
 */
int qcow2_snapshots_read(struct qcow2_snapshots *snapshots, struct qcow2_blk *blk,
			 const struct qcow2_layout *layout, struct qcow2_guard *guard,
			 struct qcow2_why *why);
void qcow2_snapshots_free(struct qcow2_snapshots *snapshots);

#endif
