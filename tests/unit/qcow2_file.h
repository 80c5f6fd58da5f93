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
	const struct file *file;
	__u64 pos;
	size_t bytes;		/* 0: a flush */
	__u8 *data;
	bool failed;		/* a flush: it may have lost what was written before */
};

/* What was done to one file or several, in order. */
struct file_log {
	struct file_write *entries;
	size_t nr;
};

struct file {
	struct qcow2_blk blk;
	__u8 *bytes;
	__u64 size, room;
	struct file_log *log;		/* NULL: nothing is recorded */
	unsigned int fail_after;	/* that many writes and flushes fail; 0: never */
	bool fails_once;		/* one of them, no more */
	bool flush_failed;		/* it was a flush */
	__u64 limit;			/* there is no room behind it; 0: none */
	__u8 discarded;			/* what is in there instead */
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

static inline void file_record(struct file *file, const void *data, __u64 pos, size_t bytes,
			       bool failed)
{
	struct file_log *log = file->log;
	struct file_write *entry;

	if (!(log->nr & (log->nr - 1)))
		log->entries = realloc(log->entries, (2 * log->nr + 1) * sizeof(*log->entries));
	entry = &log->entries[log->nr++];
	*entry = (struct file_write){ .file = file, .pos = pos, .bytes = bytes, .failed = failed };
	if (bytes) {
		entry->data = malloc(bytes);
		memcpy(entry->data, data, bytes);
	}
}

/* Some of its sectors get there, who knows which. */
static inline void file_do_some(struct file *file, const __u8 *data, __u64 pos, size_t bytes)
{
	size_t at;

	for (at = 0; at < bytes; at += FILE_SECTOR) {
		if (file_random(2))
			continue;
		if (file->log)
			file_record(file, data + at, pos + at, FILE_SECTOR, false);
		file_put(file, data + at, pos + at, FILE_SECTOR);
	}
}

/* A write or a flush; one that fails does a part, and loses what it can. */
static inline int file_do(struct file *file, const void *data, __u64 pos, size_t bytes)
{
	bool fails = file->fail_after && !--file->fail_after;

	if (fails) {
		file->flush_failed = !bytes;
		if (!file->fails_once)
			file->fail_after = 1;
	}
	if (fails && bytes) {
		file_do_some(file, data, pos, bytes);
		return -EIO;
	}
	if (file->log)
		file_record(file, data, pos, bytes, fails);
	if (bytes)
		file_put(file, data, pos, bytes);
	return fails ? -EIO : 0;
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
	const struct file *file = (struct file *)blk;

	assert(pos % FILE_SECTOR == 0 && bytes && bytes % FILE_SECTOR == 0);
	if (file->limit && pos + bytes > file->limit)
		return -ENOSPC;
	return file_do((struct file *)blk, from, pos, bytes);
}

/* What nobody needs is something else from now on. */
static inline void file_discard(struct qcow2_blk *blk, __u64 pos, __u64 bytes)
{
	void *rubbish = malloc(bytes);

	memset(rubbish, ((struct file *)blk)->discarded, bytes);
	file_write(blk, rubbish, pos, bytes);
	free(rubbish);
}

static inline int file_flush(struct qcow2_blk *blk)
{
	return file_do((struct file *)blk, NULL, 0, 0);
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
		.discarded = 0xdb,
	};
}

static inline void file_forget(struct file_log *log)
{
	while (log->nr)
		free(log->entries[--log->nr].data);
	free(log->entries);
	log->entries = NULL;
}

static inline void file_free(struct file *file)
{
	free(file->bytes);
	*file = (struct file){};
}

static inline void file_copy(struct file *to, const struct file *from)
{
	file_init(to);
	if (from->size)
		file_put(to, from->bytes, 0, from->size);
}

/* Was entry @at of the log flushed by those before @nr? */
static inline bool file_was_flushed(const struct file_log *log, size_t at, size_t nr)
{
	const struct file_write *entry = &log->entries[at];
	size_t i;

	for (i = at + 1; i < nr; i++)
		if (log->entries[i].file == entry->file && !log->entries[i].bytes)
			return !log->entries[i].failed;
	return false;
}

/*
 * What a crash behind the first @nr entries of the log leaves of @file, which was @before when
 * the log began: what was flushed then, and of the rest each sector or not; @all: each.
 */
static inline void file_crash(struct file *after, const struct file *before,
			      const struct file *file, const struct file_log *log, size_t nr,
			      bool all)
{
	size_t i, at;

	file_copy(after, before);
	for (i = 0; i < nr; i++) {
		const struct file_write *entry = &log->entries[i];
		bool there = all || file_was_flushed(log, i, nr);

		for (at = 0; entry->file == file && at < entry->bytes; at += FILE_SECTOR)
			if (there || file_random(2))
				file_put(after, entry->data + at, entry->pos + at, FILE_SECTOR);
	}
}

#endif
