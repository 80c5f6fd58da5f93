// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* The files that an image lies over: see chain.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "chain.h"
#include "file.h"
#include "image.h"
#include "lock.h"
#include "why.h"

#define BLOCK		4096	/* good for direct I/O on anything */
#define CACHE_BYTES	(1U << 20)
#define MAX_FILES	256	/* a read of the last one needs stack for all of them */
#define MOST_BYTES	(512U << 20)	/* of memory for what their headers lead to */

/* A file, and the chain that it lies over itself. */
struct qcow2_chain {
	struct qcow2_blk blk;	/* the disk in it */
	struct qcow2_chain *next;
	const struct qcow2_chain *above;
	unsigned int nr;	/* of those that lie over it */
	int fd, data_fd;
	struct qcow2_file file, data;
	bool is_raw;
	struct qcow2_layout layout;
	struct qcow2_memory memory;
	struct qcow2_image image;
	bool is_open;
};

/* What is one thing for all files of a chain while they are opened. */
struct opening {
	int top;		/* the image that lies over them */
	const struct qcow2_trust *trust;
	struct qcow2_why *why;
	bool named;		/* that says which of them it is about */
	__u64 bytes;		/* of memory that those that are open take */
};

int qcow2_read_header(struct qcow2_blk *blk, struct qcow2_layout *layout, struct qcow2_why *why)
{
	__u64 size = blk->size(blk);
	size_t nr = 0, wanted;
	__u8 *bytes = NULL, *more;
	int ret = 0;

	/* first what says how long it is */
	for (wanted = qcow2_header_wants(NULL, 0); !ret && nr < wanted && nr < size;
	     wanted = qcow2_header_wants(bytes, nr)) {
		nr = wanted < size ? wanted : size;
		more = realloc(bytes, nr);
		ret = more ? blk->read(blk, more, 0, nr) : -ENOMEM;
		bytes = more ?: bytes;
	}
	if (ret)
		snprintf(why->text, sizeof(why->text), "its header cannot be read: %s", strerror(-ret));
	else
		ret = qcow2_parse_header(bytes, nr, layout, why);
	free(bytes);
	return ret;
}

/* The disk of a chain's file, which is zeroes behind its end. */
static int chain_read(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes)
{
	struct qcow2_chain *chain = (struct qcow2_chain *)blk;
	__u64 size = chain->layout.size, there = pos < size ? size - pos : 0;

	if (there > bytes)
		there = bytes;
	memset(to + there, 0, bytes - there);
	return there ? qcow2_image_read(&chain->image, to, pos, there) : 0;
}

static __u64 chain_size(struct qcow2_blk *blk)
{
	return ((struct qcow2_chain *)blk)->layout.size;
}

/* Nobody may write it, and nobody does. */
static int lock(int fd, struct qcow2_why *why)
{
	int ret = flock(fd, LOCK_SH | LOCK_NB) ? -errno : 0;

	if (!ret)
		ret = qcow2_lock(fd, false);
	if (ret)
		snprintf(why->text, sizeof(why->text), ret == -EAGAIN ? "somebody writes it" :
			 "it cannot be locked: %s", strerror(-ret));
	return ret;
}

static bool is_same_file(int fd, int other)
{
	struct stat one, two;

	return !fstat(fd, &one) && !fstat(other, &two) && qcow2_is_same_file(&one, &two);
}

/* Open what was found by name, to be read; @found is closed. */
static int open_file(struct qcow2_file *file, int *fd, int found, struct qcow2_why *why)
{
	char link[32];
	struct stat stat;
	int ret;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
	*fd = open(link, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ret = *fd < 0 || fstat(*fd, &stat) ? -errno : 0;
	close(found);
	if (ret) {
		snprintf(why->text, sizeof(why->text), "it cannot be opened: %s", strerror(-ret));
		return ret;
	}
	return qcow2_file_init(file, *fd, BLOCK, S_ISBLK(stat.st_mode));
}

/* Is it a file of those above, of which the first is @top? */
static int check_loop(const struct qcow2_chain *chain, int top, struct qcow2_why *why)
{
	const struct qcow2_chain *above;
	bool loop = is_same_file(chain->fd, top);

	for (above = chain->above; above; above = above->above)
		loop = loop || is_same_file(chain->fd, above->fd);
	if (loop)
		return refuse(why, -ELOOP,
			      "it would lie over itself; qemu-img rebase -u changes its backing file");
	if (chain->nr == MAX_FILES)
		return refuse(why, -ELOOP,
			      "more than 256 files lie over each other; qemu-img rebase makes them fewer");
	return 0;
}

int qcow2_find_data(struct qcow2_blk *blk, const char *path, const struct qcow2_layout *layout,
		    const struct qcow2_trust *trust, struct qcow2_why *why)
{
	char name[QCOW2_MAX_NAME + 1];
	int ret;

	if (!layout->data_file.bytes)
		return refuse(why, -ENOENT,
			      "it does not say which its data file is; qemu-img amend -o data_file=FILE does");
	ret = qcow2_read_name(blk, &layout->data_file, name, why);
	return ret ?: qcow2_find_named(trust, path, name, "data file", why);
}

/*
 * Its L1 table, an index for that, where its metadata is, L2 tables, and three clusters to be read
 * by: an image says how much that is.
 */
static int check_bytes(const struct qcow2_chain *chain, struct opening *opening)
{
	opening->bytes += chain->layout.l1.bytes + chain->layout.l1.bytes / 2 +
			  (sizeof(__u64) << chain->image.guard.bits) +
			  ((3ULL + chain->memory.nr) << chain->layout.cluster_bits);
	if (opening->bytes <= MOST_BYTES)
		return 0;
	return refuse(opening->why, -EFBIG,
		      "to read it and those below it takes more than 512 MiB of memory; qemu-img rebase makes them fewer");
}

static int open_image(struct qcow2_chain *chain, const char *path, struct opening *opening)
{
	const struct qcow2_trust *trust = opening->trust;
	struct qcow2_why *why = opening->why;
	bool has_data = qcow2_has_data_file(&chain->layout);
	__u32 nr = CACHE_BYTES >> chain->layout.cluster_bits;
	int ret;

	if (has_data) {
		ret = qcow2_find_data(&chain->file.blk, path, &chain->layout, trust, why);
		if (ret >= 0)
			ret = open_file(&chain->data, &chain->data_fd, ret, why) ?:
			      lock(chain->data_fd, why);
		if (ret)
			return ret;
	}
	if (qcow2_memory_alloc(&chain->memory, &chain->layout, nr > QCOW2_MIN_TABLES ? nr : QCOW2_MIN_TABLES))
		return refuse(why, -ENOMEM, "there is no memory for its tables");
	ret = qcow2_image_open(&chain->image, &chain->file.blk, has_data ? &chain->data.blk : NULL,
			       qcow2_chain_blk(chain->next), &chain->layout, &chain->memory, true,
			       why);
	chain->is_open = !ret;
	return ret ?: check_bytes(chain, opening);
}

/* The reason, by now, is one of file @name: the innermost is told, that is where to look. */
static void say_which(struct opening *opening, const char *name, int err)
{
	struct qcow2_why reason = *opening->why;

	if (!opening->named)
		refuse(opening->why, err, "backing file '%.100s': %s", name,
		       reason.text[0] ? reason.text : strerror(-err));
	opening->named = true;
}

/* The next file below @above, which is NULL for the image that is on top; @path is that one's. */
static int open_next(struct qcow2_chain **result, const struct qcow2_chain *above,
		     const char *path, struct qcow2_blk *blk, const struct qcow2_layout *layout,
		     struct opening *opening)
{
	char name[QCOW2_MAX_NAME + 1], format[QCOW2_MAX_NAME + 1], below[32];
	struct qcow2_why *why = opening->why;
	struct qcow2_chain *chain;
	int found, ret;

	*result = NULL;
	if (!layout->backing.bytes)
		return 0;
	ret = qcow2_read_name(blk, &layout->backing, name, why);
	if (!ret && !layout->backing_format.bytes)
		return refuse(why, -ENOTSUP,
			      "it does not say of which format its backing file is, and nobody guesses; qemu-img rebase -u -F FORMAT does");
	if (!ret)
		ret = qcow2_read_name(blk, &layout->backing_format, format, why);
	if (ret)
		return ret;
	if (strcmp(format, "raw") && strcmp(format, "qcow2"))
		return refuse(why, -ENOTSUP, "its backing file is of format '%.20s'; raw and qcow2 are known",
			      format);
	found = qcow2_find_named(opening->trust, path, name, "backing file", why);
	if (found < 0)
		return found;

	chain = calloc(1, sizeof(*chain));
	if (!chain) {
		close(found);
		return -ENOMEM;
	}
	*chain = (struct qcow2_chain){
		.blk	= { .read = chain_read, .size = chain_size },
		.above	= above,
		.nr	= above ? above->nr + 1 : 1,
		.fd	= -1,
		.data_fd = -1,
		.is_raw	= !strcmp(format, "raw"),
	};
	ret = open_file(&chain->file, &chain->fd, found, why);
	if (!ret)
		ret = check_loop(chain, opening->top, why) ?: lock(chain->fd, why);
	snprintf(below, sizeof(below), "/proc/self/fd/%d", chain->fd);
	if (!ret && !chain->is_raw)
		ret = qcow2_read_header(&chain->file.blk, &chain->layout, why);
	if (!ret && !chain->is_raw)
		ret = open_next(&chain->next, chain, below, &chain->file.blk, &chain->layout,
				opening);
	if (!ret && !chain->is_raw)
		ret = open_image(chain, below, opening);
	if (!ret) {
		*result = chain;
		return 0;
	}
	say_which(opening, name, ret);
	qcow2_chain_close(chain);
	return ret;
}

int qcow2_chain_open(struct qcow2_chain **chain, int fd, const char *path, struct qcow2_blk *blk,
		     const struct qcow2_layout *layout, const struct qcow2_trust *trust,
		     struct qcow2_why *why)
{
	struct opening opening = { .top = fd, .trust = trust, .why = why };

	why->text[0] = '\0';
	return open_next(chain, NULL, path, blk, layout, &opening);
}

struct qcow2_blk *qcow2_chain_blk(struct qcow2_chain *chain)
{
	if (!chain)
		return NULL;
	return chain->is_raw ? &chain->file.blk : &chain->blk;
}

/* FNV-1a of 64 bits, a word at a time. */
static __u64 mix(__u64 hash, __u64 word)
{
	return (hash ^ word) * 0x100000001b3ULL;
}

static __u64 identity(__u64 hash, int fd)
{
	struct stat stat;

	if (fd < 0 || fstat(fd, &stat))
		return hash;
	if (S_ISBLK(stat.st_mode))
		return mix(hash, stat.st_rdev);
	hash = mix(mix(mix(hash, stat.st_dev), stat.st_ino), stat.st_size);
	return mix(mix(hash, stat.st_mtim.tv_sec), stat.st_mtim.tv_nsec);
}

__u64 qcow2_chain_identity(const struct qcow2_chain *chain)
{
	__u64 hash = 0xcbf29ce484222325ULL;

	if (!chain)
		return 0;
	for (; chain; chain = chain->next)
		hash = identity(identity(hash, chain->fd), chain->data_fd);
	return hash ?: 1;
}

void qcow2_chain_close(struct qcow2_chain *chain)
{
	struct qcow2_chain *next;

	for (; chain; chain = next) {
		next = chain->next;
		if (chain->is_open)
			qcow2_image_close(&chain->image);
		qcow2_memory_free(&chain->memory);
		qcow2_file_free(&chain->file);
		qcow2_file_free(&chain->data);
		if (chain->fd >= 0)
			close(chain->fd);
		if (chain->data_fd >= 0)
			close(chain->data_fd);
		free(chain);
	}
}
