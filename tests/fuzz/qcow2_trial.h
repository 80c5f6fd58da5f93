/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An image that may be anything, as a disk that is used:
 *
 *	refused		nothing was written to it, and the reason is told;
 *	accepted	its metadata is in the file, each part in a place of its own. What is read
 *			is read again, and comes from tables that can be true. All I/O is within
 *			the file. Once it is found to be corrupt, nothing is written any more;
 *	exact		its counts are right, or were mended since it was not closed: it keeps what
 *			is written, is never found to be corrupt, and is right when it is closed.
 */
#ifndef TESTS_FUZZ_QCOW2_TRIAL_H
#define TESTS_FUZZ_QCOW2_TRIAL_H

#include "qcow2_count.h"
#include "targets/qcow2/chain.h"
#include "targets/qcow2/image.h"

#define TRIAL_OPERATIONS	24
#define TRIAL_WINDOW		(1U << 20)
#define TRIAL_HIGH		(16U << 10)
#define TRIAL_MOST		(64U << 10)	/* of an operation */
#define TRIAL_BACKING		(384U << 10)	/* bytes of the backing file */

enum outcome { TRIAL_REFUSED, TRIAL_ACCEPTED, TRIAL_CORRUPT, TRIAL_EXACT, NR_OUTCOMES };

/* A part of the disk, and what it holds as far as that is known. */
struct window {
	__u64 start;
	__u32 bytes;
	__u8 is[TRIAL_WINDOW];
	bool known[TRIAL_WINDOW / 512];
};

/**
 * struct trial - of an image
 * @file:	it
 * @data:	its data file, if it says that it has one
 * @backing:	what it lies over, if it says so
 * @count:	what is true of it
 * @exact:	its counts are right
 * @read_only:	it is opened so
 * @image:	open
 * @memory:	of its tables
 * @windows:	of its disk: the start, and the end
 */
struct trial {
	struct mem file;
	struct mem data;
	struct qcow2_blk backing;
	struct count count;
	bool exact;
	bool read_only;
	struct qcow2_image image;
	struct qcow2_memory memory;
	struct window windows[2];
};

/* Not all zeroes, and no two places are the same. */
static inline int trial_read_backing(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes)
{
	__u8 *at = to;
	size_t i;

	for (i = 0; i < bytes; i++, pos++)
		at[i] = pos < TRIAL_BACKING ? (pos >> 9) * 31 + pos : 0;
	return 0;
}

static inline void trial_init(struct trial *trial)
{
	mem_init(&trial->file);
	mem_init(&trial->data);
	trial->file.discarded = 0xdb;
	trial->backing.read = trial_read_backing;
}

static inline int trial_open_image(struct trial *trial, const struct qcow2_layout *layout,
				   bool read_only, struct qcow2_why *why)
{
	bool has_data = layout->incompatible & QCOW2_INCOMPAT_DATA_FILE;
	int ret;

	if (qcow2_memory_alloc(&trial->memory, layout, QCOW2_MIN_TABLES))
		return -ENOMEM;
	trial->file.guard = NULL;
	trial->file.unit = qcow2_cluster_size(layout);
	trial->file.read_only = read_only;
	trial->data.read_only = read_only;
	ret = qcow2_image_open(&trial->image, &trial->file.blk, has_data ? &trial->data.blk : NULL,
			       layout->backing.bytes ? &trial->backing : NULL, layout,
			       &trial->memory, read_only, why);
	if (ret)
		qcow2_memory_free(&trial->memory);
	else
		trial->file.guard = &trial->image.guard;
	return ret;
}

static inline int trial_close_image(struct trial *trial)
{
	int ret = qcow2_image_close(&trial->image);

	trial->file.guard = NULL;
	qcow2_memory_free(&trial->memory);
	return ret;
}

/* The server's: it makes no disk of others. */
static inline bool trial_is_disk(const struct qcow2_layout *layout)
{
	return layout->size && !(layout->size % 512);
}

/* Open it, by the way of the server; what is wrong must be found and told. */
static inline int trial_open(struct trial *trial)
{
	struct qcow2_why why = { "" };
	struct qcow2_layout layout;
	struct mem *file = &trial->file;
	__u64 size = file->size;
	bool is_mended;
	__u8 *before;
	int ret;

	file->unit = 1;
	ret = qcow2_read_header(&file->blk, &layout, &why);
	ensure(!ret || ret == -EINVAL || ret == -ENOTSUP, "%d", ret);
	ensure(!ret == !why.text[0], "%d, and why: %s", ret, why.text);
	if (ret || !trial_is_disk(&layout))
		return -EINVAL;
	count_begin(&trial->count, file, &layout, false);
	before = malloc(size);
	ensure(before, "no memory");
	memcpy(before, file->bytes, size);
	ret = trial_open_image(trial, &layout, trial->read_only, &why);
	ensure(!ret || ret == -EINVAL || ret == -ENOMEM || ret == -ENOSPC, "%d", ret);
	if (ret == -EINVAL) {
		ensure(why.text[0], "no reason");
		ensure(size == file->size && !memcmp(before, file->bytes, size),
		       "it was refused and written: %s", why.text);
	}
	free(before);
	is_mended = !trial->read_only && layout.incompatible & QCOW2_INCOMPAT_DIRTY;
	if (!ret) {
		ensure(trial->count.verdict != COUNT_IMPOSSIBLE, "%s", trial->count.what);
		trial->exact = trial->count.verdict == COUNT_CLEAN;
	} else if (ret == -EINVAL) {
		/* what else bitmaps say is not looked at here */
		ensure(trial->count.verdict != COUNT_CLEAN || layout.nr_bitmaps, "%s", why.text);
	}
	if (!ret && !is_mended)
		return 0;
	count_end(&trial->count);
	if (ret)
		return ret;
	count_begin(&trial->count, file, &trial->image.layout, false);
	trial->exact = trial->count.verdict == COUNT_CLEAN;
	ensure(trial->exact, "%s", trial->count.what);
	return 0;
}

/* Bytes that are read at once: a compressed cluster is not made again for each of its sectors. */
static inline __u32 trial_chunk(const struct trial *trial, const struct window *window, __u32 at)
{
	__u64 size = qcow2_cluster_size(&trial->count.layout);

	if (size < 4096)
		size = 4096;
	if (size > TRIAL_MOST)
		size = TRIAL_MOST;
	size -= (window->start + at) % size;
	return size < window->bytes - at ? size : window->bytes - at;
}

/* Learn what is in a part of the disk. */
static inline void trial_learn(struct trial *trial, struct window *window)
{
	unsigned int reach = qcow2_l2_reach_bits(&trial->count.layout);
	__u64 good = ~0ULL, l1;
	__u32 at, nr;
	int ret;

	for (at = 0; at < window->bytes; at += nr) {
		nr = trial_chunk(trial, window, at);
		ret = qcow2_image_read(&trial->image, window->is + at, window->start + at, nr);
		ensure(!ret || ret == -EIO, "%d", ret);
		memset(window->known + at / 512, !ret, nr / 512);
		l1 = (window->start + at) >> reach;
		if (ret || l1 == good)
			continue;
		ensure(count_table_is_good(&trial->count, l1), "L2 table %llu was read from", l1);
		good = l1;
	}
}

/* It is still what is known. */
static inline void trial_compare(struct trial *trial, const struct window *window)
{
	static __u8 is[TRIAL_MOST];
	__u32 at, nr, i;
	bool known;
	int ret;

	for (at = 0; at < window->bytes; at += nr) {
		nr = trial_chunk(trial, window, at);
		ret = qcow2_image_read(&trial->image, is, window->start + at, nr);
		for (known = true, i = 0; i < nr; i += 512) {
			known = known && window->known[(at + i) / 512];
			if (!ret && window->known[(at + i) / 512])
				ensure(!memcmp(is + i, window->is + at + i, 512), "at %llu",
				       window->start + at + i);
		}
		ensure(!ret || (!known && ret == -EIO), "%d at %llu", ret, window->start + at);
	}
}

static inline void trial_look(struct trial *trial)
{
	__u64 size = trial->image.layout.size;
	struct window *low = &trial->windows[0], *high = &trial->windows[1];

	low->start = 0;
	low->bytes = size < TRIAL_WINDOW ? size : TRIAL_WINDOW;
	high->bytes = size - low->bytes < TRIAL_HIGH ? size - low->bytes : TRIAL_HIGH;
	high->start = size - high->bytes;
	trial_learn(trial, low);
	trial_learn(trial, high);
	trial_compare(trial, low);
	trial_compare(trial, high);
}

/* Read, write, zero or flush a part of the disk. */
static inline void trial_operate(struct trial *trial, struct choices *choices, unsigned int nr)
{
	static __u8 bytes[TRIAL_MOST];
	struct window *window = &trial->windows[choose(choices, 4) == 3];
	unsigned int what = choose(choices, 8);
	__u32 sectors, first, count, i;
	__u64 pos;
	int ret;

	if (!window->bytes)
		window = &trial->windows[0];
	sectors = window->bytes / 512;
	first = choose(choices, sectors);
	count = 1 + choose(choices, what % 2 ? 8 : TRIAL_MOST / 512);
	if (count > sectors - first)
		count = sectors - first;
	pos = window->start + first * 512;
	for (i = 0; i < count; i++)
		memset(bytes + i * 512, what < 4 ? nr * 8 + i + 1 : 0, 512);

	if (what < 4)
		ret = qcow2_image_write(&trial->image, bytes, pos, count * 512);
	else if (what < 6)
		ret = qcow2_image_zero(&trial->image, pos, count * 512, what == 5);
	else if (what == 6)
		ret = qcow2_image_flush(&trial->image);
	else
		ret = qcow2_image_read(&trial->image, bytes, pos, count * 512);
	ensure(!ret || ret == -EIO || ret == -ENOSPC || ret == -ENOMEM ||
	       (ret == -EROFS && trial->read_only), "%d", ret);
	if (what < 6)
		ensure(ret || !trial->read_only, "an image is written that was opened read-only");
	if (what == 7 && !ret && trial->exact)
		for (i = 0; i < count; i++)
			ensure(!window->known[first + i] ||
			       !memcmp(bytes + i * 512, window->is + (first + i) * 512, 512),
			       "at %llu", pos + i * 512ULL);
	if (what >= 6 || ret == -EROFS)
		return;
	if (!ret)
		memcpy(window->is + first * 512, bytes, count * 512);
	memset(window->known + first, !ret, count);
}

/* It was found to be corrupt: it cannot be written any more, nor is it. */
static inline void trial_corrupt(struct trial *trial, struct choices *choices)
{
	static const __u8 sector[512];
	struct mem *file = &trial->file;
	__u64 size = file->size;
	__u8 *before = malloc(size);
	unsigned int i;

	ensure(!trial->exact, "%s", qcow2_image_corrupt(&trial->image));
	ensure(before, "no memory");
	memcpy(before, file->bytes, size);
	ensure(qcow2_image_write(&trial->image, sector, 0, 512), "it is corrupt and written");
	for (i = 0; i < TRIAL_OPERATIONS / 4; i++)
		trial_operate(trial, choices, i);
	trial_close_image(trial);
	ensure(size == file->size && !memcmp(before, file->bytes, size),
	       "it is corrupt and written");
	free(before);
}

/* It was closed: it is as right as it was, and has what was written. */
static inline void trial_reopen(struct trial *trial)
{
	struct qcow2_why why = { "" };
	struct qcow2_layout layout;
	int ret = qcow2_read_header(&trial->file.blk, &layout, &why);

	ensure(!ret, "%s", why.text);
	count_end(&trial->count);
	count_begin(&trial->count, &trial->file, &layout, true);
	ensure(trial->count.verdict == COUNT_CLEAN, "%s", trial->count.what);
	ret = trial_open_image(trial, &layout, true, &why);
	ensure(!ret, "%s", why.text);
	trial_compare(trial, &trial->windows[0]);
	trial_compare(trial, &trial->windows[1]);
	trial_close_image(trial);
}

/* trial->file and trial->data are set: what comes of that? */
static inline enum outcome trial_run(struct trial *trial, struct choices *choices)
{
	enum outcome outcome = TRIAL_ACCEPTED;
	unsigned int i;
	int ret;

	trial->exact = false;
	if (trial_open(trial))
		return TRIAL_REFUSED;
	trial_look(trial);
	for (i = 0; i < TRIAL_OPERATIONS && !qcow2_image_corrupt(&trial->image); i++)
		trial_operate(trial, choices, i);
	if (qcow2_image_corrupt(&trial->image)) {
		trial_corrupt(trial, choices);
		outcome = TRIAL_CORRUPT;
	} else {
		if (trial->exact) {
			outcome = TRIAL_EXACT;
			trial_compare(trial, &trial->windows[0]);
			trial_compare(trial, &trial->windows[1]);
		}
		ret = trial_close_image(trial);
		if (trial->exact && !ret)
			trial_reopen(trial);
	}
	count_end(&trial->count);
	return outcome;
}

#endif
