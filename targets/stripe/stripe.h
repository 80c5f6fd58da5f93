/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * Where an I/O on a striped device goes. Pure, so that it is tested on the host. The program's
 * shape is volatile: what it is is written into the object when it is loaded.
 */
#ifndef TARGET_STRIPE_H
#define TARGET_STRIPE_H

#include <linux/types.h>

#define STRIPE_MAX_BACKINGS	16	/* a flush goes to all of them in one call */

/* Chunks go round the backings. */
struct stripe_shape {
	__u32 nr;		/* backings */
	__u32 chunk_shift;	/* bytes of a chunk: 1 << chunk_shift */
};

/* The backing of byte @pos of the device, and *@to, its byte there. */
static inline __u32 stripe_find(const volatile struct stripe_shape *shape, __u64 pos, __u64 *to)
{
	__u64 chunk = pos >> shape->chunk_shift;
	__u64 row = chunk / shape->nr;

	*to = (row << shape->chunk_shift) + (pos & ((1ULL << shape->chunk_shift) - 1));
	return chunk - row * shape->nr;
}

/* How many of @bytes from @pos lie in one chunk. */
static inline __u32 stripe_bytes(const volatile struct stripe_shape *shape, __u64 pos, __u32 bytes)
{
	__u64 left = (1ULL << shape->chunk_shift) - (pos & ((1ULL << shape->chunk_shift) - 1));

	return bytes < left ? bytes : left;
}

/* How many of the device's bytes before @pos are backing @nr's. */
static inline __u64 stripe_before(const volatile struct stripe_shape *shape, __u64 pos, __u32 nr)
{
	__u64 chunk = 1ULL << shape->chunk_shift, row = pos / (chunk * shape->nr);
	__u64 rest = pos - row * chunk * shape->nr, first = nr * chunk;

	if (rest <= first)
		return row * chunk;
	return row * chunk + (rest - first < chunk ? rest - first : chunk);
}

#endif
