// SPDX-License-Identifier: GPL-2.0
/* The encoding of what a callback returns: include/ublk_bpf_return.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "ublk_bpf_return.h"

static void disposition_is_in_the_top_four_bits(void **state)
{
	assert_int_equal(ublk_bpf_return_val(UBLK_BPF_IO_QUEUED, 0), 0);
	assert_true(ublk_bpf_return_val(UBLK_BPF_IO_REDIRECT, 0) == 0x1000000000000000UL);
	assert_true(ublk_bpf_return_val(UBLK_BPF_IO_CONTINUE, 512) == 0x2000000000000200UL);
}

static void both_parts_come_back(void **state)
{
	static const unsigned int bytes[] = { 0, 1, 512, 0x7fffffff, 0x80000000, 0xffffffff };
	unsigned int i, d;

	for (d = UBLK_BPF_IO_QUEUED; d <= UBLK_BPF_IO_CONTINUE; d++)
		for (i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
			unsigned long ret = ublk_bpf_return_val(d, bytes[i]);

			assert_int_equal(ublk_bpf_get_disposition(ret), d);
			assert_int_equal(ublk_bpf_get_return_bytes(ret), bytes[i]);
		}
}

static void bytes_are_read_as_60_bits(void **state)
{
	assert_true(ublk_bpf_get_return_bytes(0x2000000100000200UL) == 0x100000200UL);
	assert_true(ublk_bpf_get_return_bytes(~0UL) == 0xfffffffffffffffUL);
	assert_int_equal(ublk_bpf_get_disposition(~0UL), 15);
}

static void unknown_dispositions_stay_what_they_are(void **state)
{
	unsigned int d;

	for (d = 3; d < 16; d++)
		assert_int_equal(ublk_bpf_get_disposition((unsigned long)d << 60 | 512), d);
}

static void values_are_those_of_the_proposal(void **state)
{
	assert_int_equal(UBLK_BPF_IO_QUEUED, 0);
	assert_int_equal(UBLK_BPF_IO_REDIRECT, 1);
	assert_int_equal(UBLK_BPF_IO_CONTINUE, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disposition_is_in_the_top_four_bits),
		cmocka_unit_test(both_parts_come_back),
		cmocka_unit_test(bytes_are_read_as_60_bits),
		cmocka_unit_test(unknown_dispositions_stay_what_they_are),
		cmocka_unit_test(values_are_those_of_the_proposal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
