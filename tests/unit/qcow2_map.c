// SPDX-License-Identifier: GPL-2.0
/*
 * Where the program sends an I/O is where the engine would read or write it, or nowhere:
 * targets/qcow2/qcow2.h
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "targets/qcow2/format.h"
#include "targets/qcow2/qcow2.h"
#include "qcow2_file.h"

static struct qcow2_layout layout;
static struct qcow2_geometry geometry;

static void choose_shape(void)
{
	bool subclusters = file_random(2), data_file = file_random(3) == 0;

	layout = (struct qcow2_layout){
		.version	= subclusters || data_file || file_random(2) ? 3 : 2,
		.cluster_bits	= subclusters ? 14 + file_random(8) : 9 + file_random(13),
		.entry_bits	= subclusters ? 4 : 3,
		.incompatible	= (subclusters ? QCOW2_INCOMPAT_SUBCLUSTERS : 0) |
				  (data_file ? QCOW2_INCOMPAT_DATA_FILE : 0),
	};
	geometry = (struct qcow2_geometry){
		.cluster_bits	= layout.cluster_bits,
		.entry_words	= subclusters ? 2 : 1,
		.data_slot	= data_file ? QCOW2_DATA_SLOT : QCOW2_SLOT,
		.own_data	= data_file,
	};
}

static __u64 random_64(void)
{
	return (__u64)file_random(1U << 31) << 33 | (__u64)file_random(1U << 31) << 2 | file_random(4);
}

/* Mostly one that can be meant. */
static __u64 choose_entry(__u64 cluster)
{
	__u64 place = geometry.own_data && file_random(4) ? cluster : file_random(1000);
	__u64 entry = place << layout.cluster_bits;

	if (file_random(4))
		entry |= QCOW2_COPIED;
	switch (file_random(12)) {
	case 0:
		return 0;
	case 1:
		return random_64();
	case 2:
		return entry ^ 1ULL << file_random(64);
	case 3:
		return entry | QCOW2_ZERO;
	case 4:
		return QCOW2_CHANGING;
	}
	return entry;
}

static __u64 choose_bitmap(void)
{
	if (geometry.entry_words == 1)
		return 0;
	switch (file_random(4)) {
	case 0:
		return random_64();
	case 1:
		return 0xffffffff ^ 1ULL << file_random(64);
	case 2:
		return random_64() & 0xffffffff;
	}
	return 0xffffffff;
}

/* What is to come out. */
static __u64 place_of(__u64 end, __u64 entry, __u64 bitmap, __u64 pos, __u32 bytes, bool write)
{
	__u64 size = qcow2_cluster_size(&layout), in = pos & (size - 1), at;
	__u32 unit = geometry.entry_words == 2 ? size / QCOW2_SUBCLUSTERS : size;
	struct qcow2_cluster cluster;

	for (at = in; at < in + bytes; at += unit - at % unit) {
		qcow2_parse_entry(&layout, entry, bitmap, at / unit, &cluster);
		if (cluster.kind != QCOW2_KIND_DATA || (write && !cluster.copied) ||
		    cluster.offset + size > end || (geometry.own_data && cluster.offset != pos - in))
			return ~0ULL;
	}
	return cluster.offset + in;
}

static void program_goes_where_the_engine_goes(void **state)
{
	unsigned int i, found = 0;

	file_seeded();
	for (i = 0; i < 2000000; i++) {
		__u64 size, cluster, pos, end, entry, bitmap, is;
		__u32 from, bytes;
		bool write = file_random(2);

		if (i % 1000 == 0)
			choose_shape();
		size = qcow2_cluster_size(&layout);
		cluster = file_random(1000);
		from = file_random(size / 512) * 512;
		bytes = 512 + file_random((size - from) / 512) * 512;
		pos = cluster * size + from;
		end = file_random(2) ? 2000 * size : file_random(1000) * size;
		entry = choose_entry(cluster);
		bitmap = choose_bitmap();
		is = qcow2_map_place(&geometry, end, entry, bitmap, pos, bytes, write);
		if (is != place_of(end, entry, bitmap, pos, bytes, write))
			fail_msg("clusters of 2^%u, entry 0x%llx, bitmap 0x%llx, %u bytes at %u: 0x%llx",
				 layout.cluster_bits, entry, bitmap, bytes, from, is);
		found += is != ~0ULL;
	}
	assert_true(found > 100000 && found < 1900000);
}

static void entry_is_found_in_its_table(void **state)
{
	unsigned int i;

	file_seeded();
	for (i = 0; i < 1000000; i++) {
		__u64 pos;
		__u32 entries;

		if (i % 1000 == 0)
			choose_shape();
		pos = random_64() >> 3;
		entries = qcow2_l2_entries(&layout);
		assert_int_equal(qcow2_map_l1(&geometry, pos), (__u32)(pos >> qcow2_l2_reach_bits(&layout)));
		assert_int_equal(qcow2_map_word(&geometry, pos),
				 (pos >> layout.cluster_bits) % entries * geometry.entry_words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(program_goes_where_the_engine_goes),
		cmocka_unit_test(entry_is_found_in_its_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
