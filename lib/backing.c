// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Backings: open, claim and measure files and block devices, and describe a device that
 * lies on them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/fs.h>
#include "internal.h"

#define MAX_LOGICAL_BLOCK	4096U	/* the block layer's: a page */
#define MAX_PHYSICAL_BLOCK	(1U << 20)

static int explain_missing(struct ublk_bpf_dev *dev, const char *path)
{
	if (!strncmp(path, "/dev/", 5))
		return ublk_bpf_dev_fail(dev, -ENOENT, "there is no such device or file; check its name");
	if (strchr(path, ','))
		return ublk_bpf_dev_fail(dev, -ENOENT,
			"there is no such file; check its name (a part is FILE,start=BYTES,length=BYTES)");
	return ublk_bpf_dev_fail(dev, -ENOENT, "there is no such file; check its name, or make one: %s",
				 dev->target->options & UBLK_BPF_OPT_WHOLE ?
				 "qemu-img create -f qcow2 FILE 1G" : "truncate -s 1G FILE");
}

static int explain_open(struct ublk_bpf_dev *dev, const char *path, int err, bool read_only)
{
	switch (err) {
	case -ENOENT:
		return explain_missing(dev, path);
	case -EBUSY:
		return ublk_bpf_dev_fail(dev, err,
			"the block device is in use (mounted, mapped or claimed); end that use, or share it read-only with -r");
	case -EINVAL:
		return ublk_bpf_dev_fail(dev, err,
			"its file system does not allow direct I/O; put it on one that does (ext4, xfs, btrfs, tmpfs), or use it by --buffered if there is that");
	case -EROFS:
	case -EACCES:
	case -EPERM:
		if (!read_only)
			return ublk_bpf_dev_fail(dev, err, "it cannot be written: %s; add -r",
						 strerror(-err));
	}
	return ublk_bpf_dev_fail(dev, err, "cannot open it: %s; check its name and mode",
				 strerror(-err));
}

static bool is_same_file(const struct stat *one, const struct stat *other)
{
	if (S_ISBLK(one->st_mode) && S_ISBLK(other->st_mode))
		return one->st_rdev == other->st_rdev;
	return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* A backing that is a part of this very file; NULL: none so far. */
static const struct ublk_bpf_backing *find_same_file(const struct ublk_bpf_dev *dev,
						     const struct stat *st)
{
	struct stat other;
	unsigned int i;

	for (i = 0; i < dev->nr_backings; i++)
		if (!fstat(dev->backings[i].fd, &other) && is_same_file(st, &other))
			return &dev->backings[i];
	return NULL;
}

int backing_claim(struct ublk_bpf_dev *dev, const char *path, bool read_only,
			  struct stat *st)
{
	const struct ublk_bpf_backing *same;
	int flags = O_CLOEXEC | O_NONBLOCK | (read_only ? O_RDONLY : O_RDWR) |
		    (dev->args->buffered ? 0 : O_DIRECT);
	int fd, ret, protected;

	if (stat(path, st))
		return explain_open(dev, path, -errno, read_only);
	if (S_ISDIR(st->st_mode))
		return ublk_bpf_dev_fail(dev, -EISDIR,
			"it is a directory; name a regular file or a block device");
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"it is neither a regular file nor a block device; name one of those");
	if (S_ISBLK(st->st_mode) && dev->args->buffered)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"it is a block device, of which nothing is buffered; leave out --buffered");
	same = find_same_file(dev, st);
	if (same) {	/* claimed and locked already, by us */
		fd = fcntl(same->fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? explain_open(dev, path, -errno, read_only) : fd;
	}
	if (S_ISBLK(st->st_mode) && !read_only)
		flags |= O_EXCL;
	fd = open(path, flags);
	if (fd < 0)
		return explain_open(dev, path, -errno, read_only);
	/* the kernel opens it all the same, and writes with a warning */
	if (S_ISBLK(st->st_mode) && !read_only && !ioctl(fd, BLKROGET, &protected) && protected) {
		ret = explain_open(dev, path, -EROFS, read_only);
		goto close_fd;
	}

	/* What was opened is what counts, whatever the name means by now. */
	if (fstat(fd, st)) {
		ret = ublk_bpf_dev_fail(dev, -errno, "cannot stat it: %s", strerror(errno));
		goto close_fd;
	}
	if (S_ISREG(st->st_mode) && flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB)) {
		ret = ublk_bpf_dev_fail(dev, -errno, errno == EWOULDBLOCK ? read_only ?
			"the file is locked by somebody who writes it; end that use (see ublk-bpf list --json)" :
			"the file is locked, so it is in use; end that use (see ublk-bpf list --json), or share it among readers with -r" :
			"the file cannot be locked; put it on a local file system");
		goto close_fd;
	}
	/*
	 * Pages that whoever made the file left in memory would be written back and thrown away
	 * by direct I/O, a range at a time, and each write would end in a worker while one is left.
	 */
	if (S_ISREG(st->st_mode) && !dev->args->buffered) {
		if (fdatasync(fd)) {
			ret = ublk_bpf_dev_fail(dev, -errno,
				"what was written to it before cannot be made durable: %s; see dmesg for its disk's errors",
				strerror(errno));
			goto close_fd;
		}
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	return fd;

close_fd:
	close(fd);
	return ret;
}

/* The unit of direct I/O, found by trying; 0: none works. */
static unsigned int probe_block(int fd)
{
	unsigned int bytes, found = 0;
	void *buf;

	if (posix_memalign(&buf, MAX_LOGICAL_BLOCK, MAX_LOGICAL_BLOCK))
		return 0;
	for (bytes = 512; bytes <= MAX_LOGICAL_BLOCK && !found; bytes <<= 1)
		if (pread(fd, buf, bytes, 0) >= 0)
			found = bytes;
	free(buf);
	return found;
}

/* A number of a block device's queue, which a partition shares with its disk; 0: none. */
static unsigned long long queue_limit(const struct stat *st, const char *name)
{
	unsigned long long value = 0;
	const char *const up[] = { "", "../" };
	char path[128];
	unsigned int i;
	FILE *file;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s",
			 major(st->st_rdev), minor(st->st_rdev), up[i], name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &value) != 1)
			value = 0;
		fclose(file);
		break;
	}
	return value;
}

static int measure_file(struct ublk_bpf_backing *b, bool buffered, const struct stat *st,
			__u64 *bytes)
{
	struct statx stx = {};

	*bytes = st->st_size;
	if (buffered)
		b->logical_block = 512;
	else if (!statx(b->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    (stx.stx_mask & STATX_DIOALIGN))
		b->logical_block = stx.stx_dio_offset_align;
	else
		b->logical_block = probe_block(b->fd);
	if (b->logical_block && b->logical_block < 512)
		b->logical_block = 512;
	b->physical_block = st->st_blksize;
	/* a file system that cannot make holes says so: trying would change the file's times */
	b->discard_unit = st->st_blksize;
	return 0;
}

static int measure_block(struct ublk_bpf_backing *b, const struct stat *st, __u64 *bytes)
{
	int logical;

	b->is_block = true;
	if (ioctl(b->fd, BLKGETSIZE64, bytes) || ioctl(b->fd, BLKSSZGET, &logical) ||
	    ioctl(b->fd, BLKPBSZGET, &b->physical_block))
		return -errno;
	b->logical_block = logical;
	if (queue_limit(st, "discard_max_bytes"))
		b->discard_unit = queue_limit(st, "discard_granularity");
	return 0;
}

static bool is_power_of_2(unsigned int n)
{
	return n && !(n & (n - 1));
}

/* Apply start and length to the whole's size, and check that blocks fit. */
static int choose_part(struct ublk_bpf_dev *dev, const struct ublk_bpf_file *file, __u64 whole,
		       struct ublk_bpf_backing *b)
{
	unsigned int block = b->logical_block;

	if (!whole)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"it is empty; give it a size, for example: truncate -s 1G FILE");
	if (file->start >= whole)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"start %llu is outside of its %llu bytes; choose a smaller one",
			file->start, whole);
	if (file->bytes > whole - file->start)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"start %llu, length %llu is outside of its %llu bytes; choose a smaller part",
			file->start, file->bytes, whole);
	b->start = file->start;
	b->bytes = file->bytes ? file->bytes : whole - file->start;
	if (b->start % block)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"start %llu is no multiple of its block size %u; use start=%llu",
			b->start, block, b->start / block * block);
	if (b->bytes % block && file->bytes)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"length %llu is no multiple of its block size %u; use length=%llu",
			b->bytes, block, (b->bytes + block - 1) / block * block);
	if (b->bytes % block)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"its size %llu is no multiple of its block size %u; round it up: truncate -s %%%u FILE",
			whole, block, block);
	return 0;
}

/* Of a device that is served again. A lock lives with the open file. */
static int take_back(struct ublk_bpf_dev *dev, unsigned int slot, struct stat *st)
{
	int fd = ublk_bpf_get_slot(dev->ctrl, dev->info.dev_id, slot);
	int err;

	if (fd == -ENOENT)
		return ublk_bpf_dev_fail(dev, fd,
			"its backing %u was taken off; delete it and add it again", slot);
	if (fd < 0)
		return ublk_bpf_dev_fail(dev, fd, "the driver does not give backing %u back: %s",
					 slot, strerror(-fd));
	if (!fstat(fd, st))
		return fd;
	err = -errno;
	close(fd);
	return ublk_bpf_dev_fail(dev, err, "cannot stat backing %u: %s", slot, strerror(-err));
}

/* Two writable ways to the same bytes are a mistake. */
static int check_overlap(struct ublk_bpf_dev *dev, const struct ublk_bpf_backing *b,
			 const struct stat *st)
{
	unsigned int i;

	for (i = 0; i < dev->nr_backings; i++) {
		const struct ublk_bpf_backing *other = &dev->backings[i];
		struct stat its;

		if (!fstat(other->fd, &its) && is_same_file(st, &its) &&
		    b->start < other->start + other->bytes &&
		    other->start < b->start + b->bytes)
			return ublk_bpf_dev_fail(dev, -EINVAL,
				"it is named twice, and bytes %llu to %llu are in both parts; choose parts by start and length",
				b->start > other->start ? b->start : other->start,
				(b->start + b->bytes < other->start + other->bytes ?
				 b->start + b->bytes : other->start + other->bytes) - 1);
	}
	return 0;
}

/* Size and blocks of a file that is open, and the part of it that is used; NULL: all of it. */
int backing_measure(struct ublk_bpf_dev *dev, const struct ublk_bpf_file *file,
		    const struct stat *st, struct ublk_bpf_backing *b)
{
	__u64 whole;
	int ret;

	ret = S_ISBLK(st->st_mode) ? measure_block(b, st, &whole) :
	      measure_file(b, dev->args->buffered, st, &whole);
	if (ret)
		return ublk_bpf_dev_fail(dev, ret, "cannot find its size: %s", strerror(-ret));
	if (!is_power_of_2(b->logical_block) || b->logical_block > MAX_LOGICAL_BLOCK)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"direct I/O on it needs blocks of %u bytes, at most %u can be had; use another file system",
			b->logical_block, MAX_LOGICAL_BLOCK);
	if (!is_power_of_2(b->physical_block) || b->physical_block > MAX_PHYSICAL_BLOCK ||
	    b->physical_block < b->logical_block)
		b->physical_block = b->logical_block;
	if (file)
		return choose_part(dev, file, whole, b);
	b->bytes = whole;
	return 0;
}

static int open_backing(struct ublk_bpf_dev *dev, const char *path,
			const struct ublk_bpf_file *file, bool read_only)
{
	struct ublk_bpf_backing b = {};
	struct stat st;
	int ret;

	b.fd = dev->recovering && (dev->info.flags & UBLK_F_BPF) ?
	       take_back(dev, dev->nr_backings, &st) :
	       backing_claim(dev, path, read_only, &st);
	if (b.fd < 0)
		return b.fd;
	ret = backing_measure(dev, file, &st, &b);
	if (!ret && !read_only)
		ret = check_overlap(dev, &b, &st);
	if (ret) {
		close(b.fd);
		return ret;
	}
	dev->backings[dev->nr_backings++] = b;
	return 0;
}

#define MAX_DISCARD_BYTES	(1U << 30)	/* the driver's limit with a program */

/* Describe the device as one that can do what all of its backings can. */
static void stack_limits(struct ublk_bpf_dev *dev)
{
	struct ublk_param_discard *discard = &dev->params.discard;
	unsigned int i, logical = 512, physical = 512;

	dev->params.types |= UBLK_PARAM_TYPE_DISCARD;
	discard->max_discard_sectors = MAX_DISCARD_BYTES >> 9;
	discard->max_write_zeroes_sectors = MAX_DISCARD_BYTES >> 9;
	discard->max_discard_segments = 1;
	for (i = 0; i < dev->nr_backings; i++) {
		const struct ublk_bpf_backing *b = &dev->backings[i];

		if (b->logical_block > logical)
			logical = b->logical_block;
		if (b->physical_block > physical)
			physical = b->physical_block;
		if (b->discard_unit > discard->discard_granularity)
			discard->discard_granularity = b->discard_unit;
		if (!b->discard_unit)
			discard->max_discard_sectors = 0;
	}
	ublk_bpf_dev_set_block_size(dev, logical, physical);
	if (discard->discard_granularity < logical)	/* never 0, the driver says */
		discard->discard_granularity = logical;
	/*
	 * A backing may have a cache: a flush has to reach it. To offer this is safe in any case:
	 * the queue below drops both without a cache, and flushes after a write without FUA.
	 */
	dev->params.basic.attrs |= UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
}

int ublk_bpf_dev_open_backings(struct ublk_bpf_dev *dev)
{
	const struct ublk_bpf_args *args = dev->args;
	char why[sizeof(dev->error)];
	unsigned int i;
	int ret;

	if (args->nr_files > UBLK_BPF_MAX_SLOTS)
		return ublk_bpf_dev_fail(dev, -EINVAL, "more than %u backings; name fewer files",
					 UBLK_BPF_MAX_SLOTS);
	for (i = 0; i < args->nr_files; i++) {
		ret = open_backing(dev, args->files[i].path, &args->files[i], args->read_only);
		if (!ret)
			continue;
		snprintf(why, sizeof(why), "%s", dev->error);
		return args->nr_files == 1 ? ret :
		       ublk_bpf_dev_fail(dev, ret, "%s: %.400s", args->files[i].path, why);
	}
	if (args->nr_files)
		stack_limits(dev);
	return 0;
}

int ublk_bpf_dev_open_backing(struct ublk_bpf_dev *dev, const char *path, bool read_only)
{
	if (dev->nr_backings == UBLK_BPF_MAX_SLOTS)
		return ublk_bpf_dev_fail(dev, -EINVAL, "it would be one of more than %u files",
					 UBLK_BPF_MAX_SLOTS);
	return open_backing(dev, path, NULL, read_only);
}

void backings_close(struct ublk_bpf_dev *dev)
{
	while (dev->nr_backings)
		close(dev->backings[--dev->nr_backings].fd);
}

const struct ublk_bpf_backing *ublk_bpf_dev_backing(const struct ublk_bpf_dev *dev, unsigned int nr)
{
	return &dev->backings[nr];
}

unsigned int ublk_bpf_dev_nr_backings(const struct ublk_bpf_dev *dev)
{
	return dev->nr_backings;
}
