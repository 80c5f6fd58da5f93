// SPDX-License-Identifier: GPL-2.0
/* Sizes and file parts as people write them: lib/parse.c */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "ublk_bpf.h"

#define NR(array)	(sizeof(array) / sizeof((array)[0]))

static void sizes_have_suffixes_of_1024(void **state)
{
	static const struct { const char *text; __u64 bytes; } good[] = {
		{ "0", 0 }, { "1", 1 }, { "512", 512 }, { "007", 7 },
		{ "1k", 1ULL << 10 }, { "1K", 1ULL << 10 }, { "3m", 3ULL << 20 },
		{ "3M", 3ULL << 20 }, { "2g", 2ULL << 30 }, { "2G", 2ULL << 30 },
		{ "5t", 5ULL << 40 }, { "5T", 5ULL << 40 },
		{ "9223372036854775807", 0x7fffffffffffffffULL },
		{ "8388607T", 8388607ULL << 40 },
	};
	__u64 bytes;
	size_t i;

	for (i = 0; i < NR(good); i++) {
		bytes = 42;
		assert_int_equal(ublk_bpf_parse_size(good[i].text, &bytes), 0);
		assert_true(bytes == good[i].bytes);
	}
}

static void sizes_that_are_none_are_einval(void **state)
{
	static const char *const bad[] = {
		"", " ", "k", "-1", "+1", " 1", "1 ", "1kk", "1kB", "1.5k", "0x10", "1,", "1b", "G1",
	};
	__u64 bytes = 42;
	size_t i;

	for (i = 0; i < NR(bad); i++)
		assert_int_equal(ublk_bpf_parse_size(bad[i], &bytes), -EINVAL);
	assert_int_equal(bytes, 42);
}

static void sizes_above_63_bits_are_erange(void **state)
{
	static const char *const bad[] = {
		"9223372036854775808", "18446744073709551616", "99999999999999999999999",
		"8388608T", "9007199254740992k", "8589934592G",
	};
	__u64 bytes = 42;
	size_t i;

	for (i = 0; i < NR(bad); i++)
		assert_int_equal(ublk_bpf_parse_size(bad[i], &bytes), -ERANGE);
	assert_int_equal(bytes, 42);
}

static void times_have_units(void **state)
{
	static const struct { const char *text; __u64 ns; } good[] = {
		{ "0s", 0 }, { "1ns", 1 }, { "20us", 20000 }, { "3ms", 3000000 },
		{ "20s", 20000000000ULL }, { "9223372036854775807ns", 0x7fffffffffffffffULL },
	};
	static const char *const bad[] = { "", "1", "ms", "1 ms", "1.5s", "-1s", "1m", "1sec", "1s " };
	static const char *const large[] = { "9223372036854775808ns", "9223372037s" };
	__u64 ns = 42;
	size_t i;

	for (i = 0; i < NR(bad); i++)
		assert_int_equal(ublk_bpf_parse_time(bad[i], &ns), -EINVAL);
	for (i = 0; i < NR(large); i++)
		assert_int_equal(ublk_bpf_parse_time(large[i], &ns), -ERANGE);
	assert_int_equal(ns, 42);
	for (i = 0; i < NR(good); i++) {
		assert_int_equal(ublk_bpf_parse_time(good[i].text, &ns), 0);
		assert_true(ns == good[i].ns);
	}
}

static void shares_are_parts_of_2_to_the_32(void **state)
{
	static const struct { const char *text; __u64 share; } good[] = {
		{ "0%", 0 }, { "100%", 1ULL << 32 }, { "50%", 1ULL << 31 },
		{ "12.5%", 1ULL << 29 }, { "0.1%", 4294967 }, { "100.0%", 1ULL << 32 },
		{ "0.000000001%", 0 }, { "0.00000003%", 1 },
	};
	static const char *const bad[] = { "", "1", "%", "1.%", ".5%", "-1%", "1 %", "1%%", "1e2%" };
	static const char *const large[] = { "101%", "100.1%", "0.0000000001%", "99999999999999999999%" };
	__u64 share = 42;
	size_t i;

	for (i = 0; i < NR(bad); i++)
		assert_int_equal(ublk_bpf_parse_share(bad[i], &share), -EINVAL);
	for (i = 0; i < NR(large); i++)
		assert_int_equal(ublk_bpf_parse_share(large[i], &share), -ERANGE);
	assert_int_equal(share, 42);
	for (i = 0; i < NR(good); i++) {
		assert_int_equal(ublk_bpf_parse_share(good[i].text, &share), 0);
		assert_true(share == good[i].share);
	}
}

static void files_are_whole_or_parts(void **state)
{
	static const struct { const char *text, *path; __u64 start, bytes; } good[] = {
		{ "/img", "/img", 0, 0 },
		{ "/img,start=1M", "/img", 1 << 20, 0 },
		{ "/img,length=4k", "/img", 0, 4096 },
		{ "/img,start=512,length=1G", "/img", 512, 1 << 30 },
		{ "/img,length=1G,start=512", "/img", 512, 1 << 30 },
		{ "/img,start=0", "/img", 0, 0 },
	};
	struct ublk_bpf_file file;
	size_t i;

	for (i = 0; i < NR(good); i++) {
		assert_int_equal(ublk_bpf_parse_file(good[i].text, &file), 0);
		assert_string_equal(file.path, good[i].path);
		assert_true(file.start == good[i].start);
		assert_true(file.bytes == good[i].bytes);
		free(file.path);
	}
}

static void names_can_have_commas_and_colons(void **state)
{
	static const struct { const char *text, *path; __u64 start; } good[] = {
		{ "/a,b:c", "/a,b:c", 0 },
		{ "/a,b,start=1k", "/a,b", 1024 },
		{ "/start=1", "/start=1", 0 },
		{ "/a,start=1,b", "/a,start=1,b", 0 },
		{ "/a,b=c", "/a,b=c", 0 },
		{ ",,start=2", ",", 2 },
	};
	struct ublk_bpf_file file;
	size_t i;

	for (i = 0; i < NR(good); i++) {
		assert_int_equal(ublk_bpf_parse_file(good[i].text, &file), 0);
		assert_string_equal(file.path, good[i].path);
		assert_true(file.start == good[i].start);
		free(file.path);
	}
}

static void parts_that_are_none_are_einval(void **state)
{
	static const char *const bad[] = {
		"", ",start=1", ",length=1", "/a,start=", "/a,start=x", "/a,start=-1",
		"/a,length=", "/a,start=1,start=2", "/a,length=1,length=1",
		"/a,start=1,length=1,start=1",
	};
	struct ublk_bpf_file file;
	size_t i;

	for (i = 0; i < NR(bad); i++)
		assert_int_equal(ublk_bpf_parse_file(bad[i], &file), -EINVAL);
}

static void parts_of_no_length_are_edom(void **state)
{
	static const char *const bad[] = {
		"/a,length=0", "/a,length=0k", "/a,start=1,length=0", "/a,length=0,start=1",
	};
	struct ublk_bpf_file file;
	size_t i;

	for (i = 0; i < NR(bad); i++)
		assert_int_equal(ublk_bpf_parse_file(bad[i], &file), -EDOM);
}

static void parts_past_63_bits_are_erange(void **state)
{
	struct ublk_bpf_file file;

	assert_int_equal(ublk_bpf_parse_file("/a,start=9223372036854775808", &file), -ERANGE);
	assert_int_equal(ublk_bpf_parse_file("/a,start=9223372036854775807,length=1", &file),
			 -ERANGE);
	assert_int_equal(ublk_bpf_parse_file("/a,start=9223372036854775806,length=1", &file), 0);
	free(file.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_have_suffixes_of_1024),
		cmocka_unit_test(sizes_that_are_none_are_einval),
		cmocka_unit_test(sizes_above_63_bits_are_erange),
		cmocka_unit_test(times_have_units),
		cmocka_unit_test(shares_are_parts_of_2_to_the_32),
		cmocka_unit_test(files_are_whole_or_parts),
		cmocka_unit_test(names_can_have_commas_and_colons),
		cmocka_unit_test(parts_that_are_none_are_einval),
		cmocka_unit_test(parts_of_no_length_are_edom),
		cmocka_unit_test(parts_past_63_bits_are_erange),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
