// SPDX-License-Identifier: GPL-2.0
/*
 * Images that were not closed, with counts that are anything: they are what they were, and
 * their counts are right, or they are refused. targets/qcow2/repair.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"
#include "targets/qcow2/repair.h"

static __u8 disk[DISK], now[DISK];
static struct file_log log;

/* An image with all sorts of clusters, closed; disk is what is on it. */
static void begin(const struct shape *of, bool with_snapshot)
{
	static __u8 bytes[40 * 512];
	unsigned int i;

	make(of);
	snapshot = 0;
	open_image();
	for (i = 0; i < 120; i++) {
		__u64 pos = file_random(SECTORS - 40) * 512ULL, nr = (1 + file_random(40)) * 512;

		memset(bytes, i, nr);
		if (file_random(4))
			assert_int_equal(qcow2_image_write(&image, bytes, pos, nr), 0);
		else
			assert_int_equal(qcow2_image_zero(&image, pos, nr, file_random(2)), 0);
		if (i == 60 && with_snapshot) {
			close_image();
			take_snapshot();
			open_image();
		}
	}
	assert_int_equal(qcow2_image_read(&image, disk, 0, DISK), 0);
	close_image();
	check(&file, true);
}

static void set_dirty(void)
{
	put64(QCOW2_HEADER_INCOMPATIBLE, qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE) |
					 QCOW2_INCOMPAT_DIRTY);
}

static void parse(struct qcow2_layout *layout)
{
	__u64 size = 1ULL << shape.cluster_bits;

	assert_int_equal(qcow2_parse_header(file.bytes, file.size < size ? file.size : size, layout,
					    &why), 0);
}

/* Counts that are anything, flags that are not true, and blocks that are not there. */
static void damage(void)
{
	struct qcow2_layout layout;
	__u64 i, j, block, size;

	parse(&layout);
	size = qcow2_cluster_size(&layout);
	for (i = 0; i < layout.reftable.bytes / 8; i++) {
		block = qcow2_get64(file.bytes + layout.reftable.offset + i * 8);
		for (j = 0; block && j < size; j++)
			if (file_random(3) == 0)
				file.bytes[block + j] = file_random(256);
		if (i && file_random(4) == 0)
			put64(layout.reftable.offset + i * 8, 0);
	}
	for (i = 0; i < layout.l1.bytes; i += 8) {
		__u64 entry = qcow2_get64(file.bytes + layout.l1.offset + i);
		__u64 table = entry & QCOW2_OFFSET;

		if (!table)
			continue;
		if (file_random(2))
			put64(layout.l1.offset + i, entry ^ QCOW2_COPIED);
		for (j = 0; !shape.data_file && j < size; j += 1U << layout.entry_bits) {
			entry = qcow2_get64(file.bytes + table + j);
			if (entry & QCOW2_OFFSET && file_random(2))
				put64(table + j, entry ^ QCOW2_COPIED);
		}
	}
	set_dirty();
}

/* What is marked as nobody else's is, and what is not is not. */
static void check_marks(void)
{
	struct qcow2_layout layout;
	struct qcow2_guard guard;
	struct qcow2_refs refs;
	__u64 i, j, count, size;

	parse(&layout);
	size = qcow2_cluster_size(&layout);
	assert_int_equal(qcow2_guard_open(&guard, &file.blk, &layout, false), 0);
	assert_int_equal(qcow2_refs_open(&refs, &file.blk, &layout, &guard, &why), 0);
	for (i = 0; i < layout.l1.bytes; i += 8) {
		__u64 entry = qcow2_get64(file.bytes + layout.l1.offset + i);
		__u64 table = entry & QCOW2_OFFSET;

		if (!table)
			continue;
		assert_int_equal(qcow2_refs_get(&refs, table / size, &count), 0);
		assert_int_equal(!!(entry & QCOW2_COPIED), count == 1);
		for (j = 0; !shape.data_file && j < size; j += 1U << layout.entry_bits) {
			entry = qcow2_get64(file.bytes + table + j);
			if (!(entry & QCOW2_OFFSET))
				continue;
			assert_int_equal(qcow2_refs_get(&refs, (entry & QCOW2_OFFSET) / size, &count), 0);
			assert_int_equal(!!(entry & QCOW2_COPIED), count == 1);
		}
	}
	qcow2_refs_close(&refs);
	qcow2_guard_close(&guard);
}

/* Opened, it is repaired in the file, and is what it was. */
static void is_repaired(void)
{
	open_image();
	check(&file, true);
	check_marks();
	assert_false(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE) & QCOW2_INCOMPAT_DIRTY);
	assert_int_equal(qcow2_image_read(&image, now, 0, DISK), 0);
	assert_memory_equal(disk, now, DISK);
	/* and can be used */
	assert_int_equal(qcow2_image_write(&image, disk, 0, DISK), 0);
	assert_int_equal(qcow2_image_zero(&image, DISK / 4, DISK / 2, true), 0);
	close_image();
	check(&file, true);
}

static const struct shape shapes[] = {
	{ 3, 9, 4 },
	{ 3, 9, 6 },
	{ 3, 12, 1 },
	{ 3, 14, 4, .subclusters = true },
	{ 3, 9, 5, .data_file = true },
	{ 3, 16, 3, .lazy = true },
};

static void counts_are_corrected(void **state)
{
	unsigned int i;

	file_seeded();
	for (i = 0; i < 200; i++) {
		const struct shape *of = &shapes[i % 6];

		begin(of, !of->data_file && file_random(2));
		damage();
		is_repaired();
		free_files();
	}
}

/*
 * Repair the image, which has something in its disk; a crash at any point of that leaves one
 * that is repaired then. Return: states.
 */
static unsigned int crash_everywhere(void)
{
	struct file before, was, data_was;
	struct qcow2_layout layout;
	unsigned int states = 0;
	size_t nr, i;

	put64(QCOW2_HEADER_AUTOCLEAR, 1ULL << 40);
	file_copy(&before, &file);
	file.log = &log;
	open_image();
	forget_image();
	file.log = NULL;
	was = file;
	data_was = data_file;
	for (nr = 0; nr <= log.nr; nr += 1 + file_random(1 + log.nr / 30)) {
		for (i = 0; i < 3; i++, states++) {
			/* the entries of the log are of what is at this address */
			file_crash(&file, &before, &file, &log, nr, file_random(4) == 0);
			file_copy(&data_file, &data_was);
			parse(&layout);
			/* features that are not known are not left beside what has changed */
			if (layout.autoclear) {
				assert_int_equal(file.size, before.size);
				assert_memory_equal(file.bytes, before.bytes, file.size);
			}
			is_repaired();
			file_free(&file);
			file_free(&data_file);
		}
	}
	file = was;
	data_file = data_was;
	file_forget(&log);
	file_free(&before);
	free_files();
	return states;
}

static void crash_of_a_repair_can_be_repaired(void **state)
{
	unsigned int i, states = 0;

	file_seeded();
	for (i = 0; i < 18; i++) {
		const struct shape *of = &shapes[i % 6];

		begin(of, !of->data_file && file_random(2));
		damage();
		states += crash_everywhere();
	}
	printf("%u states\n", states);
}

/* An image whose clusters are all in use, but for the one block that counts them: 64. */
static void begin_full(void)
{
	make(&(struct shape){ 3, 9, 6 });
	snapshot = 0;
	memset(disk, 0, sizeof(disk));
	memset(disk, 1, 59 * 512);
	open_image();
	assert_int_equal(qcow2_image_write(&image, disk, 0, 59 * 512), 0);
	close_image();
	assert_int_equal(file.size, 64 * 512);
}

/* Its next cluster of the disk is at @cluster, which no block counts. */
static void put_uncounted(__u64 cluster)
{
	__u64 table = qcow2_get64(file.bytes + 3 * 512) & QCOW2_OFFSET;

	put64(table + 60 * 8, cluster * 512);
	memset(disk + 60 * 512, 2, 512);
	file_put(&file, disk + 60 * 512, cluster * 512, 512);
	set_dirty();
}

/* A block that is made where none counts needs another one. */
static void blocks_are_counted_themselves(void **state)
{
	struct qcow2_layout layout;

	begin_full();
	put_uncounted(130);
	is_repaired();
	parse(&layout);
	assert_int_equal(qcow2_get64(file.bytes + layout.reftable.offset + 16), 64 * 512);
	assert_int_equal(qcow2_get64(file.bytes + layout.reftable.offset + 8), 65 * 512);
	free_files();
}

/* Nor is one made where a table names data that only is in the memory of who has died. */
static void blocks_spare_what_memory_names(void **state)
{
	static __u8 ours[512] = "ours";
	struct qcow2_layout layout;
	struct qcow2_cluster cluster;
	__u64 bitmap;

	begin_full();
	put_uncounted(130);
	put64(QCOW2_HEADER_INCOMPATIBLE, 0);
	put64(80, QCOW2_COMPAT_LAZY_REFCOUNTS);
	open_image();
	assert_int_equal(qcow2_image_write(&image, ours, 61 * 512, sizeof(ours)), 0);
	qcow2_parse_entry(&image.layout, qcow2_table_entry(&image.tables, &image.tables.tables[0], 61,
							   &bitmap), 0, 0, &cluster);
	assert_int_equal(cluster.offset, 65 * 512);
	qcow2_image_drop(&image);

	parse(&layout);
	assert_true(layout.incompatible & QCOW2_INCOMPAT_DIRTY);
	assert_int_equal(qcow2_image_open(&image, &file.blk, NULL, NULL, &layout, &memory, false, &why), 0);
	assert_int_equal(image.refs.table[2], 131 * 512);
	memcpy(disk + 61 * 512, ours, sizeof(ours));
	assert_int_equal(qcow2_image_read(&image, now, 0, DISK), 0);
	assert_memory_equal(disk, now, DISK);
	close_image();
	check(&file, true);
	free_files();
}

/* A block at the end of the file is there before the table says so. */
static void blocks_are_there_when_they_are_named(void **state)
{
	unsigned int i;

	file_seeded();
	for (i = 0; i < 20; i++) {
		begin_full();
		put_uncounted(64);
		crash_everywhere();
	}
}

/* It is not opened, and nothing is written. */
static void refused(const char *what)
{
	struct qcow2_layout layout;
	struct file before;

	set_dirty();
	file_copy(&before, &file);
	parse(&layout);
	assert_int_equal(qcow2_memory_alloc(&memory, &layout, TABLES), 0);
	assert_int_equal(qcow2_image_open(&image, &file.blk, shape.data_file ? &data_file.blk : NULL,
					  NULL, &layout, &memory, false, &why), -EINVAL);
	qcow2_memory_free(&memory);
	if (!strstr(why.text, what) || !strstr(why.text, "qemu-img check -r all"))
		fail_msg("'%s' is not in '%s'", what, why.text);
	assert_int_equal(file.size, before.size);
	assert_memory_equal(file.bytes, before.bytes, file.size);
	file_free(&before);
	free_files();
}

static __u64 huge(struct qcow2_blk *blk)
{
	return (QCOW2_MAX_REPAIRED + 1ULL) << 12;
}

static void what_is_worse_is_refused(void **state)
{
	static const struct shape plain = { 3, 12, 4 };
	__u64 l1, l2, size = 4096;

	file_seeded();
#define BEGIN() do {								\
		begin(&plain, false);						\
		l1 = qcow2_get64(file.bytes + 40);				\
		l2 = qcow2_get64(file.bytes + l1) & QCOW2_OFFSET;		\
	} while (0)
	BEGIN();
	put64(l2 + 8, l2);
	refused("data would lie in the L2 table at cluster");
	BEGIN();
	put64(l2 + 8, l1);
	refused("what lies in one place overlaps, at cluster 3");
	BEGIN();
	put64(l2 + 8, size);
	refused("overlaps, at cluster 1");
	BEGIN();
	put64(l2 + 8, 1ULL << 40);
	refused("the file ends before cluster 268435456");
	BEGIN();
	put64(l2 + 8, 2);
	refused("an entry cannot be true, of the L2 table at cluster");
	begin(&plain, true);
	put64(snapshot, 4096 + 1);
	refused("an L1 table cannot have the entry 4097");
	begin(&plain, true);
	put64(snapshot, 4096);
	refused("overlaps, at cluster 1");
	/* a table of 64 entries, for 64 clusters each */
	begin(&(struct shape){ 3, 9, 6 }, false);
	file_put(&file, "", 512 * 64 * 64 + 512, 1);
	l2 = qcow2_get64(file.bytes + qcow2_get64(file.bytes + 40)) & QCOW2_OFFSET;
	put64(qcow2_get64(file.bytes + 48) + 8, 0);
	put32(56, 1);
	put64(l2, 512 * 64 * 64);
	refused("its refcount table is too small for cluster 4096");
	/* a count of one bit */
	begin(&(struct shape){ 3, 12, 0 }, false);
	l2 = qcow2_get64(file.bytes + qcow2_get64(file.bytes + 40)) & QCOW2_OFFSET;
	assert_int_equal(shape.refcount_order, 0);
	put64(l2, file.size - file.size % size - size);
	put64(l2 + 8, file.size - file.size % size - size);
	refused("too much refers to cluster");
	BEGIN();
	file.blk.size = huge;
	refused("too large to be mended here");
}

/* A file of holes, in which there may be as many tables as can be named. */
static void tables_without_end_are_not_read(void **state)
{
	static const struct shape large = { 3, 21, 4 };
	__u64 size = 1ULL << 21, nr = QCOW2_MAX_REPAIRED_BYTES / size, i, table, at;

	/* L1 table, refcount table */
	for (at = 40; at <= QCOW2_HEADER_REFTABLE; at += 8) {
		make(&large);
		snapshot = 0;
		file.blk.size = huge;
		put32(QCOW2_HEADER_L1_ENTRIES, nr + 1);
		table = qcow2_get64(file.bytes + at);
		/* the first refcount block is there */
		for (i = 1; i <= nr; i++)
			put64(table + i * 8, (100 + i) * size);
		refused("too large to be mended here");
	}
}

/* What the first read would call corrupt: a data file has each cluster at its own place. */
static void place_that_is_anothers_is_refused(void **state)
{
	static const struct shape shapes[] = {
		{ 3, 9, 5, .data_file = true },
		{ 3, 12, 4, .data_file = true, .raw = true },
		{ 3, 14, 4, .data_file = true, .subclusters = true },
	};
	__u64 size, reach, l1, at, entry;
	unsigned int i;

	for (i = 0; i < 9; i++) {
		make(&shapes[i % 3]);
		snapshot = 0;
		open_image();
		memset(disk, 1, DISK);
		assert_int_equal(qcow2_image_write(&image, disk, 0, DISK), 0);
		close_image();
		size = 1ULL << shape.cluster_bits;
		reach = 2 * shape.cluster_bits - (shape.subclusters ? 4 : 3);
		/* one of the last table's */
		l1 = (DISK - 1) >> reach;
		at = (qcow2_get64(file.bytes + 3 * size + l1 * 8) & QCOW2_OFFSET) +
		     (shape.subclusters ? 16 : 8);
		entry = QCOW2_COPIED | ((l1 << reach) + size);
		assert_int_equal(qcow2_get64(file.bytes + at), entry);
		if (i / 3 == 0) {
			put64(at, entry + size);
			refused("an entry names another's place in its data file, of the L2 table at cluster");
		} else if (i / 3 == 1) {
			put64(at, entry - size);
			refused("an entry names another's place in its data file, of the L2 table at cluster");
		} else {
			put64(at, QCOW2_COMPRESSED | 4 * size);
			refused("an entry cannot be true, of the L2 table at cluster");
		}
	}
}

/* No counts are written but at the end, and the file says so meanwhile. */
static void lazy_image_is_dirty_while_it_changes(void **state)
{
	static const struct shape lazy = { 3, 12, 4, .lazy = true };
	struct file before;
	unsigned int i;

	file_seeded();
	begin(&lazy, false);
	assert_int_equal(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE), 0);
	file_copy(&before, &file);
	open_image();
	assert_int_equal(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE), 0);
	file.log = &log;
	for (i = 0; i < 10; i++) {
		assert_int_equal(qcow2_image_write(&image, disk, 0, DISK), 0);
		assert_int_equal(qcow2_image_zero(&image, 0, DISK, true), 0);
		assert_int_equal(qcow2_image_flush(&image), 0);
	}
	/* the header, alone */
	assert_int_equal(log.entries[0].pos, 0);
	assert_int_equal(log.entries[0].bytes, 512);
	assert_int_equal(log.entries[1].bytes, 0);
	for (i = 0; i < log.nr; i++)
		assert_true(!log.entries[i].bytes || log.entries[i].pos / 4096 != 2);
	assert_int_equal(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE), QCOW2_INCOMPAT_DIRTY);
	assert_memory_equal(file.bytes + 2 * 4096, before.bytes + 2 * 4096, 4096);
	close_image();
	assert_int_equal(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE), 0);
	/* alone again, when all is there */
	assert_int_equal(log.entries[log.nr - 3].bytes, 0);
	assert_int_equal(log.entries[log.nr - 2].pos, 0);
	assert_int_equal(log.entries[log.nr - 1].bytes, 0);
	check(&file, true);
	file_forget(&log);
	file_free(&before);
	free_files();
}

/* It would be refused when it was not closed. */
static void image_that_is_too_large_is_not_lazy(void **state)
{
	static const struct shape shapes[] = {
		{ 3, 12, 4, .lazy = true },
		{ 3, 21, 4, .lazy = true },
		{ 3, 21, 4, .lazy = true },
	};
	__u64 most = QCOW2_MAX_REPAIRED_BYTES / 2 >> 21;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		make(&shapes[i]);
		snapshot = 0;
		if (i == 0)
			file.blk.size = huge;
		else
			put32(QCOW2_HEADER_L1_ENTRIES, most + (i == 1));
		open_image();
		assert_int_equal(qcow2_image_write(&image, disk, 0, 512), 0);
		assert_int_equal(!!(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE) &
				    QCOW2_INCOMPAT_DIRTY), i == 2);
		close_image();
		check(&file, true);
		free_files();
	}
}

/* One that becomes too large has its counts in the file by then, and is as any from then on. */
static void lazy_image_that_grows_ceases_to_be(void **state)
{
	static const struct shape lazy = { 3, 12, 4, .lazy = true };
	unsigned int i, clean = 0;
	struct file before, after;
	size_t nr;

	file_seeded();
	begin(&lazy, false);
	open_image();
	assert_int_equal(qcow2_image_write(&image, disk, 0, DISK), 0);
	assert_int_equal(qcow2_image_flush(&image), 0);
	assert_int_equal(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE), QCOW2_INCOMPAT_DIRTY);
	file_copy(&before, &file);
	file.log = &log;
	assert_int_equal(qcow2_image_zero(&image, 0, DISK / 2, true), 0);
	assert_int_equal(qcow2_guard_take(&image.guard, QCOW2_MAX_REPAIRED / 4 * 3, 1), 0);
	for (i = 0; i < 4; i++) {
		assert_int_equal(qcow2_image_write(&image, disk, i * DISK / 4, DISK / 4), 0);
		assert_int_equal(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE), 0);
		assert_int_equal(qcow2_image_zero(&image, i * DISK / 4, DISK / 8, true), 0);
		assert_int_equal(qcow2_image_flush(&image), 0);
	}
	for (nr = 0; nr <= log.nr; nr++) {
		for (i = 0; i < 20; i++) {
			file_crash(&after, &before, &file, &log, nr, false);
			if (!qcow2_get64(after.bytes + QCOW2_HEADER_INCOMPATIBLE)) {
				check(&after, false);
				clean++;
			}
			file_free(&after);
		}
	}
	assert_true(clean);
	close_image();
	check(&file, true);
	file_forget(&log);
	file_free(&before);
	free_files();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_are_corrected),
		cmocka_unit_test(crash_of_a_repair_can_be_repaired),
		cmocka_unit_test(blocks_are_counted_themselves),
		cmocka_unit_test(blocks_spare_what_memory_names),
		cmocka_unit_test(blocks_are_there_when_they_are_named),
		cmocka_unit_test(what_is_worse_is_refused),
		cmocka_unit_test(tables_without_end_are_not_read),
		cmocka_unit_test(place_that_is_anothers_is_refused),
		cmocka_unit_test(lazy_image_is_dirty_while_it_changes),
		cmocka_unit_test(image_that_is_too_large_is_not_lazy),
		cmocka_unit_test(lazy_image_that_grows_ceases_to_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
