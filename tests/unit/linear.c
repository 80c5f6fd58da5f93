// SPDX-License-Identifier: GPL-2.0
/* Where an I/O on a linear device goes: targets/linear/linear.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "targets/linear/linear.h"

/* @nr parts, part i of (i + 1) blocks of 512 bytes. */
static void make_parts(struct linear_part parts[LINEAR_MAX_PARTS], unsigned int nr)
{
	__u64 end = 0;
	unsigned int i;

	for (i = 0; i < LINEAR_MAX_PARTS; i++) {
		end += (i + 1) * 512;
		parts[i].end = i < nr ? end : ~0ULL;
	}
}

static void each_byte_lies_in_its_part(void **state)
{
	struct linear_part parts[LINEAR_MAX_PARTS];
	unsigned int nr, want;
	__u64 pos;

	for (nr = 1; nr <= LINEAR_MAX_PARTS; nr++) {
		make_parts(parts, nr);
		for (pos = 0; pos < parts[nr - 1].end; pos += 256) {
			for (want = 0; parts[want].end <= pos; want++)
				;
			assert_int_equal(linear_find(parts, pos), want);
		}
	}
}

static void last_byte_of_all_has_a_part(void **state)
{
	struct linear_part parts[LINEAR_MAX_PARTS];

	make_parts(parts, LINEAR_MAX_PARTS);
	parts[LINEAR_MAX_PARTS - 1].end = 1ULL << 62;
	assert_int_equal(linear_find(parts, (1ULL << 62) - 1), LINEAR_MAX_PARTS - 1);
}

static void bytes_end_with_the_part(void **state)
{
	const struct linear_part part = { .end = 1ULL << 40 };

	assert_int_equal(linear_bytes(&part, (1ULL << 40) - 512, 4096), 512);
	assert_int_equal(linear_bytes(&part, (1ULL << 40) - 4096, 4096), 4096);
	assert_int_equal(linear_bytes(&part, 0, 1U << 30), 1U << 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_lies_in_its_part),
		cmocka_unit_test(last_byte_of_all_has_a_part),
		cmocka_unit_test(bytes_end_with_the_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
