// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* The header of an image that is open: see header.h. */
#include "header.h"

int qcow2_header_write(struct qcow2_blk *blk, const struct qcow2_layout *layout)
{
	__u32 clusters = htobe32(layout->reftable.bytes >> layout->cluster_bits);
	__u8 sector[512];
	int ret = blk->read(blk, sector, 0, sizeof(sector));

	if (ret)
		return ret;
	qcow2_put64(sector + QCOW2_HEADER_REFTABLE, layout->reftable.offset);
	memcpy(sector + QCOW2_HEADER_REFTABLE + 8, &clusters, sizeof(clusters));
	if (layout->version > 2) {
		qcow2_put64(sector + QCOW2_HEADER_INCOMPATIBLE, layout->incompatible);
		qcow2_put64(sector + QCOW2_HEADER_AUTOCLEAR, layout->autoclear);
	}
	return blk->write(blk, sector, 0, sizeof(sector));
}
