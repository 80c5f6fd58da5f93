/* SPDX-License-Identifier: GPL-2.0 */
/* The counters of struct ublk_bpf_stats by name. */
#ifndef TESTS_TOOLS_COUNTERS_H
#define TESTS_TOOLS_COUNTERS_H

#include <stddef.h>
#include <linux/ublk_bpf.h>

static const struct { const char *name; size_t offset; } counters[] = {
#define COUNTER(name)	{ #name, offsetof(struct ublk_bpf_stats, name) }
	COUNTER(done), COUNTER(done_bytes), COUNTER(fwd_inline), COUNTER(fwd_worker),
	COUNTER(fwd_bytes), COUNTER(redirected), COUNTER(rerun), COUNTER(failed),
	COUNTER(unfinished), COUNTER(misused), COUNTER(held), COUNTER(stale), COUNTER(waiting),
#undef COUNTER
};

#define NR_COUNTERS	(sizeof(counters) / sizeof(counters[0]))

static inline __u64 counter(const struct ublk_bpf_stats *stats, unsigned int i)
{
	return *(const __u64 *)((const char *)stats + counters[i].offset);
}

#endif
