// SPDX-License-Identifier: GPL-2.0
/*
 * An image that is open allocates nothing to do I/O: it may be that the machine waits for it to
 * have memory. But for a refcount table that grows. And what it has. targets/qcow2/image.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"

#define ROOM	(32U << 20)	/* of a file: the tests' own allocate nothing either */

/* gcc has them without a header */
size_t __sanitizer_get_current_allocated_bytes(void);
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *at, size_t nr),
					      void (*on_free)(const volatile void *at));

static size_t allocated;

static void count_memory(const volatile void *at, size_t nr)
{
	allocated += nr;
}

static void no_count(const volatile void *at)
{
}

static void no_discard(struct qcow2_blk *blk, __u64 pos, __u64 bytes)
{
}

static void make_room(struct file *of)
{
	__u64 size = of->size;

	file_put(of, "", ROOM - 1, 1);
	of->size = size;
	of->blk.discard = no_discard;
}

static void operate(void)
{
	static __u8 bytes[100 * 512];
	unsigned int what = file_random(8), nr = 1 + file_random(100);
	__u64 pos = file_random(SECTORS - 100) * 512ULL;

	if (what < 4)
		assert_int_equal(qcow2_image_write(&image, bytes, pos, nr * 512), 0);
	else if (what < 6)
		assert_int_equal(qcow2_image_zero(&image, pos, nr * 512, what == 4), 0);
	else if (what == 6)
		assert_int_equal(qcow2_image_flush(&image), 0);
	else
		assert_int_equal(qcow2_image_read(&image, bytes, pos, nr * 512), 0);
}

static void io_allocates_nothing(void **state)
{
	static const struct shape shapes[] = {
		{ 2, 9, 4 },
		{ 3, 9, 6, .backing = true },
		{ 3, 12, 0, .lazy = true },
		{ 3, 14, 4, .subclusters = true },
		{ 3, 9, 4, .data_file = true },
		{ 3, 9, 4, .data_file = true, .raw = true },
		{ 3, 16, 4 },
	};
	unsigned int i, j;

	file_seeded();
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		make(&shapes[i]);
		make_room(&file);
		make_room(&data_file);
		open_image();
		allocated = 0;
		for (j = 0; j < 1000; j++)
			operate();
		assert_int_equal(allocated, 0);
		close_image();
		free_files();
	}
}

/* Nobody counts what nobody writes: of files that lie over each other there may be many. */
static void read_only_image_keeps_no_refcounts(void **state)
{
	__u64 table = 1U << 20;
	size_t before, bytes[2];
	unsigned int i;

	make(&(struct shape){ 3, 16, 4 });
	put64(table, qcow2_get64(file.bytes + (1U << 16)));
	file_put(&file, "", table + QCOW2_MAX_REFTABLE_BYTES - 1, 1);
	put64(QCOW2_HEADER_REFTABLE, table);
	put32(QCOW2_HEADER_REFTABLE + 8, QCOW2_MAX_REFTABLE_BYTES >> 16);
	for (i = 0; i < 2; i++) {
		before = __sanitizer_get_current_allocated_bytes();
		open_files(&file, NULL, i);
		bytes[i] = __sanitizer_get_current_allocated_bytes() - before;
		close_image();
	}
	assert_true(bytes[0] > QCOW2_MAX_REFTABLE_BYTES);
	assert_true(bytes[1] < QCOW2_MAX_REFTABLE_BYTES / 2);
	free_files();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(io_allocates_nothing),
		cmocka_unit_test(read_only_image_keeps_no_refcounts),
	};

	__sanitizer_install_malloc_and_free_hooks(count_memory, no_count);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
