// SPDX-License-Identifier: GPL-2.0
/*
 * io DEVICE read|write|flush|discard|zeroes POS BYTES [WORD]...
 *
 * One direct I/O, and in one word what came of it: "ok BYTES", "short BYTES",
 * "mismatch POS" or the errno's name. POS and BYTES may end in k, M or G.
 *
 *	pattern=N	what is written, and what a read must find (default 0: zeroes)
 *	from=POS	the pattern of another position, to follow data elsewhere
 *	nocheck		do not look at what was read
 *	iovs=N		from N buffers, each in pages of its own
 *	shift=BYTES	each of them so far behind a page's start
 *	fua		a write that is on stable storage when it returns
 *	buffered	through the page cache
 *	stats		also say what rose of the statistics of DEVICE, /dev/ublkbN:
 *			NAME=BY ...
 *	seen		and what behave.bpf.c saw of this I/O: order=DIGITS
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
#include <bpf/bpf.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include "ublk_bpf.h"
#include "counters.h"
#include "map.h"

#define MAX_IOVS	1024
#define PAGE		4096
#define SEEN_WORDS	25
#define SEEN_ORDER	3

struct job {
	const char *path;
	const char *op;
	__u64 pos, bytes, pattern, from;
	unsigned int iovs, shift;
	bool check, fua, direct, stats, seen;
	struct iovec iov[MAX_IOVS];
};

static void usage(const char *word)
{
	fprintf(stderr, "io: what is '%s'? io DEVICE read|write|flush|discard|zeroes POS BYTES [WORD]...\n", word);
	exit(2);
}

static __u64 number(const char *text)
{
	__u64 value;

	if (ublk_bpf_parse_size(text, &value))
		usage(text);
	return value;
}

static int failed(void)
{
	printf("%s", strerrorname_np(errno));
	return 0;
}

/* Every 8 bytes tell where they belong and whose they are. */
static __u64 word_at(const struct job *job, __u64 at)
{
	return job->pattern ? job->pattern << 48 | (job->from + at) : 0;
}

static void make_buffers(struct job *job)
{
	size_t each = job->bytes / job->iovs / 512 * 512, left = job->bytes;
	unsigned int i;

	for (i = 0; i < job->iovs; i++) {
		size_t len = i == job->iovs - 1 ? left : each;
		char *buf = aligned_alloc(PAGE, (len + job->shift + 2 * PAGE) / PAGE * PAGE);

		if (!buf)
			exit(failed());
		memset(buf, 0xee, len + job->shift);
		job->iov[i].iov_base = buf + job->shift;
		job->iov[i].iov_len = len;
		left -= len;
	}
}

/* Fill the buffers, or compare them. Return: the first byte that differs, or -1. */
static long long walk(struct job *job, bool fill)
{
	__u64 at = 0, want;
	unsigned int i;
	size_t j;

	for (i = 0; i < job->iovs; i++) {
		char *p = job->iov[i].iov_base;

		for (j = 0; j < job->iov[i].iov_len; j += sizeof(want), at += sizeof(want)) {
			want = word_at(job, at);
			if (fill)
				memcpy(p + j, &want, sizeof(want));
			else if (memcmp(p + j, &want, sizeof(want)))
				return at;
		}
	}
	return -1;
}

static int run(struct job *job)
{
	bool write = strcmp(job->op, "read") && strcmp(job->op, "flush");
	__u64 range[2] = { job->pos, job->bytes };
	int fd = open(job->path, (write ? O_RDWR : O_RDONLY) | (job->direct ? O_DIRECT : 0));
	long long differs;
	ssize_t ret;

	if (fd < 0)
		return failed();
	if (!strcmp(job->op, "flush")) {
		if (fsync(fd))
			return failed();
		printf("ok 0");
		return 0;
	}

	if (!strcmp(job->op, "discard") || !strcmp(job->op, "zeroes")) {
		/* the second: write zeroes, and nothing in its stead */
		if (!strcmp(job->op, "discard") ? ioctl(fd, BLKDISCARD, range) :
		    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, job->pos, job->bytes))
			return failed();
		printf("ok %llu", (unsigned long long)job->bytes);
		return 0;
	}

	make_buffers(job);
	if (write)
		walk(job, true);
	ret = write ? pwritev2(fd, job->iov, job->iovs, job->pos, job->fua ? RWF_DSYNC : 0) :
		      preadv2(fd, job->iov, job->iovs, job->pos, 0);
	if (ret < 0)
		return failed();
	/* a buffered write has not reached anything yet */
	if (write && !job->direct && fsync(fd))
		return failed();
	if ((__u64)ret != job->bytes) {
		printf("short %zd", ret);
		return 0;
	}
	if (!write && job->check) {
		differs = walk(job, false);
		if (differs >= 0) {
			printf("mismatch %llu", (unsigned long long)job->pos + differs);
			return 0;
		}
	}
	printf("ok %zd", ret);
	return 0;
}

/* The I/O, and what it did to the counters and in the program's eyes. */
static int run_watched(struct job *job)
{
	__s64 seen[SEEN_WORDS] = {};
	__u32 key = job->pos >> 20;
	struct ublk_bpf_stats before, after;
	struct ublk_bpf_ctrl *ctrl = NULL;
	unsigned int id, words, i;
	int map = -1;

	if (sscanf(job->path, "/dev/ublkb%u", &id) != 1)
		usage(job->path);
	if (job->stats && (ublk_bpf_ctrl_open(&ctrl) || ublk_bpf_get_stats(ctrl, id, &before)))
		usage("a device without statistics");
	if (job->seen) {
		map = map_find("behaviour", &words);
		if (map < 0 || words != SEEN_WORDS ||
		    bpf_map_update_elem(map, &key, seen, BPF_ANY))
			usage("a map that is not behave.bpf.c's");
	}

	run(job);
	if (job->stats && !ublk_bpf_get_stats(ctrl, id, &after))
		for (i = 0; i < NR_COUNTERS; i++) {
			__u64 rose = counter(&after, i) -
				     counter(&before, i);

			if (rose)
				printf(" %s=%llu", counters[i].name, (unsigned long long)rose);
		}
	if (job->seen && !bpf_map_lookup_elem(map, &key, seen))
		printf(" order=%lld", (long long)seen[SEEN_ORDER]);
	putchar('\n');
	return 0;
}

int main(int argc, char **argv)
{
	static struct job job = { .iovs = 1, .check = true, .direct = true };
	int i;

	if (argc < 5)
		usage(argc > 1 ? argv[argc - 1] : "nothing");
	job.path = argv[1];
	job.op = argv[2];
	if (strcmp(job.op, "read") && strcmp(job.op, "write") && strcmp(job.op, "flush") &&
	    strcmp(job.op, "discard") && strcmp(job.op, "zeroes"))
		usage(job.op);
	job.pos = number(argv[3]);
	job.bytes = number(argv[4]);
	job.from = job.pos;
	for (i = 5; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		size_t len = value ? value - argv[i] : 0;

		if (!strcmp(argv[i], "nocheck"))
			job.check = false;
		else if (!strcmp(argv[i], "fua"))
			job.fua = true;
		else if (!strcmp(argv[i], "stats"))
			job.stats = true;
		else if (!strcmp(argv[i], "seen"))
			job.seen = true;
		else if (!strcmp(argv[i], "buffered"))
			job.direct = false;
		else if (len == 7 && !strncmp(argv[i], "pattern", len))
			job.pattern = number(value + 1);
		else if (len == 4 && !strncmp(argv[i], "from", len))
			job.from = number(value + 1);
		else if (len == 4 && !strncmp(argv[i], "iovs", len))
			job.iovs = number(value + 1);
		else if (len == 5 && !strncmp(argv[i], "shift", len))
			job.shift = number(value + 1);
		else
			usage(argv[i]);
	}
	if (!job.iovs || job.iovs > MAX_IOVS || job.shift >= PAGE)
		usage("iovs or shift");
	if (job.stats || job.seen)
		return run_watched(&job);
	run(&job);
	putchar('\n');
	return 0;
}
