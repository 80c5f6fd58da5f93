/* SPDX-License-Identifier: GPL-2.0 */
/* A file in memory that watches what an image's engine does to it. */
#ifndef TESTS_FUZZ_QCOW2_MEM_H
#define TESTS_FUZZ_QCOW2_MEM_H

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "fuzz.h"
#include "targets/qcow2/guard.h"

#define MEM_MOST	(64ULL << 20)	/* it does not grow further */
#define MEM_ROOM	(MEM_MOST + (4ULL << 20))

/**
 * struct mem - a file
 * @blk:	what the engine uses
 * @bytes:	MEM_ROOM of them; zeroes behind @size
 * @size:	bytes of the file
 * @read_only:	nobody may write
 * @discarded:	what is there instead of what nobody needs
 * @guard:	of the image in it once that is open: all I/O is where that knows of; or NULL
 * @unit:	of the image in it while that is opened: nothing behind the last of these is read;
 *		or 0
 */
struct mem {
	struct qcow2_blk blk;
	__u8 *bytes;
	__u64 size;
	bool read_only;
	__u8 discarded;
	const struct qcow2_guard *guard;
	__u64 unit;
};

static inline void mem_ensure_inside(const struct mem *mem, __u64 pos, __u64 bytes, __u64 unit)
{
	__u64 end = mem->guard ? mem->guard->end << mem->guard->layout->cluster_bits :
		    unit ? (mem->size + unit - 1) / unit * unit : ~0ULL;

	ensure(bytes <= end && pos <= end - bytes, "%llu bytes at %llu, and the file ends at %llu",
	       bytes, pos, end);
}

static inline int mem_read(struct qcow2_blk *blk, void *to, __u64 pos, size_t bytes)
{
	const struct mem *mem = (struct mem *)blk;
	size_t there = pos < mem->size ? mem->size - pos : 0;

	mem_ensure_inside(mem, pos, bytes, mem->unit);
	if (there > bytes)
		there = bytes;
	memcpy(to, mem->bytes + (there ? pos : 0), there);
	memset((__u8 *)to + there, 0, bytes - there);
	return 0;
}

static inline int mem_write(struct qcow2_blk *blk, const void *from, __u64 pos, size_t bytes)
{
	struct mem *mem = (struct mem *)blk;

	mem_ensure_inside(mem, pos, bytes, 0);
	ensure(!mem->read_only, "%zu bytes at %llu", bytes, pos);
	ensure(bytes && !((pos | bytes) % 512), "%zu bytes at %llu", bytes, pos);
	if (bytes > MEM_MOST || pos > MEM_MOST - bytes)
		return -ENOSPC;
	memcpy(mem->bytes + pos, from, bytes);
	if (mem->size < pos + bytes)
		mem->size = pos + bytes;
	return 0;
}

static inline void mem_discard(struct qcow2_blk *blk, __u64 pos, __u64 bytes)
{
	struct mem *mem = (struct mem *)blk;
	__u64 there = pos < mem->size ? mem->size - pos : 0;

	mem_ensure_inside(mem, pos, bytes, 0);
	ensure(!mem->read_only, "%llu bytes at %llu", bytes, pos);
	if (there)
		memset(mem->bytes + pos, mem->discarded, bytes < there ? bytes : there);
}

static inline int mem_flush(struct qcow2_blk *blk)
{
	return 0;
}

static inline __u64 mem_size(struct qcow2_blk *blk)
{
	return ((struct mem *)blk)->size;
}

static inline void mem_init(struct mem *mem)
{
	*mem = (struct mem){
		.blk = {
			.read		= mem_read,
			.write		= mem_write,
			.discard	= mem_discard,
			.flush		= mem_flush,
			.size		= mem_size,
		},
		.bytes = mmap(NULL, MEM_ROOM, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
	};
	ensure(mem->bytes != MAP_FAILED, "no memory");
}

/* The file is this from now on, and nobody has it open. */
static inline void mem_set(struct mem *mem, const void *from, size_t bytes)
{
	ensure(bytes <= MEM_MOST, "%zu bytes are too many", bytes);
	if (bytes && from != mem->bytes)
		memcpy(mem->bytes, from, bytes);
	if (mem->size > bytes)
		memset(mem->bytes + bytes, 0, mem->size - bytes);
	mem->size = bytes;
	mem->read_only = false;
	mem->guard = NULL;
	mem->unit = 0;
}

/* Numbers in it, wherever that is. */
static inline __u64 mem_get64(const struct mem *mem, __u64 pos)
{
	return pos <= MEM_ROOM - 8 ? qcow2_get64(mem->bytes + pos) : 0;
}

static inline __u32 mem_get32(const struct mem *mem, __u64 pos)
{
	return pos <= MEM_ROOM - 4 ? qcow2_get32(mem->bytes + pos) : 0;
}

static inline __u32 mem_get16(const struct mem *mem, __u64 pos)
{
	return pos <= MEM_ROOM - 2 ? mem->bytes[pos] << 8 | mem->bytes[pos + 1] : 0;
}

#endif
