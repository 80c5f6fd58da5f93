// SPDX-License-Identifier: GPL-2.0
/*
 * Of what a write copies only those parts are read that it does not write itself: an error there
 * is none of it. targets/qcow2/io.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"

/* Bytes that cannot be read, by any means, and those that were, of the file with what is copied. */
static __u64 bad_from, bad_to;
static size_t bytes_read;

static int read_good(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes)
{
	if (pos < bad_to && pos + bytes > bad_from)
		return -EIO;
	bytes_read += bytes;
	return file_read(blk, to, pos, bytes);
}

static void fill(__u8 *bytes, size_t nr, __u8 value)
{
	for (size_t i = 0; i < nr; i++)
		bytes[i] = value + i / 512 + i % 251;
}

static __u8 is[DISK], wanted[DISK], bytes[DISK];

/* Write a part of the disk; what is there cannot be read. Then @nr bytes were, and all is right. */
static void writes(__u64 from, __u64 to, size_t nr)
{
	fill(bytes, to - from, 77);
	bad_from = from;
	bad_to = to;
	bytes_read = 0;
	assert_int_equal(qcow2_image_write(&image, bytes, from, to - from), 0);
	assert_int_equal(bytes_read, nr);
	bad_to = 0;
	memcpy(wanted + from, bytes, to - from);
	assert_int_equal(qcow2_image_read(&image, is, 0, DISK), 0);
	assert_memory_equal(is, wanted, DISK);
}

/* An image over a file that is read by read_good(). */
static void begin(const struct shape *of)
{
	make(of);
	snapshot = 0;
	fill(wanted, DISK, 1);
	file_put(&backing_file, wanted, 0, DISK);
	backing_file.blk.read = read_good;
	open_image();
}

static void end(void)
{
	close_image();
	check(&file, true);
	free_files();
}

static void what_is_written_is_not_read_before(void **state)
{
	static const struct shape shapes[] = {
		{ 2, 12, 4, .backing = true },
		{ 3, 12, 4, .backing = true },
		{ 3, 12, 4, .data_file = true, .backing = true },
		{ 3, 16, 4, .backing = true },
	};
	unsigned int i;

	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		__u64 size = 1ULL << shapes[i].cluster_bits;

		begin(&shapes[i]);
		writes(0, size, 0);
		/* the start of one, its end, and what is neither */
		writes(size, size + 512, size - 512);
		writes(3 * size - 512, 3 * size, size - 512);
		writes(3 * size + 1024, 3 * size + 2048, size - 1024);
		/* of several, the first and the last in part */
		writes(5 * size - 1024, 7 * size + 512, size - 1024 + size - 512);
		end();
	}
}

/* 1 KiB each. */
static void subclusters_are_copied_alone(void **state)
{
	__u64 size = 1ULL << 15, unit = size / QCOW2_SUBCLUSTERS;

	begin(&(struct shape){ 3, 15, 4, .subclusters = true, .backing = true });
	writes(0, unit, 0);
	writes(unit, unit + 512, 512);
	writes(4 * unit + 512, 6 * unit + 512, 1024);
	writes(size - 512, 2 * size + 512, 1024);
	/* what is there stays, where it is */
	writes(3 * unit, 4 * unit + 512, 0);
	end();
}

/* A cluster that is a snapshot's, too: the same of the image itself. */
static void cluster_of_a_snapshot_is_copied_in_part(void **state)
{
	__u64 size = 4096, place, bitmap;
	struct qcow2_table *table;

	make(&(struct shape){ 3, 12, 4 });
	snapshot = 0;
	open_image();
	fill(wanted, DISK, 1);
	assert_int_equal(qcow2_image_write(&image, wanted, 0, DISK), 0);
	close_image();
	take_snapshot();
	open_image();
	assert_int_equal(qcow2_tables_get_own(&image.tables, 0, &table), 0);
	place = qcow2_table_entry(&image.tables, table, 3, &bitmap) & QCOW2_OFFSET;
	file.blk.read = read_good;
	bad_from = place + 512;
	bad_to = place + 2048;
	fill(bytes, 1536, 77);
	memcpy(wanted + 3 * size + 512, bytes, 1536);
	/* the counts are in memory, as is the table */
	assert_int_equal(qcow2_image_write(&image, bytes, 3 * size + 512, 1536), 0);
	place = qcow2_table_entry(&image.tables, table, 4, &bitmap) & QCOW2_OFFSET;
	bad_from = place;
	bad_to = place + size;
	fill(wanted + 4 * size, size, 78);
	assert_int_equal(qcow2_image_write(&image, wanted + 4 * size, 4 * size, size), 0);
	bad_to = 0;
	assert_int_equal(qcow2_image_read(&image, is, 0, DISK), 0);
	assert_memory_equal(is, wanted, DISK);
	end();
}

static unsigned int writes_of_data;

/* Of a file that takes whole pages only, as they are. */
static int write_pages(struct qcow2_blk *blk, const void *from, __u64 pos, size_t nr)
{
	assert_int_equal(((uintptr_t)from | pos | nr) % 4096, 0);
	writes_of_data++;
	return file_write(blk, from, pos, nr);
}

/* Where zeroes are data, they are written at once as far as a cluster goes, and not copied. */
static void zeroes_are_written_in_large_pieces(void **state)
{
	make(&(struct shape){ 3, 16, 4, .data_file = true, .raw = true });
	snapshot = 0;
	open_image();
	fill(wanted, DISK, 1);
	assert_int_equal(qcow2_image_write(&image, wanted, 0, DISK), 0);
	data_file.blk.write = write_pages;
	assert_int_equal(qcow2_image_zero(&image, 4096, DISK - 4096, false), 0);
	assert_int_equal(writes_of_data, DISK >> 16);
	memset(wanted + 4096, 0, DISK - 4096);
	assert_int_equal(qcow2_image_read(&image, is, 0, DISK), 0);
	assert_memory_equal(is, wanted, DISK);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_not_read_before),
		cmocka_unit_test(subclusters_are_copied_alone),
		cmocka_unit_test(cluster_of_a_snapshot_is_copied_in_part),
		cmocka_unit_test(zeroes_are_written_in_large_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
