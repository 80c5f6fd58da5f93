/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Images in memory for tests of targets/qcow2: made in any shape, opened and closed, with a
 * snapshot if need be, and their refcounts counted anew. After cmocka.h.
 */
#ifndef TESTS_UNIT_QCOW2_MAKE_H
#define TESTS_UNIT_QCOW2_MAKE_H

#include <zlib.h>
#include "targets/qcow2/image.h"
#include "qcow2_file.h"

#define SECTORS		1024
#define DISK		(SECTORS * 512ULL)
#define TABLES		4

/* What an image is like. */
struct shape {
	unsigned int version, cluster_bits, refcount_order;
	bool subclusters, data_file, raw, backing, lazy;
	bool compressed, bitmaps;	/* whoever makes it adds those */
};

static struct shape shape;
static struct file file, data_file, backing_file;
static struct qcow2_image image;
static struct qcow2_memory memory;
static struct qcow2_why why;

static inline void put32(__u64 at, __u32 value)
{
	value = htobe32(value);
	file_put(&file, &value, at, sizeof(value));
}

static inline void put64(__u64 at, __u64 value)
{
	value = htobe64(value);
	file_put(&file, &value, at, sizeof(value));
}

/* Header, refcount table, one block of it, L1 table, a cluster each or as many as it takes. */
static inline void make(const struct shape *of)
{
	__u64 size = 1ULL << of->cluster_bits, i, l1_clusters;
	unsigned int reach = 2 * of->cluster_bits - (of->subclusters ? 4 : 3);
	__u64 l1 = (DISK + (1ULL << reach) - 1) >> reach;
	struct qcow2_layout layout = { .cluster_bits = of->cluster_bits,
				       .refcount_order = of->refcount_order };
	__u8 *block = calloc(1, size);

	shape = *of;
	file_init(&file);
	file_init(&data_file);
	file_init(&backing_file);
	data_file.discarded = 0;	/* it may be read again */
	l1_clusters = (l1 * 8 + size - 1) / size;
	file_put(&file, block, (3 + l1_clusters) * size - 1, 1);
	put32(0, QCOW2_MAGIC);
	put32(4, of->version);
	put32(20, of->cluster_bits);
	put64(24, DISK);
	put32(36, l1);
	put64(40, 3 * size);
	put64(48, size);
	put32(56, 1);
	if (of->backing) {
		put64(8, 504);
		put32(16, 4);
		file_put(&file, "base", 504, 4);
	}
	if (of->version == 3) {
		put64(72, (of->subclusters ? QCOW2_INCOMPAT_SUBCLUSTERS : 0) |
			  (of->data_file ? QCOW2_INCOMPAT_DATA_FILE : 0));
		put64(80, of->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0);
		put64(88, of->raw ? QCOW2_AUTOCLEAR_RAW_DATA : 0);
		put32(96, of->refcount_order);
		put32(100, 104);
	}
	put64(size, 2 * size);
	for (i = 0; i < 3 + l1_clusters; i++)
		qcow2_put_refcount(&layout, block, i, 1);
	file_put(&file, block, 2 * size, size);
	free(block);
}

static inline void open_files(struct file *in, struct file *data, bool read_only)
{
	struct qcow2_layout layout;
	__u64 size = 1ULL << shape.cluster_bits;
	int ret;

	ret = qcow2_parse_header(in->bytes, in->size < size ? in->size : size, &layout, &why);
	if (ret)
		fail_msg("%s", why.text);
	assert_int_equal(qcow2_memory_alloc(&memory, &layout, TABLES), 0);
	ret = qcow2_image_open(&image, &in->blk, shape.data_file ? &data->blk : NULL,
			       shape.backing ? &backing_file.blk : NULL, &layout, &memory,
			       read_only, &why);
	if (ret)
		fail_msg("%s", why.text);
}

static inline void open_image(void)
{
	open_files(&file, &data_file, false);
}

static inline void free_memory(void)
{
	qcow2_memory_free(&memory);
}

static inline void close_image(void)
{
	assert_int_equal(qcow2_image_close(&image), 0);
	free_memory();
}

/* Without a word to the file. */
static inline void forget_image(void)
{
	qcow2_image_drop(&image);
	free_memory();
}

static inline void free_files(void)
{
	file_free(&file);
	file_free(&data_file);
	file_free(&backing_file);
}

/* Where the L1 table of a snapshot is that was taken of the image; 0: none. */
static __u64 snapshot;

/* @more references of the cluster at @offset, in the file itself. */
static inline void count_more(const struct qcow2_layout *layout, __u64 offset, int more)
{
	__u64 cluster = offset >> layout->cluster_bits, entries = qcow2_refblock_entries(layout);
	__u64 block = qcow2_get64(file.bytes + layout->reftable.offset + cluster / entries * 8);
	__u8 *bytes = file.bytes + block;

	assert_true(block);
	qcow2_put_refcount(layout, bytes, cluster % entries,
			   qcow2_get_refcount(layout, bytes, cluster % entries) + more);
}

static inline void count_one_more(const struct qcow2_layout *layout, __u64 offset)
{
	count_more(layout, offset, 1);
}

/* The same of all that a compressed cluster is in. */
static inline void count_compressed(const struct qcow2_layout *layout, const struct qcow2_cluster *is)
{
	__u64 size = qcow2_cluster_size(layout), at;

	for (at = is->offset / size; at <= (is->offset + is->bytes - 1) / size; at++)
		count_one_more(layout, at * size);
}

/*
 * A directory of bitmaps with these flags, each with a table of its own, behind all else of a
 * new image. Return: where it is.
 */
static inline __u64 add_bitmaps(const __u32 *flags, unsigned int nr)
{
	__u64 size = 1ULL << shape.cluster_bits, directory = (file.size + size - 1) / size * size;
	__u64 clusters = (nr * 512ULL + size - 1) / size, at = directory;
	struct qcow2_layout layout;
	unsigned int i;

	put64(QCOW2_HEADER_AUTOCLEAR, qcow2_get64(file.bytes + QCOW2_HEADER_AUTOCLEAR) |
				      QCOW2_AUTOCLEAR_BITMAPS);
	put32(104, 0x23852875);
	put32(108, 24);
	put32(112, nr);
	put64(120, nr * 512ULL);
	put64(128, directory);
	file_put(&file, "", directory + (clusters + nr) * size - 1, 1);
	for (i = 0; i < nr; i++, at += 512) {
		put64(at, directory + (clusters + i) * size);
		put32(at + 8, 1);
		put32(at + 12, flags[i]);
		put32(at + 16, 1 << 24 | 16 << 16 | 488);	/* a name as long as the entry */
		memset(file.bytes + at + 24, 'a' + i, 488);
	}
	assert_int_equal(qcow2_parse_header(file.bytes, size, &layout, &why), 0);
	for (i = 0; i < clusters + nr; i++)
		count_one_more(&layout, directory + i * size);
	return directory;
}

/* Compress a cluster as QEMU does. Return: bytes. */
static inline size_t deflate_cluster(__u8 *to, const __u8 *from, size_t size)
{
	z_stream stream = { .next_in = (__u8 *)from, .avail_in = size, .next_out = to, .avail_out = size };

	assert_int_equal(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9,
				      Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	deflateEnd(&stream);
	return stream.total_out;
}

/*
 * Some of the clusters of an image that is closed become compressed ones, one behind the other
 * in what was theirs, and over the ends of clusters where those lie beside each other.
 */
static inline void compress_some(void)
{
	__u64 size = 1ULL << shape.cluster_bits, i, j, l2, at = 0, end = 0;
	__u8 *bytes = malloc(size);
	struct qcow2_cluster is;
	struct qcow2_layout layout;
	size_t nr;

	assert_int_equal(qcow2_parse_header(file.bytes, size, &layout, &why), 0);
	for (i = 0; i < layout.l1.bytes; i += 8) {
		l2 = qcow2_get64(file.bytes + layout.l1.offset + i) & QCOW2_OFFSET;
		for (j = 0; l2 && j < size; j += 8) {
			qcow2_parse_entry(&layout, qcow2_get64(file.bytes + l2 + j), 0, 0, &is);
			if (is.kind != QCOW2_KIND_DATA || file_random(3) == 0)
				continue;
			nr = deflate_cluster(bytes, file.bytes + is.offset, size);
			count_more(&layout, is.offset, -1);
			if (is.offset == end) {
				end += size;
			} else if (end - at < nr) {
				at = is.offset;
				end = at + size;
			}
			file_put(&file, bytes, at, nr);
			put64(l2 + j, QCOW2_COMPRESSED | at |
			      ((at + nr - 1) / 512 - at / 512) << (70 - layout.cluster_bits));
			qcow2_parse_entry(&layout, qcow2_get64(file.bytes + l2 + j), 0, 0, &is);
			assert_int_equal(is.kind, QCOW2_KIND_COMPRESSED);
			count_compressed(&layout, &is);
			at += nr;
		}
	}
	free(bytes);
}

/* The header has a snapshot table of one entry, at @table. */
static inline void put_snapshot(__u64 table, __u64 l1, __u32 l1_entries)
{
	put32(60, 1);
	put64(64, table);
	put64(table, l1);
	put32(table + 8, l1_entries);
	put32(table + 12, 1 << 16 | 1);	/* bytes of id and name */
	put32(table + 36, 16);
	put64(table + 48, DISK);
	put64(table + 56, 0x3174000000000000);
}

/* As qemu-img snapshot -c does, of an image that is closed: all is shared from now on. */
static inline void take_snapshot(void)
{
	__u64 size = 1ULL << shape.cluster_bits, i, j, cluster, table;
	struct qcow2_layout layout;
	struct qcow2_cluster is;
	struct qcow2_guard guard;
	struct qcow2_refs refs;

	assert_int_equal(qcow2_parse_header(file.bytes, size, &layout, &why), 0);
	assert_int_equal(qcow2_guard_open(&guard, &file.blk, &layout, false), 0);
	assert_int_equal(qcow2_refs_open(&refs, &file.blk, &layout, &guard, &why), 0);
	assert_int_equal(qcow2_refs_alloc(&refs, (layout.l1.bytes + size - 1) / size, &cluster), 0);
	assert_int_equal(qcow2_refs_alloc(&refs, 1, &table), 0);
	assert_int_equal(qcow2_refs_write(&refs), 0);
	qcow2_refs_close(&refs);
	qcow2_guard_close(&guard);
	assert_int_equal(qcow2_parse_header(file.bytes, size, &layout, &why), 0);
	snapshot = cluster * size;
	put_snapshot(table * size, snapshot, layout.l1.bytes / 8);
	/* the L1 table has the whole of its last cluster */
	file_put(&file, "", snapshot + (layout.l1.bytes + size - 1) / size * size - 1, 1);

	for (i = 0; i < layout.l1.bytes; i += 8) {
		__u64 entry = qcow2_get64(file.bytes + layout.l1.offset + i);
		__u64 l2 = entry & QCOW2_OFFSET;

		put64(layout.l1.offset + i, l2);
		put64(snapshot + i, l2);
		if (!l2)
			continue;
		count_one_more(&layout, l2);
		for (j = 0; j < size; j += 1U << layout.entry_bits) {
			entry = qcow2_get64(file.bytes + l2 + j);
			qcow2_parse_entry(&layout, entry, 0, 0, &is);
			if (is.kind == QCOW2_KIND_COMPRESSED)
				count_compressed(&layout, &is);
			if (!is.allocated)
				continue;
			put64(l2 + j, entry & ~QCOW2_COPIED);
			count_one_more(&layout, is.offset);
		}
	}
}

/* What is marked as nobody else's must be. */
static inline void check_owners(const struct file *in, const struct qcow2_layout *layout,
			 const __u32 *refers)
{
	__u64 size = qcow2_cluster_size(layout), i, j;
	struct qcow2_cluster cluster;
	__u8 *table = malloc(size);

	for (i = 0; i < layout->l1.bytes; i += 8) {
		__u64 entry = qcow2_get64(in->bytes + layout->l1.offset + i);

		if (!entry)
			continue;
		if (entry & QCOW2_COPIED)
			assert_int_equal(refers[(entry & QCOW2_OFFSET) / size], 1);
		file_read((struct qcow2_blk *)in, table, entry & QCOW2_OFFSET, size);
		for (j = 0; j < size; j += 1U << layout->entry_bits) {
			qcow2_parse_entry(layout, qcow2_get64(table + j), 0, 0, &cluster);
			if (cluster.copied && !shape.data_file)
				assert_int_equal(refers[cluster.offset / size], 1);
		}
	}
	free(table);
}

/*
 * Count who refers to what, without any of the code that is tested but the parser of entries.
 * @exact: no cluster may be counted that nobody refers to. Return: what is leaked.
 */
static inline unsigned int check(const struct file *in, bool exact)
{
	__u64 size = 1ULL << shape.cluster_bits, nr = in->size / size + 2, i, j, leaked = 0;
	struct qcow2_layout layout;
	__u32 *refers = calloc(nr, sizeof(*refers));
	__u8 *bytes = malloc(size);
	struct qcow2_cluster cluster;

	assert_int_equal(qcow2_parse_header(in->bytes, in->size < size ? in->size : size, &layout,
					    &why), 0);
#define REFER(offset) do {							\
		assert_true(((offset) >> shape.cluster_bits) < nr);		\
		refers[(offset) >> shape.cluster_bits]++;			\
	} while (0)
	REFER(0ULL);
	for (i = 0; i < layout.reftable.bytes; i += size)
		REFER(layout.reftable.offset + i);
	for (i = 0; i < layout.l1.bytes; i += size)
		REFER(layout.l1.offset + i);
	for (i = 0; i < layout.reftable.bytes / 8; i++)
		if (qcow2_get64(in->bytes + layout.reftable.offset + i * 8))
			REFER(qcow2_get64(in->bytes + layout.reftable.offset + i * 8));
	for (i = 0; snapshot && i < layout.l1.bytes; i += size)
		REFER(snapshot + i);
	if (snapshot)
		REFER(layout.snapshots_offset);
	for (i = 0; i < layout.bitmaps.bytes; i += size)
		REFER(layout.bitmaps.offset + i);
	for (i = 0; i < layout.nr_bitmaps; i++)
		REFER(qcow2_get64(in->bytes + layout.bitmaps.offset + i * 512));
	for (i = 0; i < layout.l1.bytes / 8 * (snapshot ? 2 : 1); i++) {
		bool active = i < layout.l1.bytes / 8;
		__u64 entry = qcow2_get64(in->bytes + (active ? layout.l1.offset + i * 8 :
						       snapshot + i * 8 - layout.l1.bytes));
		__u8 *table;

		assert_true(qcow2_l1_entry_is_valid(&layout, entry));
		if (!entry)
			continue;
		REFER(entry & QCOW2_OFFSET);
		table = calloc(1, size);
		file_read((struct qcow2_blk *)in, table, entry & QCOW2_OFFSET, size);
		for (j = 0; j < qcow2_l2_entries(&layout); j++) {
			__u64 *l2 = (__u64 *)(table + (j << layout.entry_bits));

			qcow2_parse_entry(&layout, be64toh(l2[0]),
					  layout.entry_bits == 4 ? be64toh(l2[1]) : 0, 0, &cluster);
			assert_int_not_equal(cluster.kind, QCOW2_KIND_INVALID);
			if (cluster.kind == QCOW2_KIND_COMPRESSED)
				for (__u64 at = cluster.offset / size;
				     at <= (cluster.offset + cluster.bytes - 1) / size; at++)
					REFER(at * size);
			else if (cluster.allocated && !shape.data_file)
				REFER(cluster.offset);
		}
		free(table);
	}
	for (i = 0; i < nr; i++) {
		__u64 entries = qcow2_refblock_entries(&layout), block, count;

		if (i % entries == 0) {
			block = 0;
			if (i / entries < layout.reftable.bytes / 8)
				block = qcow2_get64(in->bytes + layout.reftable.offset + i / entries * 8);
			memset(bytes, 0, size);
			if (block)
				file_read((struct qcow2_blk *)in, bytes, block, size);
		}
		count = qcow2_get_refcount(&layout, bytes, i % entries);
		if (count < refers[i] || (exact && count != refers[i]))
			fail_msg("cluster %llu is counted %llu times, and there are %u references",
				 i, count, refers[i]);
		leaked += count - refers[i];
		assert_true(shape.compressed || refers[i] <= (snapshot ? 2 : 1));
	}
	check_owners(in, &layout, refers);
	free(refers);
	free(bytes);
	return leaked;
}

#endif
