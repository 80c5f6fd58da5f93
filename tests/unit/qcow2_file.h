/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file in memory that remembers what was done to it, so that what a crash leaves of it can
 * be made: all that was flushed, and of the rest any sectors.
 */
#ifndef TESTS_UNIT_QCOW2_FILE_H
#define TESTS_UNIT_QCOW2_FILE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "targets/qcow2/blk.h"

#define FILE_SECTOR	512

struct file_write {
	__u64 pos;
	size_t bytes;		/* 0: a flush */
	__u8 *data;
};

struct file {
	struct qcow2_blk blk;
	__u8 *bytes;
	__u64 size, room;
	bool records;
	struct file_write *log;
	size_t nr_log;
	unsigned int fail_after;	/* that many writes and flushes fail for good; 0: never */
};

static unsigned int file_seed;

/* A seed of the clock's, or $SEED; printed. */
static inline void file_seeded(void)
{
	const char *given = getenv("SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	file_seed = given ? strtoul(given, NULL, 0) : (unsigned long)(now.tv_nsec ^ now.tv_sec);
	printf("seed %u\n", file_seed);
}

static inline unsigned int file_random(unsigned int below)
{
	return rand_r(&file_seed) % below;
}

static inline void file_put(struct file *file, const void *from, __u64 pos, size_t bytes)
{
	if (pos + bytes > file->size) {
		assert(pos + bytes <= 1U << 30);
		if (pos + bytes > file->room) {
			file->room = 2 * (pos + bytes);
			file->bytes = realloc(file->bytes, file->room);
		}
		memset(file->bytes + file->size, 0, pos + bytes - file->size);
		file->size = pos + bytes;
	}
	memcpy(file->bytes + pos, from, bytes);
}

static inline int file_log(struct file *file, const void *data, __u64 pos, size_t bytes)
{
	struct file_write *entry;

	if (file->fail_after && !--file->fail_after) {
		file->fail_after = 1;
		return -EIO;
	}
	if (!file->records)
		return 0;
	if (!(file->nr_log & (file->nr_log - 1)))
		file->log = realloc(file->log, (2 * file->nr_log + 1) * sizeof(*file->log));
	entry = &file->log[file->nr_log++];
	*entry = (struct file_write){ .pos = pos, .bytes = bytes };
	if (bytes) {
		entry->data = malloc(bytes);
		memcpy(entry->data, data, bytes);
	}
	return 0;
}

static inline int file_read(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes)
{
	struct file *file = (struct file *)blk;
	size_t there = pos < file->size ? file->size - pos : 0;

	if (there > bytes)
		there = bytes;
	if (there)
		memcpy(to, file->bytes + pos, there);
	memset((__u8 *)to + there, 0, bytes - there);
	return 0;
}

static inline int file_write(struct qcow2_blk *blk, const void *from, __u64 pos, size_t bytes)
{
	struct file *file = (struct file *)blk;
	int ret = file_log(file, from, pos, bytes);

	if (!ret)
		file_put(file, from, pos, bytes);
	return ret;
}

/* What nobody needs is something else from now on. */
static inline int file_discard(struct qcow2_blk *blk, __u64 pos, __u64 bytes)
{
	void *rubbish = malloc(bytes);
	int ret;

	memset(rubbish, 0xdb, bytes);
	ret = file_write(blk, rubbish, pos, bytes);
	free(rubbish);
	return ret;
}

static inline int file_flush(struct qcow2_blk *blk)
{
	return file_log((struct file *)blk, NULL, 0, 0);
}

static inline __u64 file_size(struct qcow2_blk *blk)
{
	return ((struct file *)blk)->size;
}

static inline void file_init(struct file *file)
{
	*file = (struct file){
		.blk = {
			.read		= file_read,
			.write		= file_write,
			.discard	= file_discard,
			.flush		= file_flush,
			.size		= file_size,
		},
	};
}

static inline void file_forget_log(struct file *file)
{
	while (file->nr_log)
		free(file->log[--file->nr_log].data);
	free(file->log);
	file->log = NULL;
}

static inline void file_free(struct file *file)
{
	file_forget_log(file);
	free(file->bytes);
	*file = (struct file){};
}

static inline void file_copy(struct file *to, const struct file *from)
{
	file_init(to);
	if (from->size)
		file_put(to, from->bytes, 0, from->size);
}

/*
 * What a crash behind the first @nr entries of @file's log leaves of it, of which @before is
 * what it was when the log began: what was flushed then, and of the rest each sector or not;
 * @all: each.
 */
static inline void file_crash(struct file *after, const struct file *before,
			      const struct file *file, size_t nr, bool all)
{
	size_t flushed = nr, i, at;

	while (flushed && file->log[flushed - 1].bytes)
		flushed--;
	file_copy(after, before);
	for (i = 0; i < nr; i++) {
		const struct file_write *entry = &file->log[i];

		for (at = 0; at < entry->bytes; at += FILE_SECTOR) {
			size_t bytes = entry->bytes - at < FILE_SECTOR ? entry->bytes - at : FILE_SECTOR;

			if (i < flushed || all || file_random(2))
				file_put(after, entry->data + at, entry->pos + at, bytes);
		}
	}
}

#endif
