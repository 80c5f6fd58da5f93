/* SPDX-License-Identifier: GPL-2.0 */
/* What a program has seen of the I/O in each MiB of its device; tests read it. */
#ifndef TESTS_PROGS_SEEN_H
#define TESTS_PROGS_SEEN_H

struct seen {
	__s64 asked;	/* queue_io_cmd */
	__s64 daemon;	/* queue_io_cmd_daemon */
	__s64 released;
	__s64 order;	/* decimal digits: 1 asked, 2 daemon, 3 released, 4 io_done */
	__s64 cookie;
	__s64 v[20];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, struct seen);
} behaviour SEC(".maps");

#endif
