// SPDX-License-Identifier: GPL-2.0
/* What the bytes of a qcow2 image mean, and which are refused: targets/qcow2/format.c */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <cmocka.h>
#include "targets/qcow2/format.h"

#define CLUSTER_BITS	16
#define CLUSTER		(1UL << CLUSTER_BITS)
#define DISK		(10ULL << 30)

static __u8 header[CLUSTER];
static struct qcow2_layout layout;
static struct qcow2_why why;

static void put32(unsigned int at, __u32 value)
{
	value = htobe32(value);
	memcpy(header + at, &value, sizeof(value));
}

static void put64(unsigned int at, __u64 value)
{
	qcow2_put64(header + at, value);
}

/* An extension of @length bytes at @at. Return: where the next one goes. */
static unsigned int put_extension(unsigned int at, __u32 type, const void *data, __u32 length)
{
	put32(at, type);
	put32(at + 4, length);
	memcpy(header + at + 8, data, length);
	return at + 8 + (length + 7) / 8 * 8;
}

/* A disk of 10 GiB, of version @version, with nothing in it. */
static void make(unsigned int version)
{
	memset(header, 0, sizeof(header));
	put32(0, QCOW2_MAGIC);
	put32(4, version);
	put32(20, CLUSTER_BITS);
	put64(24, DISK);
	put32(36, DISK >> 29);			/* an L2 table is for 512 MiB */
	put64(40, 3 * CLUSTER);
	put64(48, CLUSTER);
	put32(56, 1);
	if (version < 3)
		return;
	put32(96, 4);
	put32(100, 104);
}

static int parse(void)
{
	return qcow2_parse_header(header, sizeof(header), &layout, &why);
}

/* Refused with @err and a sentence that has @text. */
static void refused(int err, const char *text)
{
	assert_int_equal(parse(), err);
	if (!strstr(why.text, text))
		fail_msg("'%s' does not say '%s'", why.text, text);
}

static void both_versions_are_read(void **state)
{
	unsigned int version;

	for (version = 2; version <= 3; version++) {
		make(version);
		assert_int_equal(parse(), 0);
		assert_int_equal(layout.version, version);
		assert_int_equal(layout.cluster_bits, CLUSTER_BITS);
		assert_int_equal(layout.refcount_order, 4);
		assert_int_equal(layout.header_bytes, version == 2 ? 72 : 104);
		assert_int_equal(layout.size, DISK);
		assert_int_equal(layout.l1.offset, 3 * CLUSTER);
		assert_int_equal(layout.l1.bytes, 20 * 8);
		assert_int_equal(layout.l1_needed, 20);
		assert_int_equal(layout.reftable.offset, CLUSTER);
		assert_int_equal(layout.reftable.bytes, CLUSTER);
		assert_int_equal(qcow2_l2_entries(&layout), 8192);
		assert_int_equal(qcow2_l2_reach_bits(&layout), 29);
		assert_int_equal(qcow2_refblock_entries(&layout), 32768);
		assert_int_equal(qcow2_max_refcount(&layout), 0xffff);
	}
}

/* Fields of version 3 say nothing in version 2. */
static void version_2_has_no_features(void **state)
{
	make(2);
	memset(header + 72, 0xff, 100);
	put32(172, 0);
	/* what stands there is extensions */
	put32(72, 0);
	assert_int_equal(parse(), 0);
	assert_int_equal(layout.incompatible, 0);
	assert_int_equal(layout.autoclear, 0);
}

static void what_is_no_image_is_refused(void **state)
{
	make(3);
	put32(0, 0x514649fa);
	refused(-EINVAL, "no qcow2 image");
	make(3);
	assert_int_equal(qcow2_parse_header(header, 71, &layout, &why), -EINVAL);
	make(1);
	refused(-ENOTSUP, "version 1");
	make(4);
	refused(-ENOTSUP, "version 4");
}

/* However short the file is: nothing behind its end is read (the sanitizer would say so). */
static void a_file_may_end_anywhere(void **state)
{
	unsigned int at;
	size_t nr;

	make(3);
	put32(100, 112);
	at = put_extension(112, 0x6803f857, header, 96);
	put64(8, at + 16);
	put32(16, 10);
	for (nr = 0; nr <= at + 100; nr++) {
		__u8 *bytes = malloc(nr ?: 1);
		int ret;

		memcpy(bytes, header, nr);
		ret = qcow2_parse_header(bytes, nr, &layout, &why);
		assert_int_equal(ret, nr < at + 26 ? -EINVAL : 0);
		free(bytes);
	}
}

static void clusters_have_512_bytes_to_2_mib(void **state)
{
	unsigned int bits;

	for (bits = 0; bits < 64; bits++) {
		make(3);
		put32(20, bits);
		put32(36, 4 << 20);
		put64(40, 3ULL << 21);
		put64(48, 1ULL << 21);
		if (bits >= 9 && bits <= 21) {
			assert_int_equal(parse(), 0);
			assert_int_equal(qcow2_header_wants(header, 72), 1UL << bits);
		} else {
			refused(-EINVAL, "512 bytes to 2 MiB");
			assert_int_equal(qcow2_header_wants(header, 100), 100);
		}
	}
	assert_int_equal(qcow2_header_wants(header, 71), 72);
}

static void l1_table_is_as_large_as_the_disk(void **state)
{
	make(3);
	put64(24, DISK + 1);
	refused(-EINVAL, "L1 table of 20 entries is too small");
	make(3);
	put64(24, DISK - (1 << 29));
	assert_int_equal(parse(), 0);
	assert_int_equal(layout.l1_needed, 19);
	make(3);
	put64(24, 0);
	put32(36, 0);
	put64(40, 1);
	assert_int_equal(parse(), 0);
	make(3);
	put64(24, ~0ULL);
	refused(-EINVAL, "its disk cannot have");
	make(3);
	put32(36, 0xffffffff);
	refused(-EINVAL, "L1 table is too large");
	put32(36, (4 << 20) + 1);
	refused(-EINVAL, "L1 table is too large");
	put32(36, 4 << 20);
	assert_int_equal(parse(), 0);
}

static void tables_are_where_they_can_be(void **state)
{
	static const struct {
		unsigned int at;
		const char *name;
	} tables[] = { { 40, "L1 table" }, { 48, "refcount table" }, { 64, "snapshot table" } };
	unsigned int i;

	for (i = 0; i < 3; i++) {
		make(3);
		put32(60, 1);
		put64(64, 4 * CLUSTER);
		assert_int_equal(parse(), 0);
		put64(tables[i].at, 0);
		refused(-EINVAL, tables[i].name);
		put64(tables[i].at, 3 * CLUSTER + 512);
		refused(-EINVAL, "no multiple of a cluster");
		put64(tables[i].at, 1ULL << 56);
		refused(-EINVAL, tables[i].name);
		put64(tables[i].at, 0ULL - CLUSTER);
		refused(-EINVAL, tables[i].name);
	}
	make(3);
	put32(56, 0);
	refused(-EINVAL, "no refcount table");
	put32(56, (8 << 20 >> CLUSTER_BITS) + 1);
	refused(-EINVAL, "refcount table is too large");
	put32(56, 0xffffffff);
	refused(-EINVAL, "refcount table is too large");
	make(3);
	put64(64, 4 * CLUSTER);
	put32(60, 65536);
	assert_int_equal(parse(), 0);
	put32(60, 65537);
	refused(-EINVAL, "cannot have 65537 snapshots");
}

static void header_length_is_checked(void **state)
{
	static const __u32 wrong[] = { 0, 72, 96, 103, 105, 108, CLUSTER + 8, 0xfffffff8 };
	unsigned int i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		make(3);
		put32(100, wrong[i]);
		refused(-EINVAL, "its header cannot have");
	}
	make(3);
	put32(100, CLUSTER);
	assert_int_equal(parse(), 0);
	make(3);
	put32(96, 6);
	assert_int_equal(parse(), 0);
	assert_true(qcow2_max_refcount(&layout) == ~0ULL);
	put32(96, 7);
	refused(-EINVAL, "2^7 bits");
}

static void features_that_are_not_known_are_named(void **state)
{
	__u8 names[96] = { 0, 7, 'w', 'a', 'r', 'p', '\n', [48] = 1, 8, 'x' };

	make(3);
	put64(72, 1ULL << 8);
	put_extension(104, 0x6803f857, names, sizeof(names));
	refused(-ENOTSUP, "bit 8");
	assert_null(strchr(why.text, '('));
	put64(72, 1ULL << 7 | QCOW2_INCOMPAT_CORRUPT);
	refused(-ENOTSUP, "bit 7 ('warp?')");
	make(3);
	put64(80, ~0ULL);
	put64(88, ~3ULL);
	assert_int_equal(parse(), 0);
	assert_true(layout.autoclear == ~3ULL);
}

static void known_features_go_together_or_not(void **state)
{
	make(3);
	put64(72, QCOW2_INCOMPAT_CORRUPT);
	refused(-EINVAL, "qemu-img check");
	make(3);
	put64(72, QCOW2_INCOMPAT_DIRTY);
	assert_int_equal(parse(), 0);
	make(3);
	put32(32, 1);
	refused(-ENOTSUP, "encrypted");

	make(3);
	put64(72, QCOW2_INCOMPAT_COMPRESSION);
	refused(-EINVAL, "compression type is 0");
	put32(100, 112);
	header[104] = 1;
	assert_int_equal(parse(), 0);
	assert_int_equal(layout.compression, QCOW2_ZSTD);
	header[104] = 2;
	refused(-ENOTSUP, "compressed in a way");
	put64(72, 0);
	refused(-EINVAL, "compression type is 2");

	make(3);
	put64(72, QCOW2_INCOMPAT_SUBCLUSTERS);
	put32(36, DISK >> 28);
	assert_int_equal(parse(), 0);
	assert_int_equal(qcow2_l2_entries(&layout), 4096);
	assert_int_equal(qcow2_l2_reach_bits(&layout), 28);
	put32(20, 13);
	put32(36, 1 << 20);
	refused(-EINVAL, "too small for subclusters");

	make(3);
	put64(88, QCOW2_AUTOCLEAR_RAW_DATA);
	refused(-EINVAL, "data file is raw");
	put64(72, QCOW2_INCOMPAT_DATA_FILE);
	assert_int_equal(parse(), 0);
	put64(8, 200);
	put32(16, 4);
	refused(-EINVAL, "has a backing file");
	make(3);
	put64(72, QCOW2_INCOMPAT_DATA_FILE);
	put32(60, 1);
	put64(64, 4 * CLUSTER);
	refused(-EINVAL, "exclude each other");
}

static void names_are_found(void **state)
{
	unsigned int at;

	make(3);
	at = put_extension(104, 0xe2792aca, "qcow2", 5);
	at = put_extension(at, 0x12345678, "whatever", 8);
	at = put_extension(at, 0x44415441, "data.raw", 8);
	put64(8, at + 8);
	put32(16, 8);
	memcpy(header + at + 8, "base.img", 8);
	assert_int_equal(parse(), 0);
	assert_memory_equal(header + layout.backing.offset, "base.img", layout.backing.bytes);
	assert_memory_equal(header + layout.backing_format.offset, "qcow2",
			    layout.backing_format.bytes);
	assert_memory_equal(header + layout.data_file.offset, "data.raw", layout.data_file.bytes);
	assert_int_equal(layout.backing.bytes, 8);
	assert_int_equal(layout.backing_format.bytes, 5);
	assert_int_equal(layout.data_file.bytes, 8);
}

static void names_have_their_place(void **state)
{
	static const struct {
		__u64 offset;
		__u32 bytes;
	} wrong[] = {
		{ 200, 0 }, { 200, 1024 }, { 103, 4 }, { CLUSTER + 1, 1 }, { CLUSTER - 3, 4 },
		{ ~0ULL, 4 }, { 200, 0xffffffff },
	};
	unsigned int i, at;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		make(3);
		put64(8, wrong[i].offset);
		put32(16, wrong[i].bytes);
		refused(-EINVAL, "name of its backing file");
	}
	make(3);
	put64(8, CLUSTER - 4);
	put32(16, 4);
	assert_int_equal(parse(), 0);

	make(3);
	put_extension(104, 0xe2792aca, "a format's name", 15);
	assert_int_equal(parse(), 0);
	put_extension(104, 0xe2792aca, "one that is long", 16);
	refused(-EINVAL, "too long");
	make(3);
	at = put_extension(104, 0xe2792aca, "raw", 3);
	put_extension(at, 0xe2792aca, "qcow2", 5);
	refused(-EINVAL, "there twice");
	make(3);
	put64(8, 120);
	put32(16, 4);
	put32(104, 0x12345678);
	put32(108, 8);
	assert_int_equal(parse(), 0);
	put32(108, 9);
	refused(-EINVAL, "goes past the header");
	put32(108, 0xffffffff);
	refused(-EINVAL, "goes past the header");
}

static void bitmaps_are_those_that_are_good(void **state)
{
	__u8 bitmaps[24] = { [3] = 2, [15] = 100, [21] = 5 };	/* at 5 clusters */

	make(3);
	put_extension(104, 0x23852875, bitmaps, 24);
	assert_int_equal(parse(), 0);
	assert_int_equal(layout.nr_bitmaps, 0);
	put64(88, QCOW2_AUTOCLEAR_BITMAPS);
	assert_int_equal(parse(), 0);
	assert_int_equal(layout.nr_bitmaps, 2);
	assert_int_equal(layout.bitmaps.offset, 5 * CLUSTER);
	assert_int_equal(layout.bitmaps.bytes, 100);
	bitmaps[7] = 1;
	put_extension(104, 0x23852875, bitmaps, 24);
	refused(-EINVAL, "bitmaps extension");
	bitmaps[7] = 0;
	put_extension(104, 0x23852875, bitmaps, 23);
	refused(-EINVAL, "bitmaps extension");
	make(3);
	put64(88, QCOW2_AUTOCLEAR_BITMAPS);
	refused(-EINVAL, "it has none");
}

/* Entries */

static struct qcow2_cluster cluster;

static enum qcow2_kind entry(__u64 value)
{
	qcow2_parse_entry(&layout, value, 0, 0, &cluster);
	return cluster.kind;
}

static enum qcow2_kind part(__u64 value, __u64 bitmap, unsigned int sub)
{
	qcow2_parse_entry(&layout, value, bitmap, sub, &cluster);
	return cluster.kind;
}

static void clusters_are_where_their_entries_say(void **state)
{
	make(3);
	assert_int_equal(parse(), 0);
	assert_int_equal(entry(0), QCOW2_KIND_UNALLOCATED);
	assert_false(cluster.allocated);
	assert_int_equal(entry(5 * CLUSTER), QCOW2_KIND_DATA);
	assert_true(cluster.allocated && !cluster.copied);
	assert_int_equal(cluster.offset, 5 * CLUSTER);
	assert_int_equal(entry(QCOW2_COPIED | 5 * CLUSTER), QCOW2_KIND_DATA);
	assert_true(cluster.copied);
	assert_int_equal(entry(QCOW2_ZERO), QCOW2_KIND_ZERO);
	assert_false(cluster.allocated);
	assert_int_equal(entry(QCOW2_ZERO | QCOW2_COPIED | 5 * CLUSTER), QCOW2_KIND_ZERO);
	assert_true(cluster.allocated && cluster.copied);
	assert_int_equal(entry((1ULL << 56) - CLUSTER), QCOW2_KIND_DATA);
}

static void entries_that_mean_nothing_are_invalid(void **state)
{
	unsigned int bit;

	make(3);
	assert_int_equal(parse(), 0);
	assert_int_equal(entry(QCOW2_COPIED), QCOW2_KIND_INVALID);
	assert_int_equal(entry(QCOW2_COPIED | QCOW2_ZERO), QCOW2_KIND_INVALID);
	for (bit = 1; bit < CLUSTER_BITS; bit++)
		assert_int_equal(entry(5 * CLUSTER | 1ULL << bit), QCOW2_KIND_INVALID);
	for (bit = 56; bit < 62; bit++)
		assert_int_equal(entry(5 * CLUSTER | 1ULL << bit), QCOW2_KIND_INVALID);
	make(2);
	assert_int_equal(parse(), 0);
	assert_int_equal(entry(QCOW2_ZERO), QCOW2_KIND_INVALID);
}

static void data_file_has_a_first_cluster(void **state)
{
	make(3);
	put64(72, QCOW2_INCOMPAT_DATA_FILE);
	assert_int_equal(parse(), 0);
	assert_int_equal(entry(QCOW2_COPIED), QCOW2_KIND_DATA);
	assert_true(cluster.allocated && cluster.copied);
	assert_int_equal(cluster.offset, 0);
	assert_int_equal(entry(0), QCOW2_KIND_UNALLOCATED);
	assert_int_equal(entry(QCOW2_COMPRESSED | 5 * CLUSTER), QCOW2_KIND_INVALID);
}

static void compressed_data_ends_with_a_sector(void **state)
{
	unsigned int bits;

	make(3);
	assert_int_equal(parse(), 0);
	/* of 64 KiB: bits 54 to 61 are sectors */
	assert_int_equal(entry(QCOW2_COMPRESSED | 3ULL << 54 | 0x123456), QCOW2_KIND_COMPRESSED);
	assert_int_equal(cluster.offset, 0x123456);
	assert_int_equal(cluster.bytes, 4 * 512 - 0x56);
	assert_int_equal(entry(QCOW2_COMPRESSED | 0x20000), QCOW2_KIND_COMPRESSED);
	assert_int_equal(cluster.bytes, 512);
	assert_int_equal(entry(QCOW2_COMPRESSED | QCOW2_COPIED | 0x20000), QCOW2_KIND_INVALID);
	assert_int_equal(entry(QCOW2_COMPRESSED | 0xffff), QCOW2_KIND_INVALID);

	for (bits = 9; bits <= 21; bits++) {
		layout.cluster_bits = bits;
		assert_int_equal(entry(QCOW2_COMPRESSED | 1ULL << (70 - bits - 1) * (bits > 14) |
				       1ULL << 21), QCOW2_KIND_COMPRESSED);
		/* as many sectors as a cluster has, and one, at most */
		assert_int_equal(entry(QCOW2_COMPRESSED | ((1ULL << 62) - (1ULL << (70 - bits))) |
				       1ULL << 21), QCOW2_KIND_COMPRESSED);
		assert_int_equal(cluster.bytes, 512ULL << (bits - 8));
	}
	/* of 512 bytes: the place has 61 bits, of which 56 can be */
	layout.cluster_bits = 9;
	assert_int_equal(entry(QCOW2_COMPRESSED | 1ULL << 56), QCOW2_KIND_INVALID);
}

static void subclusters_have_a_bitmap(void **state)
{
	const __u64 place = QCOW2_COPIED | 5 * CLUSTER;
	unsigned int sub;

	make(3);
	put64(72, QCOW2_INCOMPAT_SUBCLUSTERS);
	put32(36, DISK >> 28);
	assert_int_equal(parse(), 0);
	for (sub = 0; sub < 32; sub++) {
		assert_int_equal(part(place, 1ULL << sub, sub), QCOW2_KIND_DATA);
		assert_int_equal(part(place, 1ULL << sub, sub ^ 1), QCOW2_KIND_UNALLOCATED);
		assert_int_equal(part(place, 1ULL << (32 + sub), sub), QCOW2_KIND_ZERO);
		assert_int_equal(part(0, 1ULL << (32 + sub), sub), QCOW2_KIND_ZERO);
		assert_int_equal(part(0, 1ULL << sub, sub), QCOW2_KIND_INVALID);
		assert_int_equal(part(place, 1ULL << sub | 1ULL << (32 + sub), 0),
				 QCOW2_KIND_INVALID);
	}
	assert_int_equal(part(0, 0, 3), QCOW2_KIND_UNALLOCATED);
	/* they have a bit of their own for it */
	assert_int_equal(part(place | QCOW2_ZERO, 0, 0), QCOW2_KIND_INVALID);
	assert_int_equal(part(QCOW2_COMPRESSED | 0x123456, 0, 7), QCOW2_KIND_COMPRESSED);
}

static void l1_entries_are_checked(void **state)
{
	make(3);
	assert_int_equal(parse(), 0);
	assert_true(qcow2_l1_entry_is_valid(&layout, 0));
	assert_true(qcow2_l1_entry_is_valid(&layout, 5 * CLUSTER));
	assert_true(qcow2_l1_entry_is_valid(&layout, QCOW2_COPIED | 5 * CLUSTER));
	assert_false(qcow2_l1_entry_is_valid(&layout, QCOW2_COPIED));
	assert_false(qcow2_l1_entry_is_valid(&layout, 5 * CLUSTER + 512));
	assert_false(qcow2_l1_entry_is_valid(&layout, 5 * CLUSTER | 1));
	assert_false(qcow2_l1_entry_is_valid(&layout, 5 * CLUSTER | 1ULL << 62));
}

/* Each refcount of a block is its own, and lies where the specification says. */
static void refcounts_of_any_width(void **state)
{
	__u8 block[512], one[512];
	unsigned int order;
	__u32 nr, other;

	for (order = 0; order <= 6; order++) {
		layout = (struct qcow2_layout){ .cluster_bits = 9, .refcount_order = order };
		memset(block, 0, sizeof(block));
		for (nr = 0; nr < qcow2_refblock_entries(&layout); nr++)
			qcow2_put_refcount(&layout, block, nr,
					   nr * 0x9e3779b97f4a7c15ULL & qcow2_max_refcount(&layout));
		for (nr = 0; nr < qcow2_refblock_entries(&layout); nr++)
			assert_true(qcow2_get_refcount(&layout, block, nr) ==
				    (nr * 0x9e3779b97f4a7c15ULL & qcow2_max_refcount(&layout)));

		memset(one, 0, sizeof(one));
		qcow2_put_refcount(&layout, one, 3, qcow2_max_refcount(&layout));
		for (other = 0; other < qcow2_refblock_entries(&layout); other++)
			assert_true(qcow2_get_refcount(&layout, one, other) ==
				    (other == 3 ? qcow2_max_refcount(&layout) : 0));
	}
	/* one bit: from the least significant one; 16: big endian */
	layout.refcount_order = 0;
	memset(one, 0, sizeof(one));
	qcow2_put_refcount(&layout, one, 9, 1);
	assert_int_equal(one[1], 2);
	layout.refcount_order = 4;
	qcow2_put_refcount(&layout, one, 1, 0x1234);
	assert_int_equal(one[2], 0x12);
	assert_int_equal(one[3], 0x34);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_versions_are_read),
		cmocka_unit_test(version_2_has_no_features),
		cmocka_unit_test(what_is_no_image_is_refused),
		cmocka_unit_test(a_file_may_end_anywhere),
		cmocka_unit_test(clusters_have_512_bytes_to_2_mib),
		cmocka_unit_test(l1_table_is_as_large_as_the_disk),
		cmocka_unit_test(tables_are_where_they_can_be),
		cmocka_unit_test(header_length_is_checked),
		cmocka_unit_test(features_that_are_not_known_are_named),
		cmocka_unit_test(known_features_go_together_or_not),
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(names_have_their_place),
		cmocka_unit_test(bitmaps_are_those_that_are_good),
		cmocka_unit_test(clusters_are_where_their_entries_say),
		cmocka_unit_test(entries_that_mean_nothing_are_invalid),
		cmocka_unit_test(data_file_has_a_first_cluster),
		cmocka_unit_test(compressed_data_ends_with_a_sector),
		cmocka_unit_test(subclusters_have_a_bitmap),
		cmocka_unit_test(l1_entries_are_checked),
		cmocka_unit_test(refcounts_of_any_width),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
