// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* A file as what the engine reads and writes: see file.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>
#include "file.h"

#define BOUNCE		(64U << 10)
#define BOUNCE_ALIGN	4096

static struct qcow2_file *file_of(struct qcow2_blk *blk)
{
	return (struct qcow2_file *)((char *)blk - offsetof(struct qcow2_file, blk));
}

static int read_aligned(const struct qcow2_file *file, void *to, __u64 pos, size_t bytes)
{
	ssize_t nr;

	for (; bytes; to += nr, pos += nr, bytes -= nr) {
		nr = pread(file->fd, to, bytes, pos);
		if (nr < 0 && errno == EINTR)
			nr = 0;
		else if (nr < 0)
			return -errno;
		else if (!nr || nr % file->block) {	/* the end */
			memset(to + nr, 0, bytes - nr);
			break;
		}
	}
	return 0;
}

static int write_aligned(const struct qcow2_file *file, const void *from, __u64 pos, size_t bytes)
{
	ssize_t nr;

	for (; bytes; from += nr, pos += nr, bytes -= nr) {
		nr = pwrite(file->fd, from, bytes, pos);
		if (nr < 0 && errno == EINTR)
			nr = 0;
		else if (nr < 0)
			return -errno;
		else if (!nr || nr % file->block)
			return -EIO;
	}
	return 0;
}

static bool is_aligned(const struct qcow2_file *file, const void *buffer, __u64 pos, size_t bytes)
{
	return !(((uintptr_t)buffer | pos | bytes) & (file->block - 1));
}

/* The blocks from @pos on, as many as a part of @bytes touches and as the bounce buffer holds. */
static size_t blocks_at(const struct qcow2_file *file, __u64 pos, size_t bytes)
{
	size_t in = pos & (file->block - 1), mask = file->block - 1;

	return bytes > BOUNCE - in ? BOUNCE : (in + bytes + mask) & ~mask;
}

static int file_read(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes)
{
	struct qcow2_file *file = file_of(blk);
	size_t in, all, nr;
	int ret = 0;

	if (is_aligned(file, to, pos, bytes))
		return read_aligned(file, to, pos, bytes);
	for (; !ret && bytes; to += nr, pos += nr, bytes -= nr) {
		in = pos & (file->block - 1);
		all = blocks_at(file, pos, bytes);
		nr = bytes < all - in ? bytes : all - in;
		ret = read_aligned(file, file->bounce, pos - in, all);
		memcpy(to, file->bounce + in, nr);
	}
	return ret;
}

static int file_write(struct qcow2_blk *blk, const void *from, __u64 pos, size_t bytes)
{
	struct qcow2_file *file = file_of(blk);
	size_t in, all, nr;
	int ret = 0;

	if (is_aligned(file, from, pos, bytes))
		return write_aligned(file, from, pos, bytes);
	for (; !ret && bytes; from += nr, pos += nr, bytes -= nr) {
		in = pos & (file->block - 1);
		all = blocks_at(file, pos, bytes);
		nr = bytes < all - in ? bytes : all - in;
		if (nr != all)
			ret = read_aligned(file, file->bounce, pos - in, all);
		memcpy(file->bounce + in, from, nr);
		if (!ret)
			ret = write_aligned(file, file->bounce, pos - in, all);
	}
	return ret;
}

/* What a block device would give back after a discard is not known. */
static void file_discard(struct qcow2_blk *blk, __u64 pos, __u64 bytes)
{
	const struct qcow2_file *file = file_of(blk);

	if (!file->is_block &&
	    fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, bytes))
		return;		/* it takes room until it is used again */
}

static int file_flush(struct qcow2_blk *blk)
{
	const struct qcow2_file *file = file_of(blk);
	int ret = fdatasync(file->fd) ? -errno : 0;

	if (ret && file->failed)
		*file->failed = -ret;
	return ret;
}

static __u64 file_size(struct qcow2_blk *blk)
{
	const struct qcow2_file *file = file_of(blk);
	struct stat stat;
	__u64 bytes = 0;

	if (file->is_block)
		return ioctl(file->fd, BLKGETSIZE64, &bytes) ? 0 : bytes;
	return fstat(file->fd, &stat) ? 0 : stat.st_size;
}

int qcow2_file_init(struct qcow2_file *file, int fd, unsigned int block, bool is_block)
{
	*file = (struct qcow2_file){
		.blk = {
			.read		= file_read,
			.write		= file_write,
			.discard	= file_discard,
			.flush		= file_flush,
			.size		= file_size,
		},
		.fd		= fd,
		.block		= block,
		.is_block	= is_block,
		.bounce		= aligned_alloc(BOUNCE_ALIGN, BOUNCE),
	};
	return file->bounce ? 0 : -ENOMEM;
}

void qcow2_file_free(struct qcow2_file *file)
{
	free(file->bounce);
	file->bounce = NULL;
}
