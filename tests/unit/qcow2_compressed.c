// SPDX-License-Identifier: GPL-2.0
/*
 * Compressed clusters: what was compressed comes back, what makes no cluster is an error, and
 * nothing is allocated for any of that. targets/qcow2/compressed.c
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>
#include "targets/qcow2/compressed.h"

#define MOST		(2U << 20)	/* of a cluster */
#define ROOM		(2 * MOST)

/* gcc has it without a header */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *at, size_t nr),
					      void (*on_free)(const volatile void *at));

static __u8 cluster[MOST], is[MOST], bytes[ROOM];
static struct qcow2_decompressor *decompressors[2];
static size_t allocated;

static void count_memory(const volatile void *at, size_t nr)
{
	allocated += nr;
}

static void no_count(const volatile void *at)
{
}

static int decompress(enum qcow2_compression compression, size_t size, size_t nr)
{
	__u8 *exact = malloc(nr ?: 1);	/* the sanitizer watches its end */
	int ret;

	memcpy(exact, bytes, nr);
	allocated = 0;
	ret = qcow2_decompress(decompressors[compression], is, size, exact, nr);
	assert_int_equal(allocated, 0);
	free(exact);
	return ret;
}

static void comes_back(enum qcow2_compression compression, size_t size, size_t nr)
{
	memset(is, 0x5a, sizeof(is));
	assert_int_equal(decompress(compression, size, nr), 0);
	assert_memory_equal(is, cluster, size);
}

/* It can be compressed to about a half. */
static void fill(size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		cluster[i] = rand() % 16;
}

static size_t deflate_to(__u8 *to, size_t size)
{
	z_stream stream = {
		.next_in	= cluster,
		.avail_in	= size,
		.next_out	= to,
		.avail_out	= bytes + ROOM - to,
	};

	assert_int_equal(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9,
				      Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	deflateEnd(&stream);
	return stream.total_out;
}

/* A frame of @size bytes of the cluster from @from on; @window: of its window, as a power of two. */
static size_t zstd_to(__u8 *to, size_t from, size_t size, int level, int window)
{
	ZSTD_inBuffer in = { .src = cluster + from, .size = size };
	ZSTD_outBuffer out = { .dst = to, .size = bytes + ROOM - to };
	ZSTD_CCtx *context = ZSTD_createCCtx();

	assert_non_null(context);
	ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
	if (window) {
		/* it does not know that there is no more, and does not make it smaller */
		ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window);
		ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
		assert_false(ZSTD_isError(ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush)));
	}
	assert_int_equal(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0);
	ZSTD_freeCCtx(context);
	return out.pos;
}

/* Each test begins with new ones. */
static int make_decompressors(void **state)
{
	allocated = 0;
	decompressors[QCOW2_ZLIB] = qcow2_decompressor_new(QCOW2_ZLIB);
	assert_non_null(decompressors[QCOW2_ZLIB]);
	assert_in_range(allocated, 1, 64 << 10);
	allocated = 0;
	decompressors[QCOW2_ZSTD] = qcow2_decompressor_new(QCOW2_ZSTD);
	assert_non_null(decompressors[QCOW2_ZSTD]);
	assert_in_range(allocated, 1, 256 << 10);
	return 0;
}

static int free_decompressors(void **state)
{
	qcow2_decompressor_free(decompressors[QCOW2_ZLIB]);
	qcow2_decompressor_free(decompressors[QCOW2_ZSTD]);
	return 0;
}

static void clusters_come_back(void **state)
{
	static const int levels[] = { 1, 3, 19 };
	size_t size, nr;
	unsigned int i;

	for (size = 512; size <= MOST; size *= 4) {
		fill(size);
		nr = deflate_to(bytes, size);
		memset(bytes + nr, 0xa5, 511);
		comes_back(QCOW2_ZLIB, size, nr);
		comes_back(QCOW2_ZLIB, size, nr + 511);
		for (i = 0; i < 3; i++) {
			nr = zstd_to(bytes, 0, size, levels[i], 0);
			memset(bytes + nr, 0xa5, 511);
			comes_back(QCOW2_ZSTD, size, nr);
			comes_back(QCOW2_ZSTD, size, nr + 511);
		}
	}
}

static void window_takes_no_memory(void **state)
{
	static const int windows[] = { 10, 17, 21, 27 };
	static const __u8 huge[] = { 0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 3, 0x10, 0, 'A' };
	unsigned int i;

	for (i = 0; i < 4; i++) {
		fill(MOST);
		comes_back(QCOW2_ZSTD, MOST, zstd_to(bytes, 0, MOST, 3, windows[i]));
		/* the window's descriptor, of a frame that does not say how long it is */
		assert_int_equal(bytes[4] & 0xe3, 0);
		assert_int_equal(10 + bytes[5] / 8, windows[i]);
	}
	/* 2 GiB */
	memset(cluster, 'A', 512);
	memcpy(bytes, huge, sizeof(huge));
	comes_back(QCOW2_ZSTD, 512, sizeof(huge));
}

static void frames_make_a_cluster_together(void **state)
{
	static const __u8 skipped[] = { 0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3 };
	size_t first, nr;

	fill(65536);
	first = zstd_to(bytes, 0, 20000, 3, 0);
	memcpy(bytes + first, skipped, sizeof(skipped));
	nr = first + sizeof(skipped);
	assert_int_equal(decompress(QCOW2_ZSTD, 65536, nr), -EIO);
	comes_back(QCOW2_ZSTD, 20000, nr);
	nr += zstd_to(bytes + nr, 20000, 65536 - 20000, 3, 0);
	comes_back(QCOW2_ZSTD, 65536, nr);
	assert_int_equal(decompress(QCOW2_ZSTD, 65536, nr - 1), -EIO);
	assert_int_equal(decompress(QCOW2_ZSTD, 65536 - 512, nr), -EIO);
	assert_int_equal(decompress(QCOW2_ZSTD, 65536 + 512, nr), -EIO);
	/* not what it was to be */
	bytes[first - 1] ^= 1;
	assert_int_equal(decompress(QCOW2_ZSTD, 65536, nr), -EIO);
}

/* The format of before, in which this is a cluster of 512 times the same byte. */
static void what_is_no_frame_makes_none(void **state)
{
	static const __u8 old[] = { 0x27, 0xb5, 0x2f, 0xfd, 0, 0x38, 0x80, 2, 0, 'A', 0xc0, 0, 0 };
	size_t nr;

	memcpy(bytes, old, sizeof(old));
	for (nr = 0; nr <= sizeof(old); nr++)
		assert_int_equal(decompress(QCOW2_ZSTD, 512, nr), -EIO);
	memset(bytes, 0, 1024);
	assert_int_equal(decompress(QCOW2_ZSTD, 512, 1024), -EIO);
}

static void stream_need_not_end_with_the_cluster(void **state)
{
	size_t nr;

	fill(65536);
	nr = deflate_to(bytes, 65536);
	comes_back(QCOW2_ZLIB, 65536 - 512, nr);
	assert_int_equal(decompress(QCOW2_ZLIB, 65536 + 512, nr), -EIO);
	assert_int_equal(decompress(QCOW2_ZLIB, 65536, nr / 2), -EIO);
	assert_int_equal(decompress(QCOW2_ZLIB, 65536, 0), -EIO);
	memset(bytes, 0xff, 512);
	assert_int_equal(decompress(QCOW2_ZLIB, 65536, nr), -EIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_decompressors, free_decompressors)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(clusters_come_back),
		TEST(window_takes_no_memory),
		TEST(frames_make_a_cluster_together),
		TEST(what_is_no_frame_makes_none),
		TEST(stream_need_not_end_with_the_cluster),
	};

	__sanitizer_install_malloc_and_free_hooks(count_memory, no_count);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
