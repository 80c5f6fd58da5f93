// SPDX-License-Identifier: GPL-2.0
/*
 * Who serves an image is killed at any moment, and the next one goes on with the tables that
 * are in memory: all that was said to be done is there. targets/qcow2/adopt.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "targets/qcow2/file.h"
#include "qcow2_make.h"

#define MAX_CLUSTERS	(1U << 16)
#define UNKNOWN		(~0U)

/* What outlives a server. */
static struct {
	__u8 tables[TABLES][MAX_CLUSTERS];
	struct qcow2_owner owners[TABLES];
	__u32 users[TABLES];
	__u32 index[SECTORS];
	__u32 model[SECTORS];		/* each sector is full of the number of what wrote it */
	__u32 number;
	__u32 done;			/* operations */
	struct { __u32 first, nr, value; } now;	/* the one that is under way; nr 0: none */
} *left;

/* The files are the kernel's: a write that has begun ends. */
static struct qcow2_file image_file, data;
static int fds[2];

static void fill(void *to, __u32 nr, unsigned int sectors)
{
	__u32 *words = to;

	for (size_t i = 0; i < sectors * 128UL; i++)
		words[i] = nr;
}

static void put_files(void)
{
	fds[0] = memfd_create("image", 0);
	fds[1] = memfd_create("data", 0);
	assert_int_equal(pwrite(fds[0], file.bytes, file.size, 0), file.size);
	assert_int_equal(qcow2_file_init(&image_file, fds[0], 512, false), 0);
	assert_int_equal(qcow2_file_init(&data, fds[1], 512, false), 0);
}

/* An image nobody has served, over a backing file of half the size if @of has one. */
static void begin(const struct shape *of)
{
	__u8 sector[512];
	unsigned int i;

	make(of);
	memset(left, 0, sizeof(*left));
	for (i = 0; of->backing && i < SECTORS / 2; i++) {
		left->model[i] = 0xba000000 + i;
		fill(sector, left->model[i], 1);
		file_put(&backing_file, sector, i * 512ULL, 512);
	}
	put_files();
}

static void end(void)
{
	qcow2_file_free(&image_file);
	qcow2_file_free(&data);
	close(fds[0]);
	close(fds[1]);
	free_files();
}

static void get_file(void)
{
	__u64 size = image_file.blk.size(&image_file.blk);
	__u8 *bytes = malloc(size);

	assert_int_equal(image_file.blk.read(&image_file.blk, bytes, 0, size), 0);
	file_put(&file, bytes, 0, size);
	free(bytes);
}

static void open_left(void)
{
	struct qcow2_layout layout;
	int ret;

	get_file();
	assert_int_equal(qcow2_parse_header(file.bytes, 1ULL << shape.cluster_bits, &layout, &why), 0);
	memory = (struct qcow2_memory){
		.index	= left->index,
		.users	= left->users,
		.bytes	= left->tables[0],
		.owners	= left->owners,
		.nr	= TABLES,
	};
	ret = qcow2_image_open(&image, &image_file.blk, shape.data_file ? &data.blk : NULL,
			       shape.backing ? &backing_file.blk : NULL, &layout, &memory, false, &why);
	if (ret)
		fail_msg("%s", why.text);
}

static void operate(void)
{
	static __u8 buffer[SECTORS * 512];
	unsigned int what = file_random(16), first = file_random(SECTORS), i;
	unsigned int nr = 1 + file_random(file_random(4) ? 8 : 200);

	if (nr > SECTORS - first)
		nr = SECTORS - first;
	if (what > 13) {
		assert_int_equal(qcow2_image_flush(&image), 0);
		return;
	}
	if (what > 10) {
		assert_int_equal(qcow2_image_read(&image, buffer, first * 512ULL, nr * 512ULL), 0);
		for (i = 0; i < nr; i++)
			if (left->model[first + i] != UNKNOWN)
				assert_int_equal(((__u32 *)buffer)[i * 128], left->model[first + i]);
		return;
	}
	left->now.first = first;
	left->now.value = what < 7 ? ++left->number : 0;
	__atomic_store_n(&left->now.nr, nr, __ATOMIC_SEQ_CST);
	fill(buffer, left->now.value, nr);
	assert_int_equal(what < 7 ? qcow2_image_write(&image, buffer, first * 512ULL, nr * 512ULL) :
			 qcow2_image_zero(&image, first * 512ULL, nr * 512ULL, what > 8), 0);
	for (i = 0; i < nr; i++)
		left->model[first + i] = left->now.value;
	__atomic_store_n(&left->now.nr, 0, __ATOMIC_SEQ_CST);
	left->done++;
}

/* What the disk has is what was written, but where the one that was killed was writing. */
static void disk_is_the_model(void)
{
	static __u8 buffer[SECTORS * 512];
	unsigned int i;

	for (i = 0; i < left->now.nr; i++)
		left->model[left->now.first + i] = UNKNOWN;
	left->now.nr = 0;
	assert_int_equal(qcow2_image_read(&image, buffer, 0, DISK), 0);
	for (i = 0; i < SECTORS; i++)
		if (left->model[i] != UNKNOWN)
			assert_int_equal(((__u32 *)buffer)[i * 128], left->model[i]);
}

/* A server that is killed, or ends by itself after @operations. */
static void serve(unsigned int operations)
{
	open_left();
	disk_is_the_model();
	while (operations--)
		operate();
	if (qcow2_image_close(&image))
		_exit(2);
}

static void wait_for(pid_t server, bool killed)
{
	int status;

	assert_int_equal(waitpid(server, &status, 0), server);
	if (killed ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL : status)
		fail_msg("a server has ended with 0x%x", status);
}

/* In a process of its own, where a failed assertion is its end. */
static pid_t start(unsigned int operations)
{
	unsigned int seed = file_random(1U << 30);
	pid_t server = fork();

	assert_true(server >= 0);
	if (server)
		return server;
	file_seed = seed;
	serve(operations);
	_exit(0);
}

static void server_is_killed_at_any_moment(void **state)
{
	static const struct shape some[] = {
		{ 3, 9, 4, .backing = true },
		{ 3, 9, 6 },
		{ 2, 12, 4 },
		{ 3, 14, 4, .subclusters = true, .backing = true },
		{ 3, 16, 4 },
		{ 3, 12, 4, .data_file = true },
		{ 3, 9, 4, .lazy = true },
	};
	unsigned int i, j, leaked = 0, done = 0, kills = 0;

	file_seeded();
	for (i = 0; i < 10 * sizeof(some) / sizeof(some[0]); i++) {
		begin(&some[i % (sizeof(some) / sizeof(some[0]))]);
		for (j = 0; j < 10; j++, kills++) {
			pid_t server = start(~0U);

			/* tables are made in its first moments */
			usleep(j < 5 ? 500 + file_random(1000) : file_random(20000));
			kill(server, SIGKILL);
			wait_for(server, true);
		}
		wait_for(start(100), false);
		get_file();
		leaked += check(&file, false);
		/* and nothing is left to be gone on with */
		memset(left->owners, 0, sizeof(left->owners));
		memset(left->index, 0, sizeof(left->index));
		wait_for(start(0), false);
		done += left->done;
		end();
	}
	printf("%u servers killed, %u operations, %u clusters leaked\n", kills, done, leaked);
	assert_true(done > kills);
}

/* Between the two words of an entry: too short a moment to be hit. */
static void change_that_was_under_way_is_made(void **state)
{
	static const struct shape one = { 3, 16, 4, .subclusters = true };
	__u64 *words = (__u64 *)left->tables[0];

	begin(&one);
	open_left();
	for (unsigned int i = 0; i < 3; i++) {
		__u8 sector[512];

		left->model[i] = ++left->number;
		fill(sector, left->model[i], 1);
		assert_int_equal(qcow2_image_write(&image, sector, i * 512ULL, 512), 0);
	}
	assert_int_equal(left->owners[0].l1, 1);
	memcpy(left->owners[0].words, words, 16);
	left->owners[0].nr = 1;
	words[0] = htobe64(QCOW2_CHANGING);
	words[1] = 0;
	memory = (struct qcow2_memory){};
	forget_image();
	wait_for(start(0), false);
	get_file();
	assert_int_equal(check(&file, true), 0);
	memset(left->owners, 0, sizeof(left->owners));
	memset(left->index, 0, sizeof(left->index));
	wait_for(start(0), false);
	end();
}

/* What an L1 entry says of whose its table is was wrong, and is mended before that is taken over. */
static void table_that_was_mended_stays(void **state)
{
	static const struct shape one = { 3, 9, 4, .lazy = true };
	__u8 sector[512];
	__u64 entry;

	begin(&one);
	open_left();
	for (unsigned int i = 0; i < 128; i += 64) {
		left->model[i] = ++left->number;
		fill(sector, left->number, 1);
		assert_int_equal(qcow2_image_write(&image, sector, i * 512ULL, 512), 0);
	}
	assert_int_equal(qcow2_image_close(&image), 0);
	memset(left->owners, 0, sizeof(left->owners));
	memset(left->index, 0, sizeof(left->index));
	get_file();
	entry = qcow2_get64(file.bytes + 3 * 512);
	assert_true(entry & QCOW2_COPIED);
	entry = htobe64(entry & QCOW2_OFFSET);
	assert_int_equal(pwrite(fds[0], &entry, 8, 3 * 512), 8);

	/* the first table comes to memory, the second is written by; then its server dies */
	open_left();
	disk_is_the_model();
	left->model[65] = ++left->number;
	fill(sector, left->number, 1);
	assert_int_equal(qcow2_image_write(&image, sector, 65 * 512, 512), 0);
	assert_int_equal(qcow2_image_read(&image, sector, 0, 512), 0);
	assert_int_not_equal(left->index[0], 0);
	assert_int_equal(left->owners[left->index[0] - 1].entry, be64toh(entry));
	memory = (struct qcow2_memory){};
	forget_image();

	wait_for(start(0), false);
	get_file();
	assert_true(qcow2_get64(file.bytes + 3 * 512) & QCOW2_COPIED);
	check(&file, true);
	end();
}

/* For somebody else's image, in the same memory. */
static void tables_leave_memory_all_or_none(void **state)
{
	static const struct shape one = { 3, 9, 4 };
	__u32 i, there = 0;

	file_seeded();
	begin(&one);
	open_left();
	for (i = 0; i < 100; i++)
		operate();
	assert_int_equal(qcow2_image_flush(&image), 0);
	for (i = 0; i < SECTORS; i++)
		there += !!left->index[i];
	assert_true(there > 1);

	left->users[left->index[0] ? left->index[0] - 1 : 0] = 1;
	assert_int_equal(qcow2_tables_forget(&image.tables, false), -EBUSY);
	for (i = 0; i < SECTORS; i++)
		there -= !!left->index[i];
	assert_int_equal(there, 0);
	for (i = 0; i < 100; i++)
		operate();
	disk_is_the_model();
	assert_int_equal(qcow2_image_flush(&image), 0);

	assert_int_equal(qcow2_tables_forget(&image.tables, true), 0);
	memset(left->users, 0, sizeof(left->users));
	disk_is_the_model();
	assert_int_equal(qcow2_tables_forget(&image.tables, false), 0);
	for (i = 0; i < SECTORS; i++)
		assert_int_equal(left->index[i], 0);
	for (i = 0; i < TABLES; i++)
		assert_int_equal(left->owners[i].l1, 0);
	disk_is_the_model();		/* they come again */
	assert_int_equal(qcow2_tables_forget(&image.tables, false), 0);
	memory = (struct qcow2_memory){};
	forget_image();
	open_left();
	disk_is_the_model();
	assert_int_equal(qcow2_image_close(&image), 0);
	get_file();
	check(&file, false);		/* the first one's last counts were not written */
	end();
}

/* A flush that fails is known to the next server; of a pipe each does. */
static void failed_flush_is_not_forgotten(void **state)
{
	__u64 failed = 0;
	int pipes[2];

	fds[0] = memfd_create("image", 0);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(qcow2_file_init(&image_file, fds[0], 512, false), 0);
	assert_int_equal(qcow2_file_init(&data, pipes[1], 512, false), 0);
	assert_int_equal(data.blk.flush(&data.blk), -EINVAL);
	image_file.failed = &failed;
	data.failed = &failed;
	assert_int_equal(image_file.blk.flush(&image_file.blk), 0);
	assert_int_equal(failed, 0);
	assert_int_equal(data.blk.flush(&data.blk), -EINVAL);
	assert_int_equal(failed, EINVAL);
	assert_int_equal(image_file.blk.flush(&image_file.blk), 0);
	assert_int_equal(failed, EINVAL);
	qcow2_file_free(&image_file);
	qcow2_file_free(&data);
	close(fds[0]);
	close(pipes[0]);
	close(pipes[1]);
}

static int map_left(void **state)
{
	left = mmap(NULL, sizeof(*left), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return left == MAP_FAILED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_is_killed_at_any_moment),
		cmocka_unit_test(change_that_was_under_way_is_made),
		cmocka_unit_test(table_that_was_mended_stays),
		cmocka_unit_test(tables_leave_memory_all_or_none),
		cmocka_unit_test(failed_flush_is_not_forgotten),
	};

	return cmocka_run_group_tests(tests, map_left, NULL);
}
