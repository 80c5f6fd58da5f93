// SPDX-License-Identifier: GPL-2.0
/*
 * compare DEVICE [WORD]...
 *
 * The same random list of operations on a device and on a model of it in memory: direct
 * reads, writes (some with FUA), flushes, discards, and zeroes written with and without
 * their blocks kept, from every block to every block. Each read, and a last one of all,
 * must find what the model has. "ok N operations", or what differs, and where.
 *
 *	seed=N		of the list; it is printed when something is wrong
 *	ops=N		how many (1000)
 *	bytes=SIZE	only the first so many of the device (all, 64M at most)
 *	max=SIZE	the largest I/O (256k)
 *	zeroes		what was discarded reads as zeroes
 *	pages		buffers start where a page does, not at any sector of one
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include "ublk_bpf.h"

#define PAGE		4096
#define MOST_BYTES	(64ULL << 20)

static __u64 bytes = MOST_BYTES, max_io = 256 << 10, seed = 1, nr_ops = 1000;
static bool discard_zeroes, whole_pages;
static unsigned int block;
static const char *path;
static int fd;
static char *model;		/* what each byte is */
static bool *known;		/* of each block: a discard leaves anything */
static char *buffer;

static __u64 random_below(__u64 n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % n;
}

static void die(const char *what, __u64 pos, size_t count)
{
	printf("%s of [%llu, %llu): %s\n", what, pos, pos + count, strerrorname_np(errno));
	exit(1);
}

static void set(__u64 pos, size_t count, const char *data, bool is_known)
{
	if (data)
		memcpy(model + pos, data, count);
	else
		memset(model + pos, 0, count);
	memset(known + pos / block, is_known, count / block);
}

static void do_read(__u64 pos, size_t count, char *data)
{
	size_t at;

	if (pread(fd, data, count, pos) != (ssize_t)count)
		die("read", pos, count);
	for (at = 0; at < count; at += block) {
		if (known[(pos + at) / block] && memcmp(data + at, model + pos + at, block)) {
			printf("block at %llu differs: there is %02x, not %02x, in a read of [%llu, %llu)\n",
			       pos + at, (unsigned char)data[at], (unsigned char)model[pos + at],
			       pos, pos + count);
			exit(1);
		}
	}
}

static void do_write(__u64 pos, size_t count, char *data)
{
	struct iovec iov = { data, count };
	size_t at;

	for (at = 0; at < count; at += sizeof(__u64)) {
		__u64 word = random_below(1ULL << 31);

		memcpy(data + at, &word, sizeof(word));
	}
	if (pwritev2(fd, &iov, 1, pos, random_below(8) ? 0 : RWF_DSYNC) != (ssize_t)count)
		die("write", pos, count);
	set(pos, count, data, true);
}

static void do_discard(__u64 pos, size_t count)
{
	__u64 range[2] = { pos, count };

	if (ioctl(fd, BLKDISCARD, range)) {
		if (errno != EOPNOTSUPP)
			die("discard", pos, count);
		return;
	}
	set(pos, count, NULL, discard_zeroes);
}

static void do_zeroes(__u64 pos, size_t count, bool keep)
{
	__u64 range[2] = { pos, count };

	if (keep ? ioctl(fd, BLKZEROOUT, range) :
		   fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, count)) {
		if (errno != EOPNOTSUPP)
			die(keep ? "zeroes" : "hole", pos, count);
		return;
	}
	set(pos, count, NULL, true);
}

static void do_one(void)
{
	__u64 blocks = bytes / block, first = random_below(blocks);
	__u64 most = random_below(4) ? max_io / block / 16 + 1 : max_io / block;
	__u64 count = random_below(most) + 1, pos = first * block;
	char *data = buffer + (whole_pages ? 0 : random_below(8) * 512);

	if (count > blocks - first)
		count = blocks - first;
	count *= block;
	switch (random_below(16)) {
	case 0:
		if (fdatasync(fd))
			die("flush", 0, 0);
		break;
	case 1:
		do_discard(pos, count);
		break;
	case 2:
	case 3:
		do_zeroes(pos, count, random_below(2));
		break;
	case 4 ... 9:
		do_write(pos, count, data);
		break;
	default:
		do_read(pos, count, data);
	}
}

static bool word(const char *text, const char *name, __u64 *value)
{
	size_t len = strlen(name);

	return !strncmp(text, name, len) && text[len] == '=' &&
	       !ublk_bpf_parse_size(text + len + 1, value);
}

static void parse(int argc, char **argv)
{
	int i;

	if (argc < 2)
		exit(2);
	path = argv[1];
	for (i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "zeroes")) {
			discard_zeroes = true;
		} else if (!strcmp(argv[i], "pages")) {
			whole_pages = true;
		} else if (!word(argv[i], "seed", &seed) && !word(argv[i], "ops", &nr_ops) &&
			   !word(argv[i], "bytes", &bytes) && !word(argv[i], "max", &max_io)) {
			fprintf(stderr, "compare: what is '%s'?\n", argv[i]);
			exit(2);
		}
	}
}

static void prepare(void)
{
	__u64 size;

	fd = open(path, O_RDWR | O_DIRECT | O_EXCL);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) || ioctl(fd, BLKSSZGET, &block)) {
		printf("%s: %s\n", path, strerrorname_np(errno));
		exit(1);
	}
	if (size < bytes)
		bytes = size;
	bytes = bytes / block * block;
	if (max_io > bytes)
		max_io = bytes;
	model = calloc(1, bytes);
	known = calloc(bytes / block, sizeof(*known));
	if (!model || !known || posix_memalign((void **)&buffer, PAGE, max_io + PAGE))
		exit(1);
}

int main(int argc, char **argv)
{
	__u64 first_seed, i;

	parse(argc, argv);
	first_seed = seed;
	prepare();
	setvbuf(stdout, NULL, _IONBF, 0);
	printf("seed %llu: ", first_seed);
	for (i = 0; i < nr_ops; i++)
		do_one();
	for (i = 0; i < bytes; i += max_io)
		do_read(i, bytes - i < max_io ? bytes - i : max_io, buffer);
	printf("ok %llu operations\n", nr_ops);
	return 0;
}
