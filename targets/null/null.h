/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* What an I/O on a null device comes to, in the program and in the server. */
#ifndef TARGET_NULL_H
#define TARGET_NULL_H

#include <linux/types.h>
#include <linux/ublk_cmd.h>

#define NULL_DEFAULT_BYTES	(250ULL << 30)
#define NULL_MAX_DELAY		20000000000ULL	/* ns; queue/io_timeout is 30 s */

/* All of it is done; a flush has no bytes. */
static inline int null_result(__u32 op_flags, __u32 nr_sectors)
{
	return (op_flags & 0xff) == UBLK_IO_OP_FLUSH ? 0 : (int)(nr_sectors << 9);
}

#endif
