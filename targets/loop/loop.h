/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* Where an I/O on a loop device goes. Pure, so that it is tested on the host. */
#ifndef TARGET_LOOP_H
#define TARGET_LOOP_H

#include <linux/types.h>

#define LOOP_SLOT	0

/* The byte of the backing for byte @off of an I/O that starts at @start_sector. */
static inline __u64 loop_pos(__u64 start, __u64 start_sector, __u32 off)
{
	return start + (start_sector << 9) + off;
}

#endif
