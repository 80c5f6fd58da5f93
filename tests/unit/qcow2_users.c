// SPDX-License-Identifier: GPL-2.0
/*
 * What a program uses: no cluster of it is anybody else's meanwhile, and who never ceases to use
 * it is not waited for each time. targets/qcow2/commit.c, given.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "qcow2_make.h"
#include "targets/qcow2/given.h"
#include "targets/qcow2/qcow2.h"

#define CLUSTER		4096ULL
#define NR_TAGS		4

static unsigned int sleeps;
static __u32 *taken;		/* after a while, what is given there is */

/* In place of libc's: all time is what is waited for. */
int usleep(__useconds_t microseconds)
{
	if (++sleeps == 100 && taken)
		*taken &= ~QCOW2_GIVEN;
	return 0;
}

static void write_cluster(__u64 nr, __u8 value)
{
	__u8 bytes[CLUSTER];

	memset(bytes, value, sizeof(bytes));
	assert_int_equal(qcow2_image_write(&image, bytes, nr * CLUSTER, CLUSTER), 0);
}

static __u64 place_of(__u64 nr)
{
	struct qcow2_table *table;
	__u64 bitmap;

	assert_int_equal(qcow2_tables_get(&image.tables, 0, &table), 0);
	return qcow2_table_entry(&image.tables, table, nr, &bitmap) & QCOW2_OFFSET;
}

static void discard(__u64 nr)
{
	assert_int_equal(qcow2_image_zero(&image, nr * CLUSTER, CLUSTER, true), 0);
}

static void is_full_of(__u64 place, __u8 value)
{
	for (__u64 i = 0; i < CLUSTER; i++)
		assert_int_equal(file.bytes[place + i], value);
}

static void begin(void)
{
	make(&(struct shape){ 3, 12, 4 });
	snapshot = 0;
	open_image();
}

static void end(void)
{
	close_image();
	check(&file, true);
	free_files();
}

static void cluster_is_nobody_elses_while_its_table_is_used(void **state)
{
	__u64 place, i;
	__u32 table;

	begin();
	for (i = 0; i < 3; i++)
		write_cluster(i, 1);
	assert_int_equal(qcow2_image_flush(&image), 0);
	place = place_of(1);
	table = memory.index[0] - 1;
	memory.users[table] = 1;
	discard(1);
	for (i = 10; i < 20; i++) {
		assert_int_equal(qcow2_image_flush(&image), 0);
		is_full_of(place, 1);
		write_cluster(i, 2);
		assert_int_not_equal(place_of(i), place);
	}
	/* when it is not any more, it is free, and the first that is */
	memory.users[table] = 0;
	assert_int_equal(qcow2_image_flush(&image), 0);
	is_full_of(place, file.discarded);
	write_cluster(20, 3);
	assert_int_equal(place_of(20), place);
	end();
}

/* Lose clusters that are used until there is no room to note more of them. */
static void lose_until_some_leak(void)
{
	__u64 leaks = image.tables.leaks;

	for (unsigned int i = 0; image.tables.leaks == leaks; i++) {
		assert_true(i < 10000);
		write_cluster(1, 1);
		discard(1);
		assert_int_equal(qcow2_image_flush(&image), 0);
	}
}

static void users_that_never_end_are_waited_for_once(void **state)
{
	__u32 table;

	begin();
	write_cluster(0, 1);
	assert_int_equal(qcow2_image_flush(&image), 0);
	table = memory.index[0] - 1;
	memory.users[table] = 1;
	sleeps = 0;
	lose_until_some_leak();
	assert_true(sleeps);
	sleeps = 0;
	lose_until_some_leak();
	assert_int_equal(sleeps, 0);
	/* others are, when those have ended */
	memory.users[table] = 0;
	assert_int_equal(qcow2_image_flush(&image), 0);
	memory.users[table] = 1;
	lose_until_some_leak();
	assert_true(sleeps);
	memory.users[table] = 0;
	close_image();
	check(&file, false);
	free_files();
}

static void what_is_given_is_waited_for(void **state)
{
	bool given[NR_TAGS] = { false, true, true, true };
	__u32 tags[NR_TAGS] = { QCOW2_GIVEN | 1, QCOW2_GIVEN | 1, 1, QCOW2_WANTED };

	sleeps = 0;
	taken = &tags[1];
	qcow2_wait_until_taken(given, tags, NR_TAGS);
	assert_int_equal(sleeps, 100);
	taken = NULL;
	/* and anew when it is given anew */
	tags[2] = QCOW2_GIVEN | 1;
	given[2] = true;
	sleeps = 0;
	taken = &tags[2];
	qcow2_wait_until_taken(given, tags, NR_TAGS);
	assert_int_equal(sleeps, 100);
	taken = NULL;
}

/* As those are whose program was unregistered in the moment in which they were given. */
static void what_is_never_taken_is_waited_for_once(void **state)
{
	bool given[NR_TAGS] = { true, false, true, true };
	__u32 tags[NR_TAGS] = { QCOW2_GIVEN | 1, 0, QCOW2_GIVEN | 2, QCOW2_GIVEN | 1 };

	sleeps = 0;
	qcow2_wait_until_taken(given, tags, NR_TAGS);
	assert_true(sleeps);
	sleeps = 0;
	qcow2_wait_until_taken(given, tags, NR_TAGS);
	assert_int_equal(sleeps, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cluster_is_nobody_elses_while_its_table_is_used),
		cmocka_unit_test(users_that_never_end_are_waited_for_once),
		cmocka_unit_test(what_is_given_is_waited_for),
		cmocka_unit_test(what_is_never_taken_is_waited_for_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
