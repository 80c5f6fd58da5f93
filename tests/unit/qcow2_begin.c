// SPDX-License-Identifier: GPL-2.0
/*
 * What is written before the first change of an image, or never: features that are not known,
 * bitmaps, read-only images. targets/qcow2/image.c, bitmaps.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"

#define SIZE		4096ULL
#define UNKNOWN_BIT	(1ULL << 40)

static const struct shape plain = { 3, 12, 4 };
static __u8 bytes[SIZE];
static struct file_log log;

static void begin(void)
{
	make(&plain);
	snapshot = 0;
	open_image();
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), 0);
	close_image();
}

static __u64 autoclear(const struct file *in)
{
	return qcow2_get64(in->bytes + QCOW2_HEADER_AUTOCLEAR);
}

static bool is_in_use(const struct file *in, __u64 directory, unsigned int nr)
{
	return in->bytes[directory + nr * 512 + 15] & 1;
}

/* Nothing of the file is other than @before. */
static void nothing_was_written(struct file *before)
{
	assert_int_equal(file.size, before->size);
	assert_memory_equal(file.bytes, before->bytes, file.size);
	file_free(before);
}

static void nothing_is_written_before_a_change(void **state)
{
	const __u32 flags[] = { 2 };
	struct file before;

	begin();
	put64(QCOW2_HEADER_AUTOCLEAR, UNKNOWN_BIT);
	add_bitmaps(flags, 1);
	file_copy(&before, &file);
	open_image();
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), 0);
	assert_int_equal(qcow2_image_flush(&image), 0);
	close_image();
	nothing_was_written(&before);
	free_files();
}

/* At each moment when anything else has changed, what was to be written first is there. */
static void what_comes_first_is_there_first(void **state)
{
	const __u32 flags[] = { 2, 0, 3, 6 };
	struct file before, after;
	unsigned int i, changed = 0;
	__u64 directory;
	size_t nr;

	begin();
	put64(QCOW2_HEADER_AUTOCLEAR, UNKNOWN_BIT);
	directory = add_bitmaps(flags, 4);
	file_copy(&before, &file);
	open_image();
	file.log = &log;
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), 0);
	assert_int_equal(qcow2_image_write(&image, bytes, DISK / 2, sizeof(bytes)), 0);
	close_image();
	file.log = NULL;
	for (nr = 0; nr <= log.nr; nr++) {
		for (i = 0; i < 20; i++) {
			bool first;

			file_crash(&after, &before, &file, &log, nr, false);
			first = autoclear(&after) == QCOW2_AUTOCLEAR_BITMAPS &&
				is_in_use(&after, directory, 0) && is_in_use(&after, directory, 3);
			assert_false(is_in_use(&after, directory, 1));
			/* what the rest is as if nothing had been written */
			memcpy(after.bytes, before.bytes, SIZE);
			memcpy(after.bytes + directory, before.bytes + directory, SIZE);
			if (after.size != before.size || memcmp(after.bytes, before.bytes, after.size)) {
				assert_true(first);
				changed++;
			}
			file_free(&after);
		}
	}
	assert_true(changed);
	assert_int_equal(autoclear(&file), QCOW2_AUTOCLEAR_BITMAPS);
	assert_true(is_in_use(&file, directory, 0) && is_in_use(&file, directory, 3));
	file_forget(&log);
	file_free(&before);
	free_files();
}

/* An error before the first change is told, and it is tried again. */
static void beginning_is_tried_again(void **state)
{
	const __u32 flags[] = { 2 };
	__u64 directory;
	unsigned int i;

	for (i = 1; i <= 2; i++) {
		begin();
		put64(QCOW2_HEADER_AUTOCLEAR, UNKNOWN_BIT);
		directory = add_bitmaps(flags, 1);
		open_image();
		file.fail_after = i;
		file.fails_once = true;
		assert_int_equal(qcow2_image_zero(&image, 0, SIZE, true), -EIO);
		assert_int_equal(qcow2_image_zero(&image, 0, SIZE, true), 0);
		close_image();
		assert_int_equal(autoclear(&file), QCOW2_AUTOCLEAR_BITMAPS);
		assert_true(is_in_use(&file, directory, 0));
		free_files();
	}
}

static void directory_that_cannot_be_is_refused(void **state)
{
	static const struct {
		unsigned int at;
		__u64 value;
	} wrong[] = {
		{ 0, 0 },				/* table: in the header */
		{ 0, SIZE + 512 },			/* between clusters */
		{ 0, 1ULL << 50 },			/* behind the end */
		{ 8, 0 },				/* no entries, no flags */
		{ 8, 0x7fffffff00000000 },		/* too many */
		{ 8, 1ULL << 32 | 8 },			/* a flag that is not known */
		{ 16, 2ULL << 56 | 488ULL << 32 },	/* a type */
		{ 16, 1ULL << 56 | 64ULL << 48 | 488ULL << 32 },	/* a granularity */
		{ 16, 1ULL << 56 },			/* no name, so that it is too short */
		{ 16, 1ULL << 56 | 489ULL << 32 },	/* too long */
		{ 16, 1ULL << 56 | 488ULL << 32 | 0xffffffff },	/* extra data */
	};
	const __u32 flags[] = { 0, 0 };
	struct qcow2_layout layout;
	struct file before;
	unsigned int i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		begin();
		put64(add_bitmaps(flags, 2) + 512 + wrong[i].at, wrong[i].value);
		file_copy(&before, &file);
		assert_int_equal(qcow2_parse_header(file.bytes, SIZE, &layout, &why), 0);
		assert_int_equal(qcow2_image_open(&image, &file.blk, NULL, NULL, &layout, &memory,
						  false, &why), -EINVAL);
		assert_non_null(strstr(why.text, " of its bitmap directory cannot be true; it can be opened read-only"));
		open_files(&file, NULL, true);
		close_image();
		nothing_was_written(&before);
		free_files();
	}
}

static __u64 large(struct qcow2_blk *blk)
{
	return 1ULL << 40;
}

/* It is not opened to be written, and why says @what. */
static void refused(const char *what)
{
	struct qcow2_layout layout;

	assert_int_equal(qcow2_parse_header(file.bytes, SIZE, &layout, &why), 0);
	assert_int_equal(qcow2_memory_alloc(&memory, &layout, TABLES), 0);
	assert_int_equal(qcow2_image_open(&image, &file.blk, NULL, NULL, &layout, &memory, false,
					  &why), -EINVAL);
	free_memory();
	if (!strstr(why.text, what))
		fail_msg("'%s' is not in '%s'", what, why.text);
	open_files(&file, NULL, true);
	close_image();
	free_files();
}

static void tables_of_bitmaps_have_a_place_of_their_own(void **state)
{
	const __u32 flags[] = { 0, 0 };
	__u64 directory;

	begin();
	put64(add_bitmaps(flags, 2), 3 * SIZE);
	refused("the table of a bitmap and its L1 table overlap at cluster 3");
	begin();
	directory = add_bitmaps(flags, 2);
	put64(directory, directory + 2 * SIZE);
	refused("the table of a bitmap and another overlap at cluster");
	/* each of them could be */
	begin();
	directory = add_bitmaps(flags, 2);
	put32(directory + 8, 5 << 20);
	put32(directory + 512 + 8, 5 << 20);
	file.blk.size = large;
	refused("the tables of its bitmaps are too large together; it can be opened read-only");
	/* and no data is there */
	begin();
	directory = add_bitmaps(flags, 2);
	put64(qcow2_get64(file.bytes + 3 * SIZE) & QCOW2_OFFSET, (directory + SIZE) | QCOW2_COPIED);
	open_image();
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), -EIO);
	assert_non_null(strstr(qcow2_image_corrupt(&image), "which is the table of a bitmap"));
	close_image();
	free_files();
}

static void read_only_image_is_never_written(void **state)
{
	struct file before;

	begin();
	put64(QCOW2_HEADER_AUTOCLEAR, UNKNOWN_BIT);
	put64(QCOW2_HEADER_INCOMPATIBLE, QCOW2_INCOMPAT_DIRTY);
	file_copy(&before, &file);
	open_files(&file, NULL, true);
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), 0);
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), -EROFS);
	assert_int_equal(qcow2_image_zero(&image, 0, SIZE, false), -EROFS);
	assert_int_equal(qcow2_image_begin(&image), -EROFS);
	assert_int_equal(qcow2_image_flush(&image), 0);
	close_image();
	/* not even what is found to be wrong */
	put64(4 * SIZE, SIZE);
	file_free(&before);
	file_copy(&before, &file);
	open_files(&file, NULL, true);
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), -EIO);
	assert_non_null(qcow2_image_corrupt(&image));
	close_image();
	nothing_was_written(&before);
	free_files();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_written_before_a_change),
		cmocka_unit_test(what_comes_first_is_there_first),
		cmocka_unit_test(beginning_is_tried_again),
		cmocka_unit_test(directory_that_cannot_be_is_refused),
		cmocka_unit_test(tables_of_bitmaps_have_a_place_of_their_own),
		cmocka_unit_test(read_only_image_is_never_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
