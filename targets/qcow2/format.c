// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* qcow2 as it lies in the file: see format.h. */
#include <errno.h>
#include "why.h"

/* Offsets of the header's fields, and how long it is. */
enum {
	AT_MAGIC	= 0,
	AT_VERSION	= 4,
	AT_BACKING	= 8,
	AT_BACKING_BYTES = 16,
	AT_CLUSTER_BITS	= 20,
	AT_SIZE		= 24,
	AT_CRYPT	= 32,
	AT_L1_ENTRIES	= QCOW2_HEADER_L1_ENTRIES,
	AT_L1		= 40,
	AT_REFTABLE	= QCOW2_HEADER_REFTABLE,
	AT_REFTABLE_CLUSTERS = 56,
	AT_NR_SNAPSHOTS	= 60,
	AT_SNAPSHOTS	= 64,
	V2_BYTES	= 72,
	AT_INCOMPATIBLE	= QCOW2_HEADER_INCOMPATIBLE,
	AT_COMPATIBLE	= 80,
	AT_AUTOCLEAR	= QCOW2_HEADER_AUTOCLEAR,
	AT_REFCOUNT_ORDER = 96,
	AT_HEADER_BYTES	= 100,
	V3_BYTES	= 104,
	AT_COMPRESSION	= 104,
};

/* Header extensions: type, length, data, padded to 8 bytes. */
enum {
	EXT_END			= 0,
	EXT_BACKING_FORMAT	= 0xe2792aca,
	EXT_FEATURE_NAMES	= 0x6803f857,
	EXT_BITMAPS		= 0x23852875,
	EXT_CRYPT		= 0x0537be77,
	EXT_DATA_FILE		= 0x44415441,
};

#define EXT_HEAD	8
#define BITMAPS_BYTES	24
#define FEATURE_BYTES	48	/* an entry of the feature name table: type, bit, name */
#define FEATURE_NAME	46

size_t qcow2_header_wants(const void *bytes, size_t nr)
{
	__u32 bits;

	if (nr < V2_BYTES)
		return V2_BYTES;
	bits = qcow2_get32(bytes + AT_CLUSTER_BITS);
	if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
		return nr;
	return 1UL << bits;
}

/* A table of @bytes at @offset, which may be there: is it where a table can be? */
static int parse_table(const struct qcow2_layout *layout, const char *name, __u64 offset,
		       __u64 bytes, struct qcow2_why *why)
{
	__u64 cluster = qcow2_cluster_size(layout);

	if (offset & (cluster - 1))
		return refuse(why, -EINVAL, "its %s is at %llu, which is no multiple of a cluster",
			      name, offset);
	if (offset < cluster || offset >= QCOW2_MAX_OFFSET || bytes > QCOW2_MAX_OFFSET - offset)
		return refuse(why, -EINVAL, "its %s of %llu bytes cannot be at %llu", name, bytes,
			      offset);
	return 0;
}

static int parse_features(const void *bytes, size_t nr, struct qcow2_layout *layout,
			  struct qcow2_why *why)
{
	__u64 compression = 0;

	layout->header_bytes = V2_BYTES;
	layout->refcount_order = 4;
	layout->entry_bits = 3;
	if (layout->version == 2)
		return 0;
	if (nr < V3_BYTES)
		return refuse(why, -EINVAL, "it ends within its header");

	layout->incompatible = qcow2_get64(bytes + AT_INCOMPATIBLE);
	layout->compatible = qcow2_get64(bytes + AT_COMPATIBLE);
	layout->autoclear = qcow2_get64(bytes + AT_AUTOCLEAR);
	layout->refcount_order = qcow2_get32(bytes + AT_REFCOUNT_ORDER);
	layout->header_bytes = qcow2_get32(bytes + AT_HEADER_BYTES);
	if (layout->header_bytes < V3_BYTES || layout->header_bytes % 8 ||
	    layout->header_bytes > qcow2_cluster_size(layout))
		return refuse(why, -EINVAL, "its header cannot have %u bytes", layout->header_bytes);
	if (layout->header_bytes > nr)
		return refuse(why, -EINVAL, "it ends within its header");
	if (layout->refcount_order > 6)
		return refuse(why, -EINVAL, "its refcounts cannot have 2^%u bits",
			      layout->refcount_order);

	if (layout->header_bytes > AT_COMPRESSION)
		compression = ((const __u8 *)bytes)[AT_COMPRESSION];
	if (!compression != !(layout->incompatible & QCOW2_INCOMPAT_COMPRESSION))
		return refuse(why, -EINVAL,
			      "its compression type is %llu, its feature bits say otherwise",
			      compression);
	if (compression > QCOW2_ZSTD)
		return refuse(why, -ENOTSUP,
			      "its clusters are compressed in a way that is not known (%llu)",
			      compression);
	layout->compression = compression;

	if (layout->incompatible & QCOW2_INCOMPAT_SUBCLUSTERS) {
		if (layout->cluster_bits < QCOW2_MIN_SUBCLUSTER_BITS)
			return refuse(why, -EINVAL,
				      "its clusters of %llu bytes are too small for subclusters",
				      qcow2_cluster_size(layout));
		layout->entry_bits = 4;
	}
	if (layout->autoclear & QCOW2_AUTOCLEAR_RAW_DATA &&
	    !qcow2_has_data_file(layout))
		return refuse(why, -EINVAL, "its data file is raw, but it has none");
	return 0;
}

static int parse_l1(const void *bytes, size_t nr, struct qcow2_layout *layout,
		    struct qcow2_why *why)
{
	unsigned int reach_bits = qcow2_l2_reach_bits(layout);
	__u64 needed;

	layout->size = qcow2_get64(bytes + AT_SIZE);
	layout->l1.offset = qcow2_get64(bytes + AT_L1);
	layout->l1.bytes = 8ULL * qcow2_get32(bytes + AT_L1_ENTRIES);
	if (layout->size > 1ULL << 62)
		return refuse(why, -EINVAL, "its disk cannot have %llu bytes", layout->size);
	if (layout->l1.bytes > QCOW2_MAX_L1_BYTES)
		return refuse(why, -EINVAL, "its L1 table is too large: %llu bytes",
			      layout->l1.bytes);
	needed = (layout->size >> reach_bits) + !!(layout->size & ((1ULL << reach_bits) - 1));
	if (needed > layout->l1.bytes / 8)
		return refuse(why, -EINVAL,
			      "its L1 table of %llu entries is too small for a disk of %llu bytes",
			      layout->l1.bytes / 8, layout->size);
	layout->l1_needed = needed;
	if (!layout->l1.bytes)
		return 0;
	return parse_table(layout, "L1 table", layout->l1.offset, layout->l1.bytes, why);
}

static int parse_refcounts(const void *bytes, size_t nr, struct qcow2_layout *layout,
			   struct qcow2_why *why)
{
	__u64 clusters = qcow2_get32(bytes + AT_REFTABLE_CLUSTERS);

	layout->reftable.offset = qcow2_get64(bytes + AT_REFTABLE);
	layout->reftable.bytes = clusters << layout->cluster_bits;
	if (!clusters)
		return refuse(why, -EINVAL, "it has no refcount table; try qemu-img check -r all");
	if (layout->reftable.bytes > QCOW2_MAX_REFTABLE_BYTES)
		return refuse(why, -EINVAL, "its refcount table is too large: %llu bytes",
			      layout->reftable.bytes);
	return parse_table(layout, "refcount table", layout->reftable.offset,
			   layout->reftable.bytes, why);
}

static int parse_snapshots(const void *bytes, size_t nr, struct qcow2_layout *layout,
			   struct qcow2_why *why)
{
	layout->nr_snapshots = qcow2_get32(bytes + AT_NR_SNAPSHOTS);
	layout->snapshots_offset = qcow2_get64(bytes + AT_SNAPSHOTS);
	if (!layout->nr_snapshots)
		return 0;
	if (layout->nr_snapshots > QCOW2_MAX_SNAPSHOTS)
		return refuse(why, -EINVAL, "it cannot have %u snapshots", layout->nr_snapshots);
	return parse_table(layout, "snapshot table", layout->snapshots_offset, 0, why);
}

static int parse_backing(const void *bytes, size_t nr, struct qcow2_layout *layout,
			 struct qcow2_why *why)
{
	__u64 offset = qcow2_get64(bytes + AT_BACKING), cluster = qcow2_cluster_size(layout);
	__u32 length = qcow2_get32(bytes + AT_BACKING_BYTES);

	if (!offset)
		return 0;
	if (!length || length > QCOW2_MAX_NAME || offset < layout->header_bytes ||
	    offset > cluster || length > cluster - offset)
		return refuse(why, -EINVAL,
			      "the name of its backing file cannot be %u bytes at %llu", length, offset);
	if (offset + length > nr)
		return refuse(why, -EINVAL, "it ends within the name of its backing file");
	layout->backing = (struct qcow2_extent){ .offset = offset, .bytes = length };
	return 0;
}

static int parse_bitmaps(const void *data, __u32 length, struct qcow2_layout *layout,
			 struct qcow2_why *why)
{
	if (length != BITMAPS_BYTES || !qcow2_get32(data) || qcow2_get32(data + 4))
		return refuse(why, -EINVAL, "its bitmaps extension cannot be true");
	layout->nr_bitmaps = qcow2_get32(data);
	layout->bitmaps.bytes = qcow2_get64(data + 8);
	layout->bitmaps.offset = qcow2_get64(data + 16);
	if (layout->nr_bitmaps > QCOW2_MAX_BITMAPS || layout->bitmaps.bytes > QCOW2_MAX_BITMAPS_BYTES)
		return refuse(why, -EINVAL, "its bitmap directory is too large: %u bitmaps, %llu bytes",
			      layout->nr_bitmaps, layout->bitmaps.bytes);
	return parse_table(layout, "bitmap directory", layout->bitmaps.offset,
			   layout->bitmaps.bytes, why);
}

/* The name that the image has for bit @bit of its incompatible features, or NULL. */
static const char *feature_name(const void *bytes, const struct qcow2_extent *names,
				unsigned int bit, char name[FEATURE_NAME + 1])
{
	const __u8 *entry = bytes + names->offset;
	__u64 left;

	for (left = names->bytes / FEATURE_BYTES; left; left--, entry += FEATURE_BYTES) {
		unsigned int i;

		if (entry[0] || entry[1] != bit)
			continue;
		memcpy(name, entry + 2, FEATURE_NAME);
		name[FEATURE_NAME] = '\0';
		for (i = 0; name[i]; i++)
			if (name[i] < ' ' || name[i] > '~')
				name[i] = '?';
		return name[0] ? name : NULL;
	}
	return NULL;
}

/* Comes last: the image has names for its features, which may be told. */
static int check_features(const void *bytes, size_t nr, struct qcow2_layout *layout,
			  struct qcow2_why *why)
{
	__u64 unknown = layout->incompatible & ~QCOW2_INCOMPAT_KNOWN;
	char name[FEATURE_NAME + 1];
	const char *said;
	unsigned int bit;

	if (unknown) {
		bit = __builtin_ctzll(unknown);
		said = feature_name(bytes, &layout->feature_names, bit, name);
		return refuse(why, -ENOTSUP, "it has a feature that is not known: bit %u%s%s%s", bit,
			      said ? " ('" : "", said ?: "", said ? "')" : "");
	}
	if (layout->incompatible & QCOW2_INCOMPAT_CORRUPT)
		return refuse(why, -EINVAL,
			      "it is marked as corrupt; qemu-img check -r all may mend it");
	if (layout->autoclear & QCOW2_AUTOCLEAR_RAW_DATA && layout->backing.bytes)
		return refuse(why, -EINVAL, "its data file is raw, and yet it has a backing file");
	if (qcow2_has_data_file(layout) && layout->nr_snapshots)
		return refuse(why, -EINVAL, "it has a data file and snapshots, which exclude each other");
	if (layout->autoclear & QCOW2_AUTOCLEAR_BITMAPS && !layout->nr_bitmaps)
		return refuse(why, -EINVAL, "its bitmaps are said to be good, but it has none");
	return 0;
}

static int parse_extension(const void *bytes, __u32 type, struct qcow2_extent data,
			   struct qcow2_layout *layout, struct qcow2_why *why)
{
	struct qcow2_extent *to;
	__u64 most = ~0ULL;

	switch (type) {
	case EXT_BACKING_FORMAT:
		to = &layout->backing_format;
		most = QCOW2_MAX_FORMAT;
		break;
	case EXT_DATA_FILE:
		to = &layout->data_file;
		most = QCOW2_MAX_NAME;
		break;
	case EXT_FEATURE_NAMES:
		to = &layout->feature_names;
		break;
	case EXT_BITMAPS:
		/* what is in it is not to be relied on otherwise */
		if (!(layout->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
			return 0;
		return parse_bitmaps(bytes + data.offset, data.bytes, layout, why);
	case EXT_CRYPT:
		return refuse(why, -ENOTSUP, "it is encrypted");
	default:
		return 0;
	}
	if (to->offset)
		return refuse(why, -EINVAL, "its header extension 0x%08x is there twice", type);
	if (data.bytes > most)
		return refuse(why, -EINVAL, "its header extension 0x%08x is too long: %llu bytes",
			      type, data.bytes);
	*to = data;
	return 0;
}

static int parse_extensions(const void *bytes, size_t nr, struct qcow2_layout *layout,
			    struct qcow2_why *why)
{
	__u64 end = layout->backing.bytes ? layout->backing.offset : qcow2_cluster_size(layout);
	__u64 at = layout->header_bytes;
	int ret;

	if (end > nr)
		end = nr;	/* the file ends within its first cluster */
	while (at + EXT_HEAD <= end) {
		__u32 type = qcow2_get32(bytes + at), length = qcow2_get32(bytes + at + 4);
		struct qcow2_extent data = { .offset = at + EXT_HEAD, .bytes = length };

		if (type == EXT_END)
			break;
		if (length > end - data.offset)
			return refuse(why, -EINVAL,
				      "its header extension 0x%08x of %u bytes goes past the header",
				      type, length);
		ret = parse_extension(bytes, type, data, layout, why);
		if (ret)
			return ret;
		at = data.offset + ((length + 7ULL) & ~7ULL);
	}
	return 0;
}

int qcow2_parse_header(const void *bytes, size_t nr, struct qcow2_layout *layout,
		       struct qcow2_why *why)
{
	static int (*const steps[])(const void *bytes, size_t nr, struct qcow2_layout *layout,
				    struct qcow2_why *why) = {
		parse_features, parse_backing, parse_l1, parse_refcounts, parse_snapshots,
		parse_extensions, check_features,
	};
	unsigned int i;
	int ret;

	memset(layout, 0, sizeof(*layout));
	why->text[0] = '\0';
	if (nr < V2_BYTES || qcow2_get32(bytes + AT_MAGIC) != QCOW2_MAGIC)
		return refuse(why, -EINVAL, "it is no qcow2 image");
	layout->version = qcow2_get32(bytes + AT_VERSION);
	if (layout->version != 2 && layout->version != 3)
		return refuse(why, -ENOTSUP, "it is of version %u; 2 and 3 are known",
			      layout->version);
	layout->cluster_bits = qcow2_get32(bytes + AT_CLUSTER_BITS);
	if (layout->cluster_bits < QCOW2_MIN_CLUSTER_BITS ||
	    layout->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return refuse(why, -EINVAL,
			      "its clusters have 2^%u bytes; 512 bytes to 2 MiB are possible",
			      layout->cluster_bits);
	if (qcow2_get32(bytes + AT_CRYPT))
		return refuse(why, -ENOTSUP, "it is encrypted");
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		ret = steps[i](bytes, nr, layout, why);
		if (ret)
			return ret;
	}
	return 0;
}

static bool is_place(const struct qcow2_layout *layout, __u64 offset)
{
	return !(offset & (qcow2_cluster_size(layout) - 1));
}

/* The place of compressed data, and how far it may go: to the end of a sector. */
static void parse_compressed(const struct qcow2_layout *layout, __u64 entry,
			     struct qcow2_cluster *cluster)
{
	unsigned int offset_bits = 62 - (layout->cluster_bits - 8);
	__u64 sectors;

	cluster->offset = entry & ((1ULL << offset_bits) - 1);
	sectors = (entry & (QCOW2_COMPRESSED - 1)) >> offset_bits;
	cluster->bytes = (sectors + 1) * 512 - (cluster->offset & 511);
	cluster->kind = QCOW2_KIND_COMPRESSED;
	if (entry & QCOW2_COPIED || cluster->offset >= QCOW2_MAX_OFFSET ||
	    cluster->offset < qcow2_cluster_size(layout) ||
	    qcow2_has_data_file(layout))
		cluster->kind = QCOW2_KIND_INVALID;
}

/* What the bitmap says of subcluster @sub of a cluster that has a place, or has not. */
static enum qcow2_kind parse_bitmap(__u64 bitmap, unsigned int sub, bool allocated)
{
	__u32 data = bitmap, zero = bitmap >> QCOW2_SUBCLUSTERS;

	if (data & zero || (data && !allocated))
		return QCOW2_KIND_INVALID;
	if (zero >> sub & 1)
		return QCOW2_KIND_ZERO;
	return data >> sub & 1 ? QCOW2_KIND_DATA : QCOW2_KIND_UNALLOCATED;
}

void qcow2_parse_entry(const struct qcow2_layout *layout, __u64 entry, __u64 bitmap,
		       unsigned int sub, struct qcow2_cluster *cluster)
{
	bool external = qcow2_has_data_file(layout);
	bool subclusters = layout->entry_bits == 4;
	__u64 known = QCOW2_COPIED | QCOW2_OFFSET;

	*cluster = (struct qcow2_cluster){};
	if (entry & QCOW2_COMPRESSED) {
		parse_compressed(layout, entry, cluster);
		return;
	}

	if (layout->version > 2 && !subclusters)
		known |= QCOW2_ZERO;
	cluster->offset = entry & QCOW2_OFFSET;
	cluster->copied = entry & QCOW2_COPIED;
	/* in a data file, a cluster may well be at 0 */
	cluster->allocated = cluster->offset || (external && cluster->copied);
	if (entry & ~known || !is_place(layout, cluster->offset) ||
	    (cluster->copied && !cluster->allocated))
		cluster->kind = QCOW2_KIND_INVALID;
	else if (subclusters)
		cluster->kind = parse_bitmap(bitmap, sub, cluster->allocated);
	else if (entry & QCOW2_ZERO)
		cluster->kind = QCOW2_KIND_ZERO;
	else
		cluster->kind = cluster->allocated ? QCOW2_KIND_DATA : QCOW2_KIND_UNALLOCATED;
}

bool qcow2_l1_entry_is_valid(const struct qcow2_layout *layout, __u64 entry)
{
	__u64 offset = entry & QCOW2_OFFSET;

	if (entry & ~(QCOW2_COPIED | QCOW2_OFFSET) || !is_place(layout, offset))
		return false;
	return offset || !entry;
}

__u64 qcow2_get_refcount(const struct qcow2_layout *layout, const void *block, __u32 nr)
{
	unsigned int order = layout->refcount_order, shift;
	const __u8 *bytes = block;
	__u64 value = 0;

	if (order < 3) {
		shift = (nr << order) & 7;
		return bytes[nr >> (3 - order)] >> shift & ((1U << (1U << order)) - 1);
	}
	bytes += (size_t)nr << (order - 3);
	for (unsigned int i = 0; i < 1U << (order - 3); i++)
		value = value << 8 | bytes[i];
	return value;
}

void qcow2_put_refcount(const struct qcow2_layout *layout, void *block, __u32 nr, __u64 value)
{
	unsigned int order = layout->refcount_order, shift, mask;
	__u8 *bytes = block;

	if (order < 3) {
		shift = (nr << order) & 7;
		mask = ((1U << (1U << order)) - 1) << shift;
		bytes += nr >> (3 - order);
		*bytes = (*bytes & ~mask) | (value << shift & mask);
		return;
	}
	bytes += (size_t)nr << (order - 3);
	for (unsigned int i = 1U << (order - 3); i; i--, value >>= 8)
		bytes[i - 1] = value;
}
