// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Backings: open, claim and measure a file or block device, and serve an I/O
 * from it when no program does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/fs.h>
#include "internal.h"

#define MAX_LOGICAL_BLOCK	4096U	/* the block layer's: a page */
#define MAX_PHYSICAL_BLOCK	(1U << 20)

static int explain_open(struct ublk_bpf_dev *dev, int err, bool read_only)
{
	switch (err) {
	case -ENOENT:
		return ublk_bpf_dev_fail(dev, err,
			"there is no such file; make one, for example: truncate -s 1G FILE");
	case -EBUSY:
		return ublk_bpf_dev_fail(dev, err,
			"the block device is in use (mounted, mapped or claimed); end that use, or share it read-only with -r");
	case -EINVAL:
		return ublk_bpf_dev_fail(dev, err,
			"its file system does not allow direct I/O; put it on one that does (ext4, xfs, btrfs, tmpfs)");
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

static int open_and_claim(struct ublk_bpf_dev *dev, const char *path, bool read_only,
			  struct stat *st)
{
	int flags = O_DIRECT | O_CLOEXEC | O_NONBLOCK | (read_only ? O_RDONLY : O_RDWR);
	int fd, ret;

	if (stat(path, st))
		return explain_open(dev, -errno, read_only);
	if (S_ISDIR(st->st_mode))
		return ublk_bpf_dev_fail(dev, -EISDIR,
			"it is a directory; name a regular file or a block device");
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"it is neither a regular file nor a block device; name one of those");
	if (S_ISBLK(st->st_mode) && !read_only)
		flags |= O_EXCL;
	fd = open(path, flags);
	if (fd < 0)
		return explain_open(dev, -errno, read_only);

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

static int measure_file(struct ublk_bpf_backing *b, const struct stat *st, __u64 *bytes)
{
	struct statx stx = {};

	*bytes = st->st_size;
	if (!statx(b->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    (stx.stx_mask & STATX_DIOALIGN))
		b->logical_block = stx.stx_dio_offset_align;
	else
		b->logical_block = probe_block(b->fd);
	if (b->logical_block && b->logical_block < 512)
		b->logical_block = 512;
	b->physical_block = st->st_blksize;
	return 0;
}

static int measure_block(struct ublk_bpf_backing *b, __u64 *bytes)
{
	int logical;

	b->is_block = true;
	if (ioctl(b->fd, BLKGETSIZE64, bytes) || ioctl(b->fd, BLKSSZGET, &logical) ||
	    ioctl(b->fd, BLKPBSZGET, &b->physical_block))
		return -errno;
	b->logical_block = logical;
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

int ublk_bpf_backing_open(struct ublk_bpf_dev *dev, unsigned int slot,
			  const struct ublk_bpf_file *file, bool read_only,
			  struct ublk_bpf_backing *backing)
{
	struct ublk_bpf_backing b = {};
	struct stat st;
	__u64 whole;
	int ret;

	backing->fd = -1;
	if (slot >= UBLK_BPF_MAX_SLOTS)
		return ublk_bpf_dev_fail(dev, -EINVAL, "more than %u backings; name fewer files",
					 UBLK_BPF_MAX_SLOTS);
	b.fd = dev->recovering && (dev->info.flags & UBLK_F_BPF) ? take_back(dev, slot, &st) :
	       open_and_claim(dev, file->path, read_only, &st);
	if (b.fd < 0)
		return b.fd;
	ret = S_ISBLK(st.st_mode) ? measure_block(&b, &whole) : measure_file(&b, &st, &whole);
	if (ret) {
		ublk_bpf_dev_fail(dev, ret, "cannot find its size: %s", strerror(-ret));
		goto close_fd;
	}
	if (!is_power_of_2(b.logical_block) || b.logical_block > MAX_LOGICAL_BLOCK) {
		ret = ublk_bpf_dev_fail(dev, -EINVAL,
			"direct I/O on it needs blocks of %u bytes, at most %u can be had; use another file system",
			b.logical_block, MAX_LOGICAL_BLOCK);
		goto close_fd;
	}
	if (!is_power_of_2(b.physical_block) || b.physical_block > MAX_PHYSICAL_BLOCK ||
	    b.physical_block < b.logical_block)
		b.physical_block = b.logical_block;
	ret = choose_part(dev, file, whole, &b);
	if (ret)
		goto close_fd;
	*backing = b;
	dev->slots[slot] = b.fd;
	return 0;

close_fd:
	close(b.fd);
	return ret;
}

void ublk_bpf_backing_close(struct ublk_bpf_backing *backing)
{
	if (backing->fd >= 0)
		close(backing->fd);
	backing->fd = -1;
}

static int backing_read(int fd, char *buf, size_t bytes, off_t pos)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(fd, buf + done, bytes - done, pos + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n) {
			memset(buf + done, 0, bytes - done);	/* past a file's end */
			break;
		}
		done += n;
	}
	return bytes;
}

static int backing_write(int fd, const char *buf, size_t bytes, off_t pos, bool fua)
{
	size_t done = 0;

	while (done < bytes) {
		struct iovec iov = { (char *)buf + done, bytes - done };
		ssize_t n = pwritev2(fd, &iov, 1, pos + done, fua ? RWF_DSYNC : 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO;
		done += n;
	}
	return bytes;
}

int ublk_bpf_backing_io(const struct ublk_bpf_backing *backing,
			const struct ublksrv_io_desc *iod, void *buf)
{
	size_t bytes = (size_t)iod->nr_sectors << 9;
	off_t pos = backing->start + (iod->start_sector << 9);
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	switch (ublksrv_get_op(iod)) {
	case UBLK_IO_OP_READ:
		return backing_read(backing->fd, buf, bytes, pos);
	case UBLK_IO_OP_WRITE:
		return backing_write(backing->fd, buf, bytes, pos,
				     iod->op_flags & UBLK_IO_F_FUA);
	case UBLK_IO_OP_FLUSH:
		return fdatasync(backing->fd) ? -errno : 0;
	case UBLK_IO_OP_WRITE_ZEROES:
		if (iod->op_flags & UBLK_IO_F_NOUNMAP)
			mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
		__attribute__((fallthrough));	/* a hole reads as zeroes */
	case UBLK_IO_OP_DISCARD:
		return fallocate(backing->fd, mode, pos, bytes) ? -errno : (int)bytes;
	default:
		return -EOPNOTSUPP;
	}
}
