// SPDX-License-Identifier: GPL-2.0
/* Where an I/O on a striped device goes: targets/stripe/stripe.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "targets/stripe/stripe.h"

#define CHUNK_SHIFT	12
#define CHUNK		(1ULL << CHUNK_SHIFT)

/* Byte by byte from the start of the device, as one would fill the backings. */
static void bytes_go_round_the_backings(void **state)
{
	unsigned int nr;

	for (nr = 2; nr <= STRIPE_MAX_BACKINGS; nr++) {
		const struct stripe_shape shape = { .nr = nr, .chunk_shift = CHUNK_SHIFT };
		__u64 pos, to, filled[STRIPE_MAX_BACKINGS] = {};
		unsigned int i, slot;

		for (pos = 0; pos < 3 * nr * CHUNK; pos += 512) {
			for (i = 0; i < nr; i++)
				assert_true(stripe_before(&shape, pos, i) == filled[i]);
			slot = stripe_find(&shape, pos, &to);
			assert_int_equal(slot, pos / CHUNK % nr);
			assert_true(to == filled[slot]);
			filled[slot] += 512;
		}
	}
}

static void bytes_end_with_the_chunk(void **state)
{
	const struct stripe_shape shape = { .nr = 3, .chunk_shift = CHUNK_SHIFT };

	assert_int_equal(stripe_bytes(&shape, 0, 1U << 30), CHUNK);
	assert_int_equal(stripe_bytes(&shape, CHUNK - 512, 1U << 20), 512);
	assert_int_equal(stripe_bytes(&shape, 5 * CHUNK + 512, 512), 512);
}

static void device_of_many_terabytes_has_its_places(void **state)
{
	const struct stripe_shape shape = { .nr = 7, .chunk_shift = 29 };
	__u64 pos = (1ULL << 60) + 4096, to;
	unsigned int slot = stripe_find(&shape, pos, &to);

	assert_int_equal(slot, (pos >> 29) % 7);
	assert_true(to == ((pos >> 29) / 7 << 29) + 4096);
	assert_true(stripe_before(&shape, pos, slot) == to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_round_the_backings),
		cmocka_unit_test(bytes_end_with_the_chunk),
		cmocka_unit_test(device_of_many_terabytes_has_its_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
