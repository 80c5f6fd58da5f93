/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * Where an I/O on a linear device goes. Pure, so that it is tested on the host. The program's
 * parts are volatile: what they are is written into the object when it is loaded.
 */
#ifndef TARGET_LINEAR_H
#define TARGET_LINEAR_H

#include <linux/types.h>

#define LINEAR_MAX_PARTS	16	/* a flush goes to all of them in one call */

/* A part of the device, in the order of the device's bytes; its number is its slot. */
struct linear_part {
	__u64 end;	/* the device's first byte after it; ~0 of parts that are not used */
	__u64 shift;	/* from the device's bytes to the backing's, modulo 2^64 */
};

/* The part that byte @pos of the device lies in, which is less than the last one's end. */
static inline __u32 linear_find(const volatile struct linear_part *parts, __u64 pos)
{
	__u32 nr = 0;

	if (parts[7].end <= pos)
		nr = 8;
	if (parts[nr + 3].end <= pos)
		nr += 4;
	if (parts[nr + 1].end <= pos)
		nr += 2;
	if (parts[nr].end <= pos)
		nr += 1;
	return nr;
}

/* How many of @bytes from @pos lie in a part. */
static inline __u32 linear_bytes(const volatile struct linear_part *part, __u64 pos, __u32 bytes)
{
	return bytes < part->end - pos ? bytes : part->end - pos;
}

#endif
