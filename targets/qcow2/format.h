/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * qcow2 as it lies in the file, see docs/interop/qcow2.rst of QEMU: what bytes mean and
 * whether they can be true. Pure: nothing is read from anywhere, nothing is allocated, and
 * any bytes whatever can be given.
 */
#ifndef TARGET_QCOW2_FORMAT_H
#define TARGET_QCOW2_FORMAT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <linux/types.h>

#define QCOW2_MAGIC		0x514649fbU
#define QCOW2_MIN_CLUSTER_BITS	9
#define QCOW2_MAX_CLUSTER_BITS	21
#define QCOW2_MIN_SUBCLUSTER_BITS 14		/* of a cluster that has subclusters */
#define QCOW2_SUBCLUSTERS	32
#define QCOW2_MAX_L1_BYTES	(32U << 20)	/* as QEMU: what is larger is no image of anybody's */
#define QCOW2_MAX_REFTABLE_BYTES (8U << 20)
#define QCOW2_MAX_SNAPSHOTS	65536
#define QCOW2_MAX_BITMAPS	65535
#define QCOW2_MAX_BITMAPS_BYTES	(64U << 20)	/* of their directory */
#define QCOW2_MAX_NAME		1023		/* bytes of a backing file's name */
#define QCOW2_MAX_FORMAT	15		/* of a backing format's */
#define QCOW2_MAX_OFFSET	(1ULL << 56)	/* of what a table can name */

/* incompatible_features */
#define QCOW2_INCOMPAT_DIRTY		(1ULL << 0)
#define QCOW2_INCOMPAT_CORRUPT		(1ULL << 1)
#define QCOW2_INCOMPAT_DATA_FILE	(1ULL << 2)
#define QCOW2_INCOMPAT_COMPRESSION	(1ULL << 3)
#define QCOW2_INCOMPAT_SUBCLUSTERS	(1ULL << 4)
#define QCOW2_INCOMPAT_KNOWN		((1ULL << 5) - 1)
/* compatible_features */
#define QCOW2_COMPAT_LAZY_REFCOUNTS	(1ULL << 0)
/* autoclear_features */
#define QCOW2_AUTOCLEAR_BITMAPS		(1ULL << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA	(1ULL << 1)
#define QCOW2_AUTOCLEAR_KNOWN		((1ULL << 2) - 1)

/* Where in the header is what is written again. */
#define QCOW2_HEADER_L1_ENTRIES		36
#define QCOW2_HEADER_REFTABLE		48
#define QCOW2_HEADER_INCOMPATIBLE	72
#define QCOW2_HEADER_AUTOCLEAR		88

/* Entries of L1 and L2 tables. */
#define QCOW2_COPIED		(1ULL << 63)	/* its refcount is one */
#define QCOW2_COMPRESSED	(1ULL << 62)
#define QCOW2_OFFSET		0x00fffffffffffe00ULL
#define QCOW2_ZERO		(1ULL << 0)
#define QCOW2_CHANGING		(QCOW2_COPIED | QCOW2_COMPRESSED)	/* in memory: none of those */

enum qcow2_compression {
	QCOW2_ZLIB,
	QCOW2_ZSTD,
};

/* A part of the file that a string or table lies in; 0 bytes: there is none. */
struct qcow2_extent {
	__u64 offset;
	__u64 bytes;
};

/**
 * struct qcow2_layout - what a header says
 * @version:		2 or 3
 * @cluster_bits:	9 to 21
 * @entry_bits:		3 or, with subclusters, 4: of the bytes of an L2 entry
 * @refcount_order:	0 to 6: of the bits of a refcount
 * @compression:	of all compressed clusters
 * @header_bytes:	where the extensions start
 * @size:		bytes of the virtual disk
 * @l1:			the active L1 table, as long as it is
 * @l1_needed:		entries that @size needs; no more than there are
 * @reftable:		the refcount table
 * @nr_snapshots:	entries of the snapshot table
 * @snapshots_offset:	where that is
 * @incompatible:	feature bits
 * @compatible:		likewise
 * @autoclear:		likewise, those that are not known too
 * @backing:		the backing file's name
 * @backing_format:	its format's
 * @data_file:		the external data file's name
 * @bitmaps:		the bitmap directory
 * @nr_bitmaps:		its entries; 0: none, or none that are good
 * @feature_names:	the feature name table
 */
struct qcow2_layout {
	unsigned int version;
	unsigned int cluster_bits;
	unsigned int entry_bits;
	unsigned int refcount_order;
	enum qcow2_compression compression;
	__u32 header_bytes;
	__u64 size;
	struct qcow2_extent l1;
	__u32 l1_needed;
	struct qcow2_extent reftable;
	__u32 nr_snapshots;
	__u64 snapshots_offset;
	__u64 incompatible;
	__u64 compatible;
	__u64 autoclear;
	struct qcow2_extent backing;
	struct qcow2_extent backing_format;
	struct qcow2_extent data_file;
	struct qcow2_extent bitmaps;
	__u32 nr_bitmaps;
	struct qcow2_extent feature_names;
};

/*
 * Why something is refused, a part of a sentence: REASON, or REASON; WAY OUT. There is room for
 * two names of files, 100 bytes of each, and the longest reason.
 */
struct qcow2_why {
	char text[384];
};

/* What is read and written in one go, or not at all. */
#define QCOW2_SECTOR		512

static inline bool qcow2_has_data_file(const struct qcow2_layout *layout)
{
	return layout->incompatible & QCOW2_INCOMPAT_DATA_FILE;
}

static inline __u64 qcow2_cluster_size(const struct qcow2_layout *layout)
{
	return 1ULL << layout->cluster_bits;
}

/* Entries of an L2 table. */
static inline __u32 qcow2_l2_entries(const struct qcow2_layout *layout)
{
	return 1U << (layout->cluster_bits - layout->entry_bits);
}

/* How many bytes of the disk an L2 table is for, as a power of two. */
static inline unsigned int qcow2_l2_reach_bits(const struct qcow2_layout *layout)
{
	return 2 * layout->cluster_bits - layout->entry_bits;
}

/* Entries of a refcount block. */
static inline __u32 qcow2_refblock_entries(const struct qcow2_layout *layout)
{
	return 1U << (layout->cluster_bits + 3 - layout->refcount_order);
}

/* The largest refcount that fits. */
static inline __u64 qcow2_max_refcount(const struct qcow2_layout *layout)
{
	return ~0ULL >> (64 - (1U << layout->refcount_order));
}

static inline __u32 qcow2_get32(const void *bytes)
{
	__u32 value;

	memcpy(&value, bytes, sizeof(value));
	return be32toh(value);
}

static inline __u64 qcow2_get64(const void *bytes)
{
	__u64 value;

	memcpy(&value, bytes, sizeof(value));
	return be64toh(value);
}

static inline void qcow2_put64(void *bytes, __u64 value)
{
	value = htobe64(value);
	memcpy(bytes, &value, sizeof(value));
}

/**
 * qcow2_parse_header() - read the header of an image and its extensions
 * @bytes:	the file's first bytes: the first cluster, or as much as there is of it
 * @nr:		how many, see qcow2_header_wants()
 * @layout:	the result
 * @why:	what is wrong
 *
 * What tables hold, and whether the file is as long as they say, is not looked at.
 *
 * Return: 0, -EINVAL it is no image, or none that can be true, -ENOTSUP it is one that
 * only others can use.
 */
int qcow2_parse_header(const void *bytes, size_t nr, struct qcow2_layout *layout,
		       struct qcow2_why *why);

/* How many of the first bytes of a file qcow2_parse_header() wants, of which @nr are given. */
size_t qcow2_header_wants(const void *bytes, size_t nr);

/* What an L2 entry says of a cluster, or of a part of one that has subclusters. */
enum qcow2_kind {
	QCOW2_KIND_UNALLOCATED,	/* the backing file's, or zeroes */
	QCOW2_KIND_ZERO,	/* zeroes; perhaps with a place in the file */
	QCOW2_KIND_DATA,	/* at a place in the file */
	QCOW2_KIND_COMPRESSED,
	QCOW2_KIND_INVALID,	/* none of that can be meant */
};

/**
 * struct qcow2_cluster - where a cluster, or a part of it, is
 * @kind:	what it is
 * @allocated:	it has a place in the file: @offset
 * @copied:	that is nobody else's, and can be written
 * @offset:	of the cluster, in the image or the data file; of compressed data otherwise
 * @bytes:	of compressed data at most, to the end of its last sector
 */
struct qcow2_cluster {
	enum qcow2_kind kind;
	bool allocated;
	bool copied;
	__u64 offset;
	__u32 bytes;
};

/**
 * qcow2_parse_entry() - what an L2 entry says
 * @layout:	of its image
 * @entry:	the entry, or its first half
 * @bitmap:	its second half, with subclusters
 * @sub:	which subcluster is asked about; 0 without
 * @cluster:	the result
 */
void qcow2_parse_entry(const struct qcow2_layout *layout, __u64 entry, __u64 bitmap,
		       unsigned int sub, struct qcow2_cluster *cluster);

/* Can this be an L1 entry? 0 is that of a table that is not there. */
bool qcow2_l1_entry_is_valid(const struct qcow2_layout *layout, __u64 entry);

/* Refcount @nr of a refcount block, which has as many: see qcow2_refblock_entries(). */
__u64 qcow2_get_refcount(const struct qcow2_layout *layout, const void *block, __u32 nr);
void qcow2_put_refcount(const struct qcow2_layout *layout, void *block, __u32 nr, __u64 value);

#endif
