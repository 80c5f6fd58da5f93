/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The program interface as the original proposal has it, written down here on
 * its own: the programs of this folder know nothing of our headers, as those
 * of others do. A change of names, types, order or return encoding breaks them.
 */
#ifndef TESTS_PROGS_ABI_H
#define TESTS_PROGS_ABI_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define EIO		5
#define EAGAIN		11
#define EACCES		13
#define ENOSPC		28
#define EOPNOTSUPP	95

#define OP_READ		0
#define OP_WRITE	1
#define OP_FLUSH	2

#define QUEUED		0UL
#define REDIRECT	(1UL << 60)
#define CONTINUE	(2UL << 60)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ublksrv_io_desc {
	__u32 op_flags;
	__u32 nr_sectors;
	__u64 start_sector;
	__u64 addr;
};

typedef struct {
	int counter;
} atomic_t;

typedef struct refcount_struct {
	atomic_t refs;
} refcount_t;

struct ublk_bpf_io {
	const struct ublksrv_io_desc *iod;
	unsigned long flags;
	refcount_t ref;
	int res;
};

struct ublk_bpf_ops {
	unsigned int id;
	unsigned long (*queue_io_cmd)(struct ublk_bpf_io *io, unsigned int off);
	unsigned long (*queue_io_cmd_daemon)(struct ublk_bpf_io *io, unsigned int off);
	void (*release_io_cmd)(struct ublk_bpf_io *io);
	int (*attach_dev)(int dev_id);
	void (*detach_dev)(int dev_id);
};

#pragma clang attribute pop

extern const struct ublksrv_io_desc *ublk_bpf_get_iod(const struct ublk_bpf_io *io) __ksym;
extern void ublk_bpf_complete_io(const struct ublk_bpf_io *io, int res) __ksym;
extern int ublk_bpf_get_dev_id(const struct ublk_bpf_io *io) __ksym;
extern int ublk_bpf_get_queue_id(const struct ublk_bpf_io *io) __ksym;
extern int ublk_bpf_get_io_tag(const struct ublk_bpf_io *io) __ksym;

/* The whole of an I/O, as a completion's result. */
static inline int io_bytes(const struct ublksrv_io_desc *iod)
{
	return (iod->op_flags & 0xff) == OP_FLUSH ? 0 : (int)(iod->nr_sectors << 9);
}

/* Numbers that a test reads: bpftool map dump name counts. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&counts, &what);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static inline void note(__u32 what, __u64 value)
{
	bpf_map_update_elem(&counts, &what, &value, BPF_ANY);
}

char _license[] SEC("license") = "GPL";

#endif
