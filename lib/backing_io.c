// SPDX-License-Identifier: LGPL-2.1-or-later
/* An I/O that no program does, on its backings: by its server. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include "internal.h"

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

static int backing_zero(const struct ublk_bpf_backing *backing, off_t pos, size_t bytes, bool keep)
{
	const int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	/* a hole reads as zeroes */
	if (!fallocate(backing->fd, keep ? zero : punch, pos, bytes) ||
	    (errno == EOPNOTSUPP && !keep && !fallocate(backing->fd, zero, pos, bytes)))
		return bytes;
	return -errno;
}

static int backing_discard(const struct ublk_bpf_backing *backing, off_t pos, size_t bytes)
{
	__u64 range[2] = { pos, bytes };

	if (backing->is_block)
		return ioctl(backing->fd, BLKDISCARD, range) ? -errno : (int)bytes;
	if (fallocate(backing->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, bytes))
		return -errno;
	return bytes;
}

int ublk_bpf_backing_io(const struct ublk_bpf_backing *backing,
			const struct ublksrv_io_desc *iod, void *buf)
{
	size_t bytes = (size_t)iod->nr_sectors << 9;
	off_t pos = backing->start + (iod->start_sector << 9);

	switch (ublksrv_get_op(iod)) {
	case UBLK_IO_OP_READ:
		return backing_read(backing->fd, buf, bytes, pos);
	case UBLK_IO_OP_WRITE:
		return backing_write(backing->fd, buf, bytes, pos,
				     iod->op_flags & UBLK_IO_F_FUA);
	case UBLK_IO_OP_FLUSH:
		return fdatasync(backing->fd) ? -errno : 0;
	case UBLK_IO_OP_WRITE_ZEROES:
		return backing_zero(backing, pos, bytes, iod->op_flags & UBLK_IO_F_NOUNMAP);
	case UBLK_IO_OP_DISCARD:
		return backing_discard(backing, pos, bytes);
	default:
		return -EOPNOTSUPP;
	}
}

static int flush_backings(struct ublk_bpf_dev *dev, const struct ublksrv_io_desc *iod)
{
	unsigned int i;
	int ret = 0, one;

	for (i = 0; i < ublk_bpf_dev_nr_backings(dev); i++) {
		one = ublk_bpf_backing_io(ublk_bpf_dev_backing(dev, i), iod, NULL);
		ret = ret ? ret : one;
	}
	return ret;
}

int ublk_bpf_dev_io_by_pieces(struct ublk_bpf_dev *dev, const struct ublksrv_io_desc *iod,
			      void *buf,
			      void (*map)(struct ublk_bpf_dev *dev, __u64 pos,
					  struct ublk_bpf_piece *piece))
{
	__u32 bytes = iod->nr_sectors << 9, done = 0;
	int ret;

	if (ublksrv_get_op(iod) == UBLK_IO_OP_FLUSH)
		return flush_backings(dev, iod);
	while (done < bytes) {
		struct ublk_bpf_piece piece = { .bytes = bytes - done };
		struct ublksrv_io_desc part = *iod;

		map(dev, (iod->start_sector << 9) + done, &piece);
		part.start_sector = piece.pos >> 9;
		part.nr_sectors = piece.bytes >> 9;
		ret = ublk_bpf_backing_io(ublk_bpf_dev_backing(dev, piece.backing), &part,
					  (char *)buf + done);
		if (ret < 0)
			return ret;
		done += ret;
	}
	return done;
}
