// SPDX-License-Identifier: GPL-2.0
/*
 * Images against what a disk would have: random operations on images of all shapes, with the
 * refcounts counted anew, and what a crash at any point leaves. targets/qcow2/image.c
 *
 * With $STATES, a folder, some of what a crash leaves is put there, and nothing else is done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"

/* The disk: each sector is full of the number of the operation that wrote it. */

#define UNKNOWN		(~0U)

static struct file_log log;
static __u32 model[SECTORS];
static __u32 base[SECTORS];		/* when the history began */
static __u32 last_number;

static void fill(void *to, __u32 nr, unsigned int sectors)
{
	__u32 *words = to;

	for (size_t i = 0; i < sectors * 128UL; i++)
		words[i] = nr;
}

/* An operation of the history; a flush has no sectors. */
struct operation {
	size_t log;		/* entries when it began */
	size_t done;		/* and when it was over */
	unsigned int first, nr;
	__u32 writes;
	bool failed;		/* then its sectors are what they were, or to be */
};

#define MAX_OPERATIONS	2000

static struct operation history[MAX_OPERATIONS];
static unsigned int nr_history;

/* What is read of the image that cannot be. */
enum failing { FAILING_TABLE, FAILING_REFCOUNTS, FAILING_COPY, NR_FAILING };

static enum failing failing;
static unsigned int fail_reads_after;	/* that many reads of that; 0: never */
static bool writing;

static enum failing what_is_at(const struct qcow2_blk *blk, __u64 pos)
{
	switch (blk == &file.blk ? qcow2_guard_find(&image.guard, pos >> shape.cluster_bits) :
				   QCOW2_META_NONE) {
	case QCOW2_META_L2:
		return FAILING_TABLE;
	case QCOW2_META_REFBLOCK:
		return FAILING_REFCOUNTS;
	default:
		/* what is read of data to be written is */
		return writing ? FAILING_COPY : NR_FAILING;
	}
}

static int read_or_fail(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes)
{
	if (fail_reads_after && what_is_at(blk, pos) == failing && !--fail_reads_after) {
		/* the worst that there can be: nothing is mapped, all is free, or data of nobody */
		memset(to, failing == FAILING_COPY ? 0x77 : 0, bytes);
		return -EIO;
	}
	return file_read(blk, to, pos, bytes);
}

/* At random; -ENOSPC of images that cannot become that large is an answer. */
static int operate(void)
{
	static __u8 buffer[SECTORS * 512];
	struct operation *op = &history[nr_history++];
	unsigned int what = file_random(18), i;
	int ret;

	assert_true(nr_history <= MAX_OPERATIONS);
	*op = (struct operation){ .log = log.nr };
	op->first = file_random(SECTORS);
	op->nr = 1 + file_random(file_random(4) ? 8 : 200);
	if (op->nr > SECTORS - op->first)
		op->nr = SECTORS - op->first;
	if (what < 9) {
		op->writes = ++last_number;
		fill(buffer, op->writes, op->nr);
		writing = true;
		ret = qcow2_image_write(&image, buffer, op->first * 512ULL, op->nr * 512ULL);
		writing = false;
	} else if (what < 13) {
		ret = qcow2_image_zero(&image, op->first * 512ULL, op->nr * 512ULL, what > 10);
	} else if (what < 15) {
		ret = qcow2_image_flush(&image);
		op->nr = 0;
	} else {
		ret = qcow2_image_read(&image, buffer, op->first * 512ULL, op->nr * 512ULL);
		for (i = 0; !ret && i < op->nr; i++)
			if (model[op->first + i] != UNKNOWN)
				assert_int_equal(((__u32 *)buffer)[i * 128], model[op->first + i]);
		op->nr = 0;
		nr_history--;
	}
	op->failed = ret;
	for (i = 0; i < op->nr; i++)
		model[op->first + i] = ret ? UNKNOWN : op->writes;
	op->done = log.nr;
	return ret;
}

static void disk_is_the_model(void)
{
	static __u8 buffer[SECTORS * 512];
	unsigned int i, j;

	assert_int_equal(qcow2_image_read(&image, buffer, 0, DISK), 0);
	for (i = 0; i < SECTORS; i++)
		for (j = 0; j < 128; j++)
			assert_int_equal(((__u32 *)buffer)[i * 128 + j], model[i]);
}

/* A backing file of half the size, whose sectors are full of a number, too. */
static void begin(const struct shape *of)
{
	__u8 sector[512];
	unsigned int i;

	make(of);
	if (of->bitmaps)
		add_bitmaps((const __u32[]){ 2, 0 }, 2);
	memset(model, 0, sizeof(model));
	for (i = 0; of->backing && i < SECTORS / 2; i++) {
		model[i] = 0xba000000 + i;
		fill(sector, model[i], 1);
		file_put(&backing_file, sector, i * 512ULL, 512);
	}
	nr_history = 0;
	last_number = 0;
	snapshot = 0;
	open_image();
}

static const struct shape shapes[] = {
	{ 2, 9, 4 },
	{ 2, 16, 4, .backing = true },
	{ 3, 9, 0, .backing = true },
	{ 3, 9, 4 },
	{ 3, 9, 6, .backing = true },
	{ 3, 12, 4, .backing = true },
	{ 3, 16, 1 },
	{ 3, 12, 3, .lazy = true },
	{ 3, 21, 4, .backing = true },
	{ 3, 14, 4, .subclusters = true, .backing = true },
	{ 3, 16, 5, .subclusters = true },
	{ 3, 12, 4, .data_file = true, .backing = true },
	{ 3, 16, 4, .data_file = true, .raw = true },
	{ 3, 14, 4, .data_file = true, .subclusters = true },
};

static void print_shape(const struct shape *of)
{
	printf("version %u, clusters of %u bytes, refcounts of %u bits%s%s%s%s%s%s%s\n", of->version,
	       1U << of->cluster_bits, 1U << of->refcount_order, of->lazy ? " that are lazy" : "",
	       of->subclusters ? ", subclusters" : "", of->data_file ? ", a data file" : "",
	       of->raw ? " that is raw" : "", of->backing ? ", a backing file" : "",
	       of->compressed ? ", compressed clusters" : "", of->bitmaps ? ", bitmaps" : "");
}

/* The snapshot has what the disk had, whatever became of that. */
static void snapshot_is(const __u32 *taken)
{
	static __u32 now[SECTORS];
	struct qcow2_layout layout;

	assert_int_equal(qcow2_parse_header(file.bytes, 1ULL << shape.cluster_bits, &layout, &why), 0);
	put64(40, snapshot);
	put32(60, 0);	/* no two are in one place */
	open_image();
	memcpy(now, model, sizeof(now));
	memcpy(model, taken, sizeof(now));
	disk_is_the_model();
	memcpy(model, now, sizeof(now));
	close_image();
	put64(40, layout.l1.offset);
	put32(60, 1);
}

/* A program uses some of the tables, or none. */
static void use_tables(bool some)
{
	__u32 i;

	for (i = 0; i < TABLES - QCOW2_HIDDEN_TABLES; i++)
		memory.users[i] = some && file_random(3);
}

static void images_are_what_a_disk_would_be(void **state)
{
	static __u32 taken[SECTORS];
	unsigned int i, j;

	file_seeded();
	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		print_shape(&shapes[i]);
		begin(&shapes[i]);
		for (j = 0; j < 600; j++) {
			use_tables(true);
			assert_int_equal(operate(), 0);
		}
		use_tables(false);
		disk_is_the_model();
		close_image();
		check(&file, true);
		if (!shapes[i].data_file && shapes[i].refcount_order) {
			take_snapshot();
			check(&file, true);
			memcpy(taken, model, sizeof(taken));
			open_image();
			for (j = 0; j < 600; j++)
				assert_int_equal(operate(), 0);
			close_image();
			check(&file, true);
			snapshot_is(taken);
		}
		open_image();
		disk_is_the_model();
		if (shapes[i].raw)
			for (j = 0; j < SECTORS; j++) {
				__u32 word = 0;

				file_read(&data_file.blk, &word, j * 512ULL, sizeof(word));
				assert_int_equal(word, model[j]);
			}
		close_image();
		free_files();
	}
}

/* Where QEMU is to find crashed images, and the files that they need; NULL: nowhere. */
static const char *states;

static void save_file(const struct file *of, const char *name)
{
	char path[4096];
	FILE *to;

	snprintf(path, sizeof(path), "%s/%s", states, name);
	to = fopen(path, "w");
	assert_non_null(to);
	assert_int_equal(fwrite(of->bytes, 1, of->size, to), of->size);
	assert_int_equal(fclose(to), 0);
}

static void save(const struct file *crashed, const struct file *crashed_data)
{
	static unsigned int nr;
	char name[32];

	if (!states)
		return;
	snprintf(name, sizeof(name), "%u.image", ++nr);
	save_file(crashed, name);
	snprintf(name, sizeof(name), "%u.data", nr);
	if (shape.data_file)
		save_file(crashed_data, name);
	if (shape.backing)
		save_file(&backing_file, "base");
}

/*
 * After a crash behind the first @nr entries of the log: nothing is referred to that is not
 * counted, and each sector is what it was at the last flush, or became later.
 */
static void crash(const struct file before[2], size_t nr)
{
	static __u8 buffer[SECTORS * 512];
	static __u32 flushed[SECTORS];
	struct qcow2_image now = image;
	struct qcow2_memory is = memory;
	bool all = file_random(4) == 0, possible;
	struct file crashed, crashed_data;
	unsigned int i, j, at = 0;

	memcpy(flushed, base, sizeof(flushed));
	for (i = 0; i < nr_history; i++)
		if (!history[i].nr && !history[i].failed && history[i].done <= nr)
			at = i;
	for (i = 0; i < nr_history && history[i].log <= nr; i++)
		for (j = 0; j < history[i].nr; j++)
			if (history[i].failed)
				flushed[history[i].first + j] = UNKNOWN;
			else if (i < at)
				flushed[history[i].first + j] = history[i].writes;

	file_crash(&crashed, &before[0], &file, &log, nr, all);
	file_crash(&crashed_data, &before[1], &data_file, &log, nr, all);
	if (!shape.lazy) {
		check(&crashed, false);
		save(&crashed, &crashed_data);
	}
	open_files(&crashed, &crashed_data, false);
	if (shape.lazy)
		check(&crashed, true);	/* it was repaired */
	assert_int_equal(qcow2_image_read(&image, buffer, 0, DISK), 0);
	for (i = 0; i < SECTORS; i++) {
		__u32 is_now = ((__u32 *)buffer)[i * 128];

		possible = is_now == flushed[i] || flushed[i] == UNKNOWN;
		for (j = at; !possible && j < nr_history && history[j].log <= nr; j++)
			possible = history[j].first <= i && i < history[j].first + history[j].nr &&
				   history[j].writes == is_now;
		if (!possible)
			fail_msg("sector %u is 0x%x, was 0x%x when it was flushed", i, is_now, flushed[i]);
	}
	/* and it goes on */
	fill(buffer, 1, 64);
	assert_int_equal(qcow2_image_write(&image, buffer, file_random(SECTORS - 64) * 512ULL,
					   64 * 512), 0);
	close_image();
	check(&crashed, shape.lazy);
	if (shape.lazy)
		save(&crashed, &crashed_data);
	file_free(&crashed);
	file_free(&crashed_data);
	image = now;
	memory = is;
}

static const struct shape crash_shapes[] = {
	{ 3, 9, 4, .backing = true },
	{ 3, 9, 6 },
	{ 3, 9, 5, .lazy = true },
	{ 2, 12, 4, .backing = true },
	{ 3, 14, 4, .subclusters = true, .backing = true },
	{ 3, 9, 4, .data_file = true, .backing = true },
	{ 3, 14, 4, .data_file = true, .subclusters = true },
	{ 3, 12, 4, .data_file = true, .raw = true },
	{ 3, 12, 4, .compressed = true, .bitmaps = true },
	{ 3, 9, 4, .bitmaps = true, .backing = true },
	{ 3, 16, 4, .backing = true },
};

#define NR_CRASH_SHAPES	(sizeof(crash_shapes) / sizeof(crash_shapes[0]))

/* An image that was in use, so that what is free is full of rubbish, and is @before now. */
static void begin_history(const struct shape *of, struct file before[2])
{
	unsigned int i;

	begin(of);
	for (i = 0; i < 300; i++)
		assert_int_equal(operate(), 0);
	close_image();
	if (of->compressed)
		compress_some();
	if (!of->data_file)
		take_snapshot();
	open_image();
	nr_history = 0;
	memcpy(base, model, sizeof(base));
	file_copy(&before[0], &file);
	file_copy(&before[1], &data_file);
	file.log = &log;
	data_file.log = &log;
}

static void end_history(struct file before[2])
{
	forget_image();
	file_free(&before[0]);
	file_free(&before[1]);
	free_files();
	file_forget(&log);
}

static void crash_loses_nothing_that_was_flushed(void **state)
{
	unsigned int i, j, nr_states = 0;
	struct file before[2];
	size_t nr, step;

	file_seeded();
	for (i = 0; i < NR_CRASH_SHAPES || (!states && nr_states < 10000); i++) {
		print_shape(&crash_shapes[i % NR_CRASH_SHAPES]);
		begin_history(&crash_shapes[i % NR_CRASH_SHAPES], before);
		for (j = 0; j < 60; j++)
			assert_int_equal(operate(), 0);
		step = states ? 1 + log.nr / 5 : 1;
		for (nr = states ? file_random(step) : 0; nr <= log.nr; nr += step)
			for (j = 0; j < (states ? 1 : 2); j++, nr_states++)
				crash(before, nr);
		end_history(before);
	}
	printf("%u states\n", nr_states);
}

/* One write or flush fails: what is flushed afterwards is, or it is said not to be. */
static void errors_lose_nothing_that_was_flushed(void **state)
{
	unsigned int i, j, gone_on = 0, given_up = 0;
	struct file before[2], *failing;
	size_t from, nr;

	file_seeded();
	for (i = 0; i < 13 * NR_CRASH_SHAPES; i++) {
		begin_history(&crash_shapes[i % NR_CRASH_SHAPES], before);
		failing = shape.data_file && file_random(2) ? &data_file : &file;
		failing->fails_once = true;
		failing->fail_after = 1 + file_random(60);
		for (j = 0; j < 90 && failing->fail_after; j++)
			operate();
		from = history[nr_history - 1].log;
		for (j = 0; j < 30; j++)
			operate();
		assert_true(!failing->flush_failed || qcow2_image_flush(&image));
		qcow2_image_flush(&image) ? given_up++ : gone_on++;
		for (nr = from; nr <= log.nr; nr += 1 + file_random(4))
			crash(before, nr);
		end_history(before);
	}
	printf("%u had a flush fail, %u a write\n", given_up, gone_on);
	assert_true(given_up && gone_on);
}

/* The L1 table gets there, which is said to be an error. */
static int write_of_l1_fails(struct qcow2_blk *blk, const void *from, __u64 pos, size_t bytes)
{
	int ret = file_write(blk, from, pos, bytes);

	return pos == image.layout.l1.offset ? -EIO : ret;
}

/* So the file names a table that is not known to be named: what that says next is there first. */
static void table_that_may_be_named_is_written_when_it_is_right(void **state)
{
	static const struct shape one = { 3, 9, 4 };
	struct file before, crashed;
	__u8 sector[512] = "";
	unsigned int i;
	size_t nr;

	file_seeded();
	begin(&one);
	assert_int_equal(qcow2_image_begin(&image), 0);
	file_copy(&before, &file);
	file.log = &log;
	file.blk.write = write_of_l1_fails;
	assert_int_equal(qcow2_image_write(&image, sector, 0, 512), 0);
	assert_int_equal(qcow2_image_flush(&image), -EIO);
	file.blk.write = file_write;
	assert_int_equal(qcow2_image_write(&image, sector, 512, 512), 0);
	assert_int_equal(qcow2_image_flush(&image), 0);
	for (nr = 0; nr <= log.nr; nr++) {
		for (i = 0; i < 50; i++) {
			file_crash(&crashed, &before, &file, &log, nr, false);
			check(&crashed, false);
			file_free(&crashed);
		}
	}
	close_image();
	check(&file, true);
	file_free(&before);
	free_files();
	file_forget(&log);
}

/* One read fails: of a table, of refcounts, of what is to be copied. It is told, and all goes on. */
static void errors_of_reads_lose_nothing(void **state)
{
	unsigned int i, j, errors, told[NR_FAILING] = { 0 };
	struct file before[2];
	size_t nr;

	file_seeded();
	for (i = 0; i < 6 * NR_CRASH_SHAPES; i++) {
		begin_history(&crash_shapes[i % NR_CRASH_SHAPES], before);
		file.blk.read = read_or_fail;
		data_file.blk.read = read_or_fail;
		backing_file.blk.read = read_or_fail;
		failing = i / NR_CRASH_SHAPES % NR_FAILING;
		fail_reads_after = 1 + file_random(failing == FAILING_TABLE ? 20 : 3);
		for (j = 0, errors = 0; j < 90; j++)
			errors += !!operate();
		/* what is given back needs refcounts, too: those that cannot be read leak */
		assert_true(errors <= !fail_reads_after);
		told[failing] += errors;
		fail_reads_after = 0;
		assert_int_equal(qcow2_image_flush(&image), 0);
		for (nr = 0; nr <= log.nr; nr += 1 + file_random(50))
			crash(before, nr);
		end_history(before);
	}
	printf("errors of %u tables, %u refcount blocks, %u copies\n", told[FAILING_TABLE],
	       told[FAILING_REFCOUNTS], told[FAILING_COPY]);
	for (i = 0; i < NR_FAILING; i++)
		assert_true(told[i]);
}

/* What does not fit fails; the rest goes on, and is flushed. */
static void full_device_can_be_flushed(void **state)
{
	static __u8 buffer[SECTORS * 512];
	unsigned int i, j, nr, failed = 0;

	file_seeded();
	for (i = 0; i < 10 * sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (shapes[i % (sizeof(shapes) / sizeof(shapes[0]))].data_file)
			continue;
		begin(&shapes[i % (sizeof(shapes) / sizeof(shapes[0]))]);
		for (j = file_random(30); j; j--)
			assert_int_equal(operate(), 0);
		assert_int_equal(qcow2_image_flush(&image), 0);
		nr = 1ULL << shape.cluster_bits;
		file.limit = (file.size + nr - 1) / nr * nr;
		for (j = 0; j < 100; j++) {
			int ret = operate();

			assert_true(!ret || ret == -ENOSPC);
			failed += !!ret;
			if (j % 10 == 0)
				assert_int_equal(qcow2_image_flush(&image), 0);
		}
		assert_int_equal(qcow2_image_read(&image, buffer, 0, DISK), 0);
		for (j = 0; j < SECTORS; j++)
			if (model[j] != UNKNOWN)
				assert_int_equal(((__u32 *)buffer)[j * 128], model[j]);
		close_image();
		check(&file, false);
		free_files();
	}
	printf("%u operations found no room\n", failed);
	assert_true(failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_are_what_a_disk_would_be),
		cmocka_unit_test(crash_loses_nothing_that_was_flushed),
		cmocka_unit_test(errors_lose_nothing_that_was_flushed),
		cmocka_unit_test(table_that_may_be_named_is_written_when_it_is_right),
		cmocka_unit_test(errors_of_reads_lose_nothing),
		cmocka_unit_test(full_device_can_be_flushed),
	};

	states = getenv("STATES");
	if (states)
		cmocka_set_test_filter("crash_loses_nothing_that_was_flushed");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
