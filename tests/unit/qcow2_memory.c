// SPDX-License-Identifier: GPL-2.0
/*
 * An image that is open allocates nothing to do I/O: it may be that the machine waits for it to
 * have memory. But for a refcount table that grows. targets/qcow2/image.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"

#define ROOM	(32U << 20)	/* of a file: the tests' own allocate nothing either */

/* gcc has it without a header */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(io_allocates_nothing),
	};

	__sanitizer_install_malloc_and_free_hooks(count_memory, no_count);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
