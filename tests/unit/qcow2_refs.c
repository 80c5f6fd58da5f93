// SPDX-License-Identifier: GPL-2.0
/* Refcounts against a list of them, and what a crash leaves: targets/qcow2/refs.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>
#include "targets/qcow2/file.h"
#include "targets/qcow2/refs.h"
#include "qcow2_file.h"

#define MANY	40000

static struct file file;
static struct qcow2_layout layout;
static struct qcow2_guard guard;
static struct qcow2_refs refs;
static struct qcow2_why why;
static __u64 model[MANY];
static struct file_log log;

static int open_refs(struct file *in)
{
	int ret = qcow2_guard_open(&guard, &in->blk, &layout, false);

	return ret ?: qcow2_refs_open(&refs, &in->blk, &layout, &guard, &why);
}

static void close_refs(void)
{
	qcow2_refs_close(&refs);
	qcow2_guard_close(&guard);
}

/*
 * A header, a refcount table of one cluster and its first block: of clusters of 2^@bits bytes
 * with counts of 2^@order bits.
 */
static void make(unsigned int bits, unsigned int order)
{
	__u64 size = 1ULL << bits, entry = htobe64(2 * size);
	__u8 *block = calloc(1, size);
	unsigned int i;

	file_init(&file);
	layout = (struct qcow2_layout){
		.version	= 3,
		.cluster_bits	= bits,
		.entry_bits	= 3,
		.refcount_order	= order,
		.reftable	= { .offset = size, .bytes = size },
	};
	file_put(&file, block, 0, size);
	file_put(&file, &entry, size, sizeof(entry));
	for (i = 0; i < 3; i++)
		qcow2_put_refcount(&layout, block, i, 1);
	file_put(&file, block, 2 * size, size);
	free(block);
	memset(model, 0, sizeof(model));
	assert_int_equal(open_refs(&file), 0);
}

/* The layout of what is in the header now. */
static void find_table(const struct file *in)
{
	__u64 offset = qcow2_get64(in->bytes + QCOW2_HEADER_REFTABLE);

	layout.reftable.offset = 1ULL << layout.cluster_bits;
	layout.reftable.bytes = 1ULL << layout.cluster_bits;
	if (offset) {
		layout.reftable.offset = offset;
		layout.reftable.bytes = (__u64)qcow2_get32(in->bytes + QCOW2_HEADER_REFTABLE + 8) <<
					layout.cluster_bits;
	}
}

static __u64 count_of(__u64 cluster)
{
	__u64 count = ~0ULL;

	assert_int_equal(qcow2_refs_get(&refs, cluster, &count), 0);
	return count;
}

static __u64 take(__u64 nr)
{
	__u64 first, i;

	assert_int_equal(qcow2_refs_alloc(&refs, nr, &first), 0);
	assert_true(first + nr <= MANY);
	for (i = 0; i < nr; i++) {
		assert_int_equal(model[first + i], 0);
		assert_int_equal(count_of(first + i), 1);
		model[first + i] = 1;
	}
	return first;
}

/* Clusters that are counted and not in the model: table and blocks. */
static void all_is_counted(void)
{
	__u64 size = qcow2_cluster_size(&layout), i, own = 1 + layout.reftable.bytes / size;
	__u64 counted = 0;

	for (i = 0; i < refs.entries; i++)
		own += !!refs.table[i];
	for (i = 0; i < MANY; i++) {
		if (model[i])
			assert_int_equal(count_of(i), model[i]);
		else
			counted += count_of(i);
	}
	assert_int_equal(counted, own);
	for (i = 0; i < layout.reftable.bytes / size; i++)
		assert_int_equal(count_of(layout.reftable.offset / size + i), 1);
	for (i = 0; i < refs.entries; i++)
		if (refs.table[i])
			assert_int_equal(count_of(refs.table[i] / size), 1);
}

static void reopen(void)
{
	assert_int_equal(qcow2_refs_write(&refs), 0);
	close_refs();
	find_table(&file);
	assert_int_equal(open_refs(&file), 0);
}

static void what_is_free_is_taken_again(void **state)
{
	make(16, 4);
	assert_int_equal(take(1), 3);
	assert_int_equal(take(4), 4);
	assert_int_equal(take(1), 8);
	assert_int_equal(qcow2_refs_put(&refs, 5, 2), 0);
	model[5] = model[6] = 0;
	assert_int_equal(take(3), 9);
	assert_int_equal(take(1), 5);
	assert_int_equal(take(2), 12);
	assert_int_equal(take(1), 6);
	all_is_counted();
	reopen();
	all_is_counted();
	close_refs();
	file_free(&file);
}

static void what_nobody_has_is_not_given_back(void **state)
{
	make(16, 4);
	take(2);
	assert_int_equal(qcow2_refs_put(&refs, 4, 2), -EIO);
	assert_int_equal(qcow2_refs_put(&refs, 1ULL << 40, 1), -EIO);
	close_refs();
	file_free(&file);
}

static void table_that_cannot_be_is_refused(void **state)
{
	__u64 entry = htobe64(512);

	make(16, 4);
	close_refs();
	file_put(&file, &entry, (1 << 16) + 80, sizeof(entry));
	assert_int_equal(open_refs(&file), -EINVAL);
	close_refs();
	assert_non_null(strstr(why.text, "entry 10 "));
	file_free(&file);
}

/* Takes and gives back at random, with blocks and tables that have to be made. */
static void churn(unsigned int bits, unsigned int order, unsigned int rounds)
{
	make(bits, order);
	while (rounds--) {
		__u64 at = file_random(MANY / 2);

		switch (file_random(4)) {
		case 0:
			take(1 + file_random(9));
			break;
		case 1:
			if (!model[at])
				break;
			assert_int_equal(qcow2_refs_put(&refs, at, 1), 0);
			model[at] = 0;
			break;
		default:
			take(1);
		}
	}
	all_is_counted();
	reopen();
	all_is_counted();
	close_refs();
	file_free(&file);
}

static void counts_are_those_of_a_list(void **state)
{
	unsigned int order;

	file_seeded();
	churn(9, 6, 6000);	/* the table moves several times */
	for (order = 0; order <= 6; order++)
		churn(9, order, 3000);
	churn(12, 4, 3000);
	churn(16, 4, 3000);
}

/*
 * After a crash behind the first @nr entries of the log: what was taken and flushed before is
 * counted, so are the blocks, and the counts can be used.
 */
static void crash(const struct file *before, size_t nr, const __u64 *flushed, unsigned int nr_flushed)
{
	struct qcow2_layout is = layout;
	struct qcow2_guard guarded = guard;
	struct qcow2_refs now = refs;
	struct file crashed;
	__u64 cluster;
	__u32 i;

	file_crash(&crashed, before, &file, &log, nr, file_random(2));
	find_table(&crashed);
	assert_int_equal(open_refs(&crashed), 0);
	for (i = 0; i < nr_flushed; i++)
		assert_int_equal(count_of(flushed[i]), 1);
	for (i = 0; i < refs.entries; i++)
		if (refs.table[i])
			assert_int_equal(count_of(refs.table[i] >> layout.cluster_bits), 1);
	assert_int_equal(qcow2_refs_alloc(&refs, 3, &cluster), 0);
	close_refs();
	file_free(&crashed);
	guard = guarded;
	refs = now;
	layout = is;
}

static void crash_leaves_what_was_flushed(void **state)
{
	unsigned int states = 0, moved = 0, order, i, nr_flushed;
	__u64 flushed[64], table;
	struct file before;
	size_t from, nr;

	file_seeded();
	for (order = 3; order <= 6; order++) {
		make(9, order);
		file_copy(&before, &file);
		file.log = &log;
		for (nr_flushed = 0; nr_flushed < 64; nr_flushed++) {
			from = log.nr;
			table = layout.reftable.offset;
			for (i = 0; i < 40; i++)
				flushed[nr_flushed] = take(1 + file_random(3));
			assert_int_equal(qcow2_refs_write(&refs), 0);
			assert_int_equal(file.blk.flush(&file.blk), 0);
			if (table != layout.reftable.offset) {
				moved++;
				for (nr = from; nr <= log.nr; nr++)
					for (i = 0; i < 8; i++, states++)
						crash(&before, nr, flushed, nr_flushed);
			} else {
				for (nr = from; nr <= log.nr; nr += 1 + file_random(4), states++)
					crash(&before, nr, flushed, nr_flushed);
			}
		}
		close_refs();
		file_free(&before);
		file_free(&file);
		file_forget(&log);
	}
	printf("%u states\n", states);
	assert_true(states > 500 && moved);
}

/*
 * An error of the file is told, and nothing is used twice after it. After one of a flush, or
 * of the write that moves the table, there are errors only.
 */
static void errors_of_the_file_are_told(void **state)
{
	unsigned int after, i, gone_on = 0, given_up = 0;
	__u64 first, other;

	for (after = 1; after < 60; after++) {
		int ret = 0;

		make(9, 6);
		file.fail_after = after;
		file.fails_once = true;
		for (i = 0; !ret && i < 5000; i++)
			ret = qcow2_refs_alloc(&refs, 1, &first);
		assert_int_equal(ret, -EIO);
		assert_true(!file.flush_failed || refs.failed);
		for (i = 0; i < 100; i++) {
			ret = qcow2_refs_alloc(&refs, 1, &other);
			assert_int_equal(ret, refs.failed);
			assert_true(ret || other != first);
			first = other;
		}
		assert_int_equal(qcow2_refs_write(&refs), refs.failed);
		refs.failed ? given_up++ : gone_on++;
		close_refs();
		file_free(&file);
	}
	assert_true(gone_on && given_up);
}

/* A table that is near the limit grows up to it, and no further. */
static void table_grows_as_far_as_one_can(void **state)
{
	__u32 entries = QCOW2_MAX_REFTABLE_BYTES / sizeof(__u64) / 4 * 3;
	struct qcow2_file holes;
	__u64 cluster;
	int fd;

	make(9, 6);
	close_refs();
	fd = memfd_create("image", 0);
	assert_int_equal(pwrite(fd, file.bytes, file.size, 0), file.size);
	assert_int_equal(pwrite(fd, file.bytes + 512, 512, 1 << 20), 512);
	assert_int_equal(ftruncate(fd, 1 << 24), 0);
	assert_int_equal(qcow2_file_init(&holes, fd, 512, false), 0);
	layout.reftable = (struct qcow2_extent){ .offset = 1 << 20, .bytes = entries * sizeof(__u64) };
	assert_int_equal(qcow2_guard_open(&guard, &holes.blk, &layout, false), 0);
	assert_int_equal(qcow2_refs_open(&refs, &holes.blk, &layout, &guard, &why), 0);
	refs.next = (__u64)entries * qcow2_refblock_entries(&layout);	/* all before it is in use */
	assert_int_equal(qcow2_refs_alloc(&refs, 1, &cluster), 0);
	assert_true(cluster >= (__u64)entries * qcow2_refblock_entries(&layout));
	assert_int_equal(count_of(cluster), 1);
	assert_int_equal(layout.reftable.bytes, QCOW2_MAX_REFTABLE_BYTES);
	refs.next = (__u64)refs.entries * qcow2_refblock_entries(&layout);
	assert_int_equal(qcow2_refs_alloc(&refs, 1, &cluster), -ENOSPC);
	close_refs();
	qcow2_file_free(&holes);
	close(fd);
	file_free(&file);
}

/* The header's cluster is nobody's, whatever the counts say. */
static void first_cluster_is_the_headers(void **state)
{
	__u64 zero = 0;

	make(16, 4);
	file_put(&file, &zero, 2 << 16, 2);	/* its count */
	reopen();
	assert_int_equal(take(1), 3);
	close_refs();
	file_put(&file, &zero, 1 << 16, sizeof(zero));	/* there is no block */
	assert_int_equal(open_refs(&file), -EINVAL);
	close_refs();
	assert_non_null(strstr(why.text, "entry 0 "));
	file_free(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_free_is_taken_again),
		cmocka_unit_test(what_nobody_has_is_not_given_back),
		cmocka_unit_test(table_that_cannot_be_is_refused),
		cmocka_unit_test(counts_are_those_of_a_list),
		cmocka_unit_test(crash_leaves_what_was_flushed),
		cmocka_unit_test(errors_of_the_file_are_told),
		cmocka_unit_test(table_grows_as_far_as_one_can),
		cmocka_unit_test(first_cluster_is_the_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
