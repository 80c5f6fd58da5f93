// SPDX-License-Identifier: GPL-2.0
/*
 * An L2 table, an L1 table or a refcount block is any bytes: entries are told apart as the format
 * says, a table is found to be corrupt if and only if one of them cannot be true, and a count
 * is what was put there, as are those beside it. targets/qcow2/format.c, guard.c
 *
 * An input is struct control, and the bytes of a table, up to a cluster.
 */
#include <stdint.h>
#include "qcow2_mem.h"

struct control {
	__u8 flags;		/* version, data file, subclusters */
	__u8 cluster_bits;
	__u8 refcount_order;
	__u8 l1;		/* which table it is */
	__u8 end[2];		/* clusters of the file */
	__u8 metadata[4];	/* clusters that are */
	__u8 value[6];		/* of a count */
};

static __u64 file_size(struct qcow2_blk *blk);

static struct qcow2_layout layout;
static struct qcow2_guard guard;
static __u64 file_bytes;
static struct qcow2_blk blk = { .size = file_size };

static __u64 file_size(struct qcow2_blk *of)
{
	return file_bytes;
}

static void set_layout(const struct control *control)
{
	layout = (struct qcow2_layout){
		.version	= control->flags & 1 ? 3 : 2,
		.cluster_bits	= 9 + control->cluster_bits % 6,
		.refcount_order	= control->flags & 1 ? control->refcount_order % 7 : 4,
		.entry_bits	= 3,
	};
	if (!(control->flags & 1))
		return;
	if (control->flags & 2)
		layout.incompatible |= QCOW2_INCOMPAT_DATA_FILE;
	if (control->flags & 4) {
		layout.incompatible |= QCOW2_INCOMPAT_SUBCLUSTERS;
		layout.cluster_bits = 14;
		layout.entry_bits = 4;
	}
}

static void open_guard(const struct control *control)
{
	struct qcow2_why why;
	unsigned int i;
	int ret;

	file_bytes = (1 + control->end[0] + (control->end[1] << 8)) << layout.cluster_bits;
	ensure(!qcow2_guard_open(&guard, &blk, &layout, true), "no memory");
	for (i = 0; i < sizeof(control->metadata); i++) {
		ret = qcow2_guard_add(&guard, QCOW2_META_L2, control->metadata[i], 1, &why);
		ensure(!ret || ret == -EINVAL, "%d", ret);
	}
}

/* What may be in the place of an entry, as the format has it. */
static bool is_free_place(__u64 offset, __u64 bytes)
{
	__u64 size = qcow2_cluster_size(&layout), at;

	for (at = offset / size; at <= (offset + bytes - 1) / size; at++)
		if (at * size >= file_bytes || qcow2_guard_find(&guard, at))
			return false;
	return true;
}

/* What can be meant by an entry is what can be. Return: can it be true in this image? */
static bool is_good(__u64 entry, __u64 bitmap, __u64 at)
{
	bool external = layout.incompatible & QCOW2_INCOMPAT_DATA_FILE;
	__u64 size = qcow2_cluster_size(&layout);
	struct qcow2_cluster cluster, first;
	unsigned int sub, nr = layout.entry_bits == 4 ? QCOW2_SUBCLUSTERS : 1;

	qcow2_parse_entry(&layout, entry, bitmap, 0, &first);
	for (sub = 0; sub < nr; sub++) {
		qcow2_parse_entry(&layout, entry, bitmap, sub, &cluster);
		ensure((cluster.kind == QCOW2_KIND_INVALID) == (first.kind == QCOW2_KIND_INVALID),
		       "0x%llx, 0x%llx", entry, bitmap);
		ensure(cluster.offset == first.offset && cluster.bytes == first.bytes,
		       "0x%llx, 0x%llx", entry, bitmap);
		ensure(cluster.kind != QCOW2_KIND_DATA || cluster.allocated, "0x%llx", entry);
	}
	if (first.kind == QCOW2_KIND_INVALID)
		return false;
	ensure(!first.copied || first.allocated, "0x%llx", entry);
	if (first.kind == QCOW2_KIND_COMPRESSED) {
		ensure(!external && !first.allocated, "0x%llx", entry);
		ensure(first.offset >= size, "0x%llx", entry);
		ensure(first.bytes && first.bytes <= 2 * size, "0x%llx", entry);
		ensure((first.offset + first.bytes) % 512 == 0, "0x%llx", entry);
		return is_free_place(first.offset, first.bytes);
	}
	if (!first.allocated)
		return true;
	ensure(first.offset % size == 0 && first.offset < QCOW2_MAX_OFFSET, "0x%llx", entry);
	return external ? first.offset == at : is_free_place(first.offset, 1);
}

static void check_l2(const __u8 *table, __u32 l1)
{
	__u32 nr = qcow2_l2_entries(&layout), i;
	bool good = true;
	int ret;

	for (i = 0; i < nr; i++) {
		const __u8 *at = table + ((size_t)i << layout.entry_bits);
		__u64 bitmap = layout.entry_bits == 4 ? qcow2_get64(at + 8) : 0;

		good &= is_good(qcow2_get64(at), bitmap,
				((__u64)l1 * nr + i) << layout.cluster_bits);
	}
	ret = qcow2_guard_check_table(&guard, l1, table);
	ensure(ret == (good ? 0 : -EIO), "%d: %s", ret, guard.corrupt.text);
	ensure(qcow2_guard_state(&guard) == ret, "%d", ret);
}

static void check_l1(const __u8 *table)
{
	__u64 size = qcow2_cluster_size(&layout), at, entry;

	for (at = 0; at < size; at += 8) {
		entry = qcow2_get64(table + at);
		if (qcow2_l1_entry_is_valid(&layout, entry))
			ensure(!entry || ((entry & ~QCOW2_COPIED) && !(entry % size) &&
					  (entry & ~QCOW2_COPIED) < QCOW2_MAX_OFFSET),
			       "0x%llx", entry);
	}
}

static void check_count(__u8 *block, __u32 nr, __u64 value)
{
	__u64 size = qcow2_cluster_size(&layout), was;
	__u8 *before = malloc(size);

	ensure(before, "no memory");
	memcpy(before, block, size);
	nr %= qcow2_refblock_entries(&layout);
	value &= qcow2_max_refcount(&layout);
	was = qcow2_get_refcount(&layout, block, nr);
	ensure(was <= qcow2_max_refcount(&layout), "%llu", was);
	qcow2_put_refcount(&layout, block, nr, value);
	ensure(qcow2_get_refcount(&layout, block, nr) == value, "count %u", nr);
	qcow2_put_refcount(&layout, block, nr, was);
	ensure(!memcmp(before, block, size), "count %u", nr);
	free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nr)
{
	struct control control;
	__u64 value = 0;
	__u8 *table;

	if (nr < sizeof(control))
		return -1;
	memcpy(&control, data, sizeof(control));
	memcpy(&value, control.value, sizeof(control.value));
	set_layout(&control);
	open_guard(&control);
	nr -= sizeof(control);
	if (nr > qcow2_cluster_size(&layout))
		nr = qcow2_cluster_size(&layout);
	table = calloc(1, qcow2_cluster_size(&layout));
	ensure(table, "no memory");
	memcpy(table, data + sizeof(control), nr);
	check_l2(table, control.l1);
	check_l1(table);
	check_count(table, value >> 16, value ^ value << 40);
	check_count(table, qcow2_refblock_entries(&layout) - 1, ~0ULL);
	free(table);
	qcow2_guard_close(&guard);
	return 0;
}
