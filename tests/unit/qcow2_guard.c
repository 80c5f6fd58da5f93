// SPDX-License-Identifier: GPL-2.0
/*
 * Clusters that are metadata against a list of them, and images that are damaged: what cannot
 * be true is refused, or found before anything relies on it. targets/qcow2/guard.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"

#define MANY	3000

static void set_is_that_of_a_list(void **state)
{
	static enum qcow2_metadata list[MANY];
	struct qcow2_layout layout = { .version = 2, .cluster_bits = 9 };
	struct qcow2_guard guard;
	unsigned int i, at, known = 1;

	file_seeded();
	memset(list, 0, sizeof(list));
	file_init(&file);
	file_put(&file, "", MANY * 512 - 1, 1);
	assert_int_equal(qcow2_guard_open(&guard, &file.blk, &layout, true), 0);
	list[0] = QCOW2_META_HEADER;
	for (i = 0; i < 200000; i++) {
		at = file_random(MANY);
		assert_int_equal(qcow2_guard_find(&guard, at), list[at]);
		/* it grows, and shrinks again */
		if (!list[at] && file_random(200000) > i) {
			list[at] = 1 + file_random(QCOW2_META_BITMAP_TABLE);
			assert_int_equal(qcow2_guard_add(&guard, list[at], at, 1, &why), 0);
			known++;
		} else if (list[at] && file_random(4) == 0) {
			qcow2_guard_remove(&guard, at, 1);
			list[at] = QCOW2_META_NONE;
			known--;
		} else if (list[at]) {
			assert_int_equal(qcow2_guard_add(&guard, QCOW2_META_L2, at, 1, &why), -EINVAL);
		}
		assert_int_equal(guard.nr, known);
	}
	assert_int_equal(qcow2_guard_add(&guard, QCOW2_META_L2, MANY, 1, &why), -EINVAL);
	assert_non_null(strstr(why.text, "past the end"));
	qcow2_guard_close(&guard);
	file_free(&file);
}

/* Clusters of a new image of version 3, of 4 KiB each. */
#define SIZE		4096ULL
#define REFTABLE	1
#define REFBLOCK	2
#define L1		3
#define L2		4	/* of the first write */
#define DATA		5

static const struct shape plain = { 3, 12, 4 };

static __u64 entry_at(__u64 cluster, unsigned int nr)
{
	return cluster * SIZE + nr * 8;
}

/* An image in which something was written, closed. */
static void begin(const struct shape *of)
{
	static __u8 bytes[4 * SIZE];

	make(of);
	snapshot = 0;
	open_image();
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), 0);
	close_image();
	check(&file, true);
}

/* It is not opened; why says @what. */
static void refused(const char *what)
{
	struct qcow2_layout layout;
	struct file before;

	file_copy(&before, &file);
	if (!qcow2_parse_header(file.bytes, SIZE, &layout, &why)) {
		assert_int_equal(qcow2_memory_alloc(&memory, &layout, TABLES), 0);
		assert_int_equal(qcow2_image_open(&image, &file.blk, NULL, NULL, &layout, &memory,
						  false, &why), -EINVAL);
		qcow2_memory_free(&memory);
	}
	if (!strstr(why.text, what))
		fail_msg("'%s' is not in '%s'", what, why.text);
	/* not even that it is corrupt */
	assert_int_equal(file.size, before.size);
	assert_memory_equal(file.bytes, before.bytes, file.size);
	file_free(&before);
	free_files();
}

static void metadata_in_one_place_is_refused(void **state)
{
	begin(&plain);
	put64(40, REFTABLE * SIZE);
	refused("its L1 table and its refcount table overlap at cluster 1; qemu-img check -r all");
	begin(&plain);
	put64(entry_at(REFTABLE, 0), REFTABLE * SIZE);
	refused("a refcount block and its refcount table overlap at cluster 1");
	begin(&plain);
	put64(entry_at(REFTABLE, 1), REFBLOCK * SIZE);
	refused("a refcount block and another overlap at cluster 2");
	begin(&plain);
	put64(entry_at(L1, 0), REFBLOCK * SIZE);
	refused("an L2 table and a refcount block overlap at cluster 2");
	begin(&plain);
	take_snapshot();
	put64(qcow2_get64(file.bytes + 64), L2 * SIZE);
	refused("a snapshot's L1 table and an L2 table overlap at cluster 4");
	begin(&plain);
	take_snapshot();
	put64(64, L1 * SIZE);
	refused("its snapshot table");
	/* of 512 bytes, so that there is more than one table */
	begin(&(struct shape){ 3, 9, 4 });
	put64(40 + 8, qcow2_get64(file.bytes + 48));
	put64(qcow2_get64(file.bytes + 40) + 8, qcow2_get64(file.bytes + qcow2_get64(file.bytes + 40)));
	refused("an L2 table and another overlap at cluster");
}

static void metadata_behind_the_end_is_refused(void **state)
{
	begin(&plain);
	put64(40, file.size);
	refused("its L1 table at cluster 9 goes past the end of the file");
	begin(&plain);
	put64(entry_at(REFTABLE, 7), 1ULL << 40);
	refused("a refcount block at cluster 268435456 goes past the end of the file");
	begin(&plain);
	put64(entry_at(L1, 0), 1ULL << 50);
	refused("an L2 table at cluster 274877906944 goes past the end of the file");
	begin(&plain);
	put64(48, file.size - SIZE);
	put32(56, 2);
	refused("its refcount table");
	begin(&plain);
	put32(60, 1);
	put64(64, 1ULL << 50);
	refused("its snapshot table at cluster 274877906944 goes past the end of the file");
}

static void snapshot_table_that_cannot_be_is_refused(void **state)
{
	__u64 table;
	unsigned int i;

	begin(&plain);
	take_snapshot();
	put32(qcow2_get64(file.bytes + 64) + 8, QCOW2_MAX_L1_BYTES / 8 + 1);
	refused("entry 0 of its snapshot table cannot be true; qemu-img check -r all");
	begin(&plain);
	take_snapshot();
	put64(qcow2_get64(file.bytes + 64), 8);
	refused("entry 0 of its snapshot table cannot be true");
	begin(&plain);
	take_snapshot();
	put32(qcow2_get64(file.bytes + 64) + 36, ~0U);	/* extra data */
	refused("entry 0 of its snapshot table cannot be true");
	/* each of them could be */
	begin(&plain);
	take_snapshot();
	put32(60, 40);
	table = (file.size + SIZE - 1) / SIZE * SIZE;
	put64(64, table);
	for (i = 0; i < 40; i++) {
		put64(table + i * 40, (1 + i) * QCOW2_MAX_L1_BYTES);
		put32(table + i * 40 + 8, QCOW2_MAX_L1_BYTES / 8);
		put64(table + i * 40 + 32, 0);
	}
	refused("the L1 tables of its snapshots are too large together");
}

/* Where a table is lost that a snapshot has too, it is not ours any more. */
static void tables_are_known_wherever_they_are(void **state)
{
	static __u8 bytes[SIZE];
	__u64 now;

	begin(&plain);
	take_snapshot();
	open_image();
	assert_int_equal(qcow2_guard_find(&image.guard, L2), QCOW2_META_L2);
	assert_int_equal(qcow2_guard_find(&image.guard, snapshot / SIZE), QCOW2_META_SNAPSHOT_L1);
	assert_int_equal(qcow2_guard_find(&image.guard, image.layout.snapshots_offset / SIZE),
			 QCOW2_META_SNAPSHOTS);
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), 0);
	now = (image.tables.l1[0] & QCOW2_OFFSET) / SIZE;
	assert_int_not_equal(now, L2);
	assert_int_equal(qcow2_guard_find(&image.guard, L2), QCOW2_META_NONE);
	assert_int_equal(qcow2_guard_find(&image.guard, now), QCOW2_META_L2);
	close_image();
	check(&file, true);
	free_files();
}

/* The set is that of an image that is opened again, whatever was done to it. */
static void set_is_kept_up_to_date(void **state)
{
	static __u8 bytes[20 * 512];
	unsigned int i, j, moved = 0;
	struct qcow2_memory memory_was;
	struct qcow2_image was;
	__u64 table = 512, cluster;

	file_seeded();
	make(&(struct shape){ 3, 9, 6 });
	snapshot = 0;
	open_image();
	for (i = 0; i < 40; i++) {
		/* so that table and blocks have to be made */
		for (j = 0; j < 200; j++)
			assert_int_equal(qcow2_refs_alloc(&image.refs, 1, &cluster), 0);
		assert_int_equal(qcow2_image_write(&image, bytes, file_random(SECTORS - 20) * 512ULL,
						   sizeof(bytes)), 0);
		assert_int_equal(qcow2_image_flush(&image), 0);
		moved += image.layout.reftable.offset != table;
		table = image.layout.reftable.offset;
		was = image;
		memory_was = memory;
		open_image();
		assert_int_equal(image.guard.nr, was.guard.nr);
		for (cluster = 0; cluster < file.size / 512; cluster++)
			assert_int_equal(qcow2_guard_find(&image.guard, cluster),
					 qcow2_guard_find(&was.guard, cluster));
		forget_image();
		image = was;
		memory = memory_was;
	}
	assert_true(moved > 1);
	forget_image();
	free_files();
}

/* An image whose table has @entry for its second cluster is corrupt, and says @what. */
static void found(const struct shape *of, __u64 entry, __u64 bitmap, const char *what)
{
	static __u8 bytes[SIZE];
	struct file before;
	__u64 second;

	begin(of);
	second = (qcow2_get64(file.bytes + qcow2_get64(file.bytes + 40)) & QCOW2_OFFSET) +
		 (of->subclusters ? 16 : 8);
	put64(second, entry);
	if (of->subclusters)
		put64(second + 8, bitmap);
	file_copy(&before, &file);
	open_image();
	assert_null(qcow2_image_corrupt(&image));
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), -EIO);
	assert_int_equal(memory.index[0], 0);	/* no program sees it */
	assert_non_null(qcow2_image_corrupt(&image));
	if (!strstr(qcow2_image_corrupt(&image), what))
		fail_msg("'%s' is not in '%s'", what, qcow2_image_corrupt(&image));
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), -EIO);
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), -EIO);
	assert_int_equal(qcow2_image_write(&image, bytes, DISK - SIZE, sizeof(bytes)), -EIO);
	assert_int_equal(qcow2_image_zero(&image, 0, SIZE, true), -EIO);
	assert_int_equal(qcow2_image_flush(&image), -EIO);
	close_image();
	/* and nothing else is written */
	if (of->version == 3)
		assert_int_equal(qcow2_get64(file.bytes + QCOW2_HEADER_INCOMPATIBLE) ^
				 qcow2_get64(before.bytes + QCOW2_HEADER_INCOMPATIBLE),
				 QCOW2_INCOMPAT_CORRUPT);
	memcpy(file.bytes + QCOW2_HEADER_INCOMPATIBLE, before.bytes + QCOW2_HEADER_INCOMPATIBLE, 8);
	assert_int_equal(file.size, before.size);
	assert_memory_equal(file.bytes, before.bytes, file.size);
	file_free(&before);
	free_files();
}

static void entries_that_cannot_be_true_are_found(void **state)
{
	static const struct shape v2 = { 2, 12, 4 }, data = { 3, 12, 4, .data_file = true };
	static const struct shape parts = { 3, 14, 4, .subclusters = true };

	found(&plain, QCOW2_COPIED, 0, "entry 1 of its L2 table 0, 0x8000000000000000, cannot be true");
	found(&plain, REFTABLE * SIZE, 0, "names cluster 1, which is its refcount table");
	found(&plain, REFBLOCK * SIZE | QCOW2_COPIED, 0, "which is a refcount block");
	found(&plain, L1 * SIZE | QCOW2_ZERO, 0, "which is its L1 table");
	found(&v2, L2 * SIZE, 0, "which is an L2 table");
	found(&plain, 1000 * SIZE, 0, "names cluster 1000, which is behind the end of the file");
	/* compressed, in the last sector of a cluster and the next one's first */
	found(&plain, QCOW2_COMPRESSED | 1ULL << 58 | (9 * SIZE - 100), 0,
	      "names cluster 9, which is behind the end of the file");
	found(&plain, QCOW2_COMPRESSED | L1 * SIZE, 0, "which is its L1 table");
	found(&parts, 1 << 14 | QCOW2_COPIED, 1, "which is its refcount table");
	found(&parts, 5 << 14 | QCOW2_COPIED, 1ULL << 32 | 1, "cannot be true");
	found(&data, 4 * SIZE | QCOW2_COPIED, 0, "names 16384 in its data file, and can only be 4096");
}

/* The end of the file may be in a cluster, which is there then; and one that is new is. */
static void last_cluster_may_be_short(void **state)
{
	static __u8 bytes[SIZE];

	begin(&plain);
	assert_int_equal(file.size, 9 * SIZE);
	file.size -= SIZE - 512;
	open_image();
	assert_int_equal(qcow2_image_read(&image, bytes, 3 * SIZE, sizeof(bytes)), 0);
	close_image();
	free_files();
}

/* What other tables say is read, what was changed in memory too. */
static void what_is_good_can_be_read(void **state)
{
	static __u8 bytes[512], ours[512] = "ours";
	unsigned int i;
	__u64 l1;

	begin(&(struct shape){ 3, 9, 4 });
	/* a table for each sector of L1's reach; the last is spoilt */
	open_image();
	for (i = 0; i < SECTORS; i += 64)
		assert_int_equal(qcow2_image_write(&image, bytes, i * 512ULL, sizeof(bytes)), 0);
	close_image();
	l1 = qcow2_get64(file.bytes + 40);
	put64(qcow2_get64(file.bytes + l1 + (SECTORS / 64 - 1) * 8) & QCOW2_OFFSET, 512);
	open_image();
	assert_int_equal(qcow2_image_write(&image, ours, 0, sizeof(ours)), 0);
	assert_int_equal(qcow2_image_write(&image, ours, 512 * 40, sizeof(ours)), 0);
	assert_int_equal(qcow2_image_read(&image, bytes, DISK - 64 * 512, sizeof(bytes)), -EIO);
	for (i = 0; i < SECTORS - 64; i += 64)
		assert_int_equal(qcow2_image_read(&image, bytes, i * 512ULL, sizeof(bytes)), 0);
	assert_int_equal(qcow2_image_read(&image, bytes, 512 * 40, sizeof(bytes)), 0);
	assert_memory_equal(bytes, ours, sizeof(bytes));
	assert_int_equal(qcow2_image_close(&image), -EIO);
	free_memory();
	free_files();
}

/* Refcounts that say that metadata is free do not have it written over. */
static void metadata_is_never_free(void **state)
{
	static __u8 bytes[SIZE];
	struct file before;

	begin(&plain);
	memset(file.bytes + REFBLOCK * SIZE + 2 * L1, 0, 2);
	file_copy(&before, &file);
	open_image();
	assert_int_equal(qcow2_image_write(&image, bytes, DISK / 2, sizeof(bytes)), -EIO);
	assert_string_equal(qcow2_image_corrupt(&image),
			    "its refcounts say that cluster 3 is free, which is its L1 table; qemu-img check -r all may mend it");
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), -EIO);
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), 0);
	assert_int_equal(qcow2_image_close(&image), -EIO);
	free_memory();
	assert_int_equal(file.bytes[QCOW2_HEADER_INCOMPATIBLE + 7], QCOW2_INCOMPAT_CORRUPT);
	file.bytes[QCOW2_HEADER_INCOMPATIBLE + 7] = 0;
	assert_memory_equal(file.bytes, before.bytes, file.size);
	assert_int_equal(file.size, before.size);
	file_free(&before);
	free_files();
}

/* A block that would have to be made where metadata is. */
static void blocks_are_not_made_in_metadata(void **state)
{
	static __u8 bytes[SIZE];
	__u64 cluster, moved = 2048;	/* the first that the second block counts */

	begin(&plain);
	file_put(&file, "", (moved + 1) * SIZE - 1, 1);
	memcpy(file.bytes + moved * SIZE, file.bytes + L1 * SIZE, SIZE);
	put64(40, moved * SIZE);
	open_image();
	assert_int_equal(qcow2_refs_alloc(&image.refs, 2047, &cluster), -EIO);
	assert_non_null(strstr(qcow2_image_corrupt(&image), "cluster 2048 is free, which is its L1 table"));
	assert_int_equal(qcow2_image_write(&image, bytes, 0, sizeof(bytes)), -EIO);
	forget_image();
	free_files();
}

/* It is corrupt, since entry @nr of its first table is @entry, and nothing else was written. */
static void named(struct file *before, unsigned int nr, __u64 entry)
{
	char what[100];

	snprintf(what, sizeof(what), "entry %u of its L2 table 0, 0x%llx, names what its refcounts say is free; ",
		 nr, entry);
	if (!qcow2_image_corrupt(&image) || !strstr(qcow2_image_corrupt(&image), what))
		fail_msg("'%s' is not in '%s'", what, qcow2_image_corrupt(&image));
	forget_image();
	file.bytes[QCOW2_HEADER_INCOMPATIBLE + 7] = 0;
	assert_int_equal(file.size, before->size);
	assert_memory_equal(file.bytes, before->bytes, file.size);
	file_free(before);
	free_files();
}

/* What a table in memory names as data does not become a table, or what counts. */
static void data_does_not_become_metadata(void **state)
{
	static __u8 bytes[SIZE];
	__u64 cluster, table, entry, far = 2048;	/* the first that the second block counts */
	struct file before;
	unsigned int i;

	/* the second cluster of the disk, as it is or compressed, is not counted */
	for (i = 0; i < 2; i++) {
		begin(&(struct shape){ 3, 9, 4 });
		table = qcow2_get64(file.bytes + 3 * 512) & QCOW2_OFFSET;
		entry = qcow2_get64(file.bytes + table + 8);
		cluster = (entry & QCOW2_OFFSET) / 512;
		memset(file.bytes + 2 * 512 + 2 * cluster, 0, 2);
		if (i)
			entry = QCOW2_COMPRESSED | cluster * 512;
		put64(table + 8, entry);
		file_copy(&before, &file);
		open_image();
		assert_int_equal(qcow2_image_read(&image, bytes, 0, 512), 0);
		assert_int_equal(qcow2_image_write(&image, bytes, DISK / 2, 512), -EIO);
		named(&before, 1, entry);
	}

	begin(&plain);
	file_put(&file, "", (far + 1) * SIZE - 1, 1);
	put64(entry_at(L2, 7), far * SIZE);
	file_copy(&before, &file);
	open_image();
	assert_int_equal(qcow2_image_read(&image, bytes, 0, sizeof(bytes)), 0);
	assert_int_equal(qcow2_refs_alloc(&image.refs, 2047, &cluster), -EIO);
	named(&before, 7, far * SIZE);

	/* where a larger refcount table goes, and blocks before that: 4096 clusters are counted */
	begin(&(struct shape){ 3, 9, 6 });
	file_put(&file, "", 4100 * 512 - 1, 1);
	table = qcow2_get64(file.bytes + 3 * 512) & QCOW2_OFFSET;
	put64(table + 7 * 8, 4097 * 512);
	file_copy(&before, &file);
	open_image();
	assert_int_equal(qcow2_image_read(&image, bytes, 0, 512), 0);
	image.refs.next = 4096;
	assert_int_equal(qcow2_refs_alloc(&image.refs, 1, &cluster), -EIO);
	named(&before, 7, 4097 * 512);
}

/* Any bytes in metadata: no crash, no hang, and each answer is one that there can be. */
static void damage_is_survived(void **state)
{
	static const struct shape shapes[] = {
		{ 3, 9, 4 }, { 3, 12, 0 }, { 3, 14, 4, .subclusters = true },
		{ 3, 12, 4, .data_file = true },
	};
	static __u8 bytes[64 * 512];
	unsigned int i, j, opened = 0, corrupt = 0;
	struct qcow2_layout layout;
	int ret;

	file_seeded();
	for (i = 0; i < 4000; i++) {
		const struct shape *of = &shapes[i % 4];
		__u64 size = 1ULL << of->cluster_bits;

		begin(of);
		if (!of->data_file && of->refcount_order && file_random(2))
			take_snapshot();
		for (j = file_random(6); j < 6; j++) {
			static const __u64 values[] = {
				0, 1, 512, 4096, 3 << 14, 1ULL << 55, 1ULL << 62, 1ULL << 63, ~0ULL,
			};
			/* the image is small: most of it is metadata */
			__u64 at = file_random(3) ? file_random(file.size / 8) * 8 : 24 + file_random(10) * 8;

			put64(at, file_random(2) ? values[file_random(9)] : file_random(1 << 20) * 512ULL);
		}
		if (qcow2_parse_header(file.bytes, size, &layout, &why) || layout.l1.bytes > 1 << 20)
			goto next;
		assert_int_equal(qcow2_memory_alloc(&memory, &layout, TABLES), 0);
		ret = qcow2_image_open(&image, &file.blk, layout.incompatible & QCOW2_INCOMPAT_DATA_FILE ?
				       &data_file.blk : NULL, layout.backing.bytes ? &backing_file.blk : NULL,
				       &layout, &memory, false, &why);
		if (!ret) {
			opened++;
			for (j = 0; j < 20; j++) {
				__u64 most = layout.size < DISK ? layout.size & ~511ULL : DISK, pos, nr;

				if (!most)
					break;
				pos = file_random(most);
				pos -= pos % 512;
				nr = most - pos < sizeof(bytes) ? most - pos : sizeof(bytes);
				ret = file_random(2) ? qcow2_image_write(&image, bytes, pos, nr) :
				      file_random(2) ? qcow2_image_zero(&image, pos, nr, true) :
						       qcow2_image_read(&image, bytes, pos, nr);
				assert_true(!ret || ret == -EIO || ret == -ENOSPC || ret == -ENOMEM);
			}
			corrupt += !!qcow2_image_corrupt(&image);
			qcow2_image_close(&image);
		}
		free_memory();
next:
		free_files();
	}
	printf("%u could be opened, %u were found to be corrupt then\n", opened, corrupt);
	assert_true(opened > 100 && corrupt > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_is_that_of_a_list),
		cmocka_unit_test(metadata_in_one_place_is_refused),
		cmocka_unit_test(metadata_behind_the_end_is_refused),
		cmocka_unit_test(snapshot_table_that_cannot_be_is_refused),
		cmocka_unit_test(tables_are_known_wherever_they_are),
		cmocka_unit_test(set_is_kept_up_to_date),
		cmocka_unit_test(entries_that_cannot_be_true_are_found),
		cmocka_unit_test(last_cluster_may_be_short),
		cmocka_unit_test(what_is_good_can_be_read),
		cmocka_unit_test(metadata_is_never_free),
		cmocka_unit_test(blocks_are_not_made_in_metadata),
		cmocka_unit_test(data_does_not_become_metadata),
		cmocka_unit_test(damage_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
