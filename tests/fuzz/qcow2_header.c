// SPDX-License-Identifier: GPL-2.0
/*
 * The header of an image is any bytes: nothing behind them is read, what is refused has a
 * reason, and what is not refused can be true. targets/qcow2/format.c
 */
#include <stdint.h>
#include "qcow2_mem.h"
#include "targets/qcow2/chain.h"

/* It lies in the first @nr bytes of the file. */
static void ensure_within(const struct qcow2_extent *extent, __u64 from, __u64 nr)
{
	if (!extent->bytes && !extent->offset)
		return;
	ensure(extent->offset >= from && extent->offset <= nr &&
	       extent->bytes <= nr - extent->offset, "%llu bytes at %llu of %llu", extent->bytes,
	       extent->offset, nr);
}

/* A table that is not looked at yet is where one can be. */
static void ensure_table(const struct qcow2_layout *layout, const struct qcow2_extent *table,
			 __u64 most)
{
	__u64 size = qcow2_cluster_size(layout);

	if (!table->bytes)
		return;
	ensure(table->offset % size == 0 && table->offset >= size && table->bytes <= most &&
	       table->offset + table->bytes <= QCOW2_MAX_OFFSET, "%llu bytes at %llu", table->bytes,
	       table->offset);
}

static void ensure_sane(const struct qcow2_layout *layout, __u64 nr)
{
	__u64 size = qcow2_cluster_size(layout);

	if (nr > size)
		nr = size;
	ensure(layout->version == 2 || layout->version == 3, "%u", layout->version);
	ensure(layout->cluster_bits >= 9 && layout->cluster_bits <= 21, "%u", layout->cluster_bits);
	ensure(layout->refcount_order <= 6, "%u", layout->refcount_order);
	ensure(layout->entry_bits == 3 || layout->entry_bits == 4, "%u", layout->entry_bits);
	ensure(layout->header_bytes <= nr, "%u", layout->header_bytes);
	ensure(!(layout->incompatible & ~QCOW2_INCOMPAT_KNOWN), "0x%llx", layout->incompatible);
	ensure(!(layout->incompatible & QCOW2_INCOMPAT_CORRUPT), "it says that it is corrupt");
	ensure(layout->version == 3 || !(layout->incompatible | layout->compatible |
					 layout->autoclear), "version 2 has no features");

	ensure(layout->l1_needed <= layout->l1.bytes / 8, "%u", layout->l1_needed);
	ensure((__u64)layout->l1_needed << qcow2_l2_reach_bits(layout) >= layout->size,
	       "%u for %llu", layout->l1_needed, layout->size);
	ensure(layout->nr_snapshots <= QCOW2_MAX_SNAPSHOTS, "%u", layout->nr_snapshots);
	ensure(layout->nr_bitmaps <= QCOW2_MAX_BITMAPS, "%u", layout->nr_bitmaps);
	ensure(layout->reftable.bytes, "no refcount table");
	ensure_table(layout, &layout->l1, QCOW2_MAX_L1_BYTES);
	ensure_table(layout, &layout->reftable, QCOW2_MAX_REFTABLE_BYTES);
	ensure_table(layout, &layout->bitmaps, QCOW2_MAX_BITMAPS_BYTES);

	ensure(layout->backing.bytes <= QCOW2_MAX_NAME, "%llu", layout->backing.bytes);
	ensure(layout->data_file.bytes <= QCOW2_MAX_NAME, "%llu", layout->data_file.bytes);
	ensure(layout->backing_format.bytes <= QCOW2_MAX_FORMAT, "%llu",
	       layout->backing_format.bytes);
	ensure_within(&layout->backing, layout->header_bytes, nr);
	ensure_within(&layout->backing_format, layout->header_bytes, nr);
	ensure_within(&layout->data_file, layout->header_bytes, nr);
	ensure_within(&layout->feature_names, layout->header_bytes, nr);
}

/* The name is refused, or a string as long as it should be. */
static void ensure_name(struct qcow2_blk *blk, const struct qcow2_extent *extent)
{
	char name[QCOW2_MAX_NAME + 1];
	struct qcow2_why why;
	int ret = qcow2_read_name(blk, extent, name, &why);

	ensure(ret == -EINVAL || (!ret && strlen(name) == extent->bytes), "%d", ret);
}

static void ensure_same(const struct qcow2_layout *one, const struct qcow2_layout *other)
{
	ensure(!memcmp(one, other, sizeof(*one)), "it is not as it was");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nr)
{
	static struct mem file;
	struct qcow2_layout layout, other;
	struct qcow2_why why = { "" };
	__u8 *bytes = malloc(nr);	/* whose end is known */
	int ret;

	if (!file.bytes)
		mem_init(&file);
	if (nr)
		memcpy(bytes, data, nr);
	ensure(qcow2_header_wants(bytes, nr) >= (nr < 72 ? 72 : 1), "less than there is");
	ret = qcow2_parse_header(bytes, nr, &layout, &why);
	ensure(!ret || ret == -EINVAL || ret == -ENOTSUP, "%d", ret);
	ensure(strnlen(why.text, sizeof(why.text)) < sizeof(why.text), "no string");
	ensure(!ret == !why.text[0], "%d, and why: %s", ret, why.text);
	if (!ret)
		ensure_sane(&layout, nr);
	free(bytes);

	/* as a file it is the same, also when not all of it is read at first */
	mem_set(&file, data, nr);
	ensure(qcow2_read_header(&file.blk, &other, &why) == ret, "it is not as it was");
	if (ret)
		return 0;
	ensure_same(&layout, &other);
	ensure_name(&file.blk, &layout.backing);
	ensure_name(&file.blk, &layout.data_file);
	ensure_name(&file.blk, &layout.backing_format);
	return 0;
}
