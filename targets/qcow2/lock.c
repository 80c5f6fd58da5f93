// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* The locks on an image: see lock.h, and for the bytes block/file-posix.c of QEMU. */
#include <errno.h>
#include <fcntl.h>
#include "lock.h"

/* Where the locks begin for what is done, and for what others are not to do. */
#define DONE_BY_ME	100
#define NOT_BY_OTHERS	200

/* What can be done. A write that changes no data, 2, is not said to be done. */
enum { READ = 1 << 0, WRITE = 1 << 1, RESIZE = 1 << 3, NR_BITS = 4 };

static int lock_byte(int fd, int cmd, short type, off_t at)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	if (fcntl(fd, cmd, &lock))
		return -errno;
	return cmd == F_OFD_GETLK && lock.l_type != F_UNLCK ? -EAGAIN : 0;
}

/* For each of @bits the byte from @base on: take it, or look whether somebody else has. */
static int each_byte(int fd, int cmd, short type, off_t base, unsigned int bits)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < NR_BITS; i++)
		if (bits & 1U << i)
			ret = lock_byte(fd, cmd, type, base + i);
	return ret;
}

int qcow2_lock(int fd, bool write)
{
	unsigned int done = write ? READ | WRITE | RESIZE : READ, not_done = WRITE | RESIZE;
	int ret;

	/* all say first what they want, and look then: two at a time both see it */
	ret = each_byte(fd, F_OFD_SETLK, F_RDLCK, DONE_BY_ME, done);
	if (!ret)
		ret = each_byte(fd, F_OFD_SETLK, F_RDLCK, NOT_BY_OTHERS, not_done);
	if (!ret)
		ret = each_byte(fd, F_OFD_GETLK, F_WRLCK, NOT_BY_OTHERS, done);
	if (!ret)
		ret = each_byte(fd, F_OFD_GETLK, F_WRLCK, DONE_BY_ME, not_done);
	return ret;
}

void qcow2_unlock(int fd)
{
	each_byte(fd, F_OFD_SETLK, F_UNLCK, DONE_BY_ME, (1U << NR_BITS) - 1);
	each_byte(fd, F_OFD_SETLK, F_UNLCK, NOT_BY_OTHERS, (1U << NR_BITS) - 1);
}
