// SPDX-License-Identifier: GPL-2.0
/*
 * A compressed cluster is any bytes: nothing outside of them is read, nothing outside of the
 * cluster is written, all of it is made or it is an error, and what was compressed comes
 * back. targets/qcow2/compressed.c
 *
 * The first byte of an input is how large a cluster is, and what is done; zlib and zstd are
 * not watched by the sanitizers, so memory ends where a buffer does.
 */
#include <stdint.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include "qcow2_mem.h"
#include "targets/qcow2/compressed.h"

#define MOST_BITS	16
#define ROOM		(4ULL << MOST_BITS)
#define CANARY		64

/* ROOM bytes, behind which there is nothing. Return: their end. */
static __u8 *map_room(void)
{
	size_t page = sysconf(_SC_PAGESIZE);
	__u8 *room = mmap(NULL, ROOM + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	ensure(room != MAP_FAILED && !mprotect(room + ROOM, page, PROT_NONE), "no memory");
	return room + ROOM;
}

/* One for all clusters, as an image has it: what it was given before changes nothing. */
static struct qcow2_decompressor *decompressor_of(enum qcow2_compression compression)
{
	static struct qcow2_decompressor *of[2];

	if (!of[compression])
		of[compression] = qcow2_decompressor_new(compression);
	ensure(of[compression], "no memory");
	return of[compression];
}

/* A cluster that ends at @end is made of @nr bytes from @from on, and is @fill before. */
static int make(enum qcow2_compression compression, __u8 *end, size_t size, const __u8 *from,
		size_t nr, __u8 fill)
{
	__u8 *to = end - size;
	int i, ret;

	memset(to - CANARY, 0xa5, CANARY);
	memset(to, fill, size);
	ret = qcow2_decompress(decompressor_of(compression), to, size, from, nr);
	ensure(!ret || ret == -EIO, "%d", ret);
	for (i = 0; i < CANARY; i++)
		ensure(to[i - CANARY] == 0xa5, "%d bytes before the cluster", CANARY - i);
	return ret;
}

static void any_bytes(enum qcow2_compression compression, __u8 *one, __u8 *other, size_t size,
		      const __u8 *from, size_t nr)
{
	int ret = make(compression, one, size, from, nr, 0x5a);

	ensure(make(compression, other, size, from, nr, 0xc3) == ret, "%d", ret);
	if (!ret)
		ensure(!memcmp(one - size, other - size, size), "not all of it is made");
}

/* As QEMU does: no header, and a window of 4 KiB. */
static size_t deflate_cluster(void *to, size_t room, const void *from, size_t size, int level)
{
	z_stream stream = {
		.next_in	= (void *)from,
		.avail_in	= size,
		.next_out	= to,
		.avail_out	= room,
	};

	ensure(deflateInit2(&stream, level, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK,
	       "no memory");
	ensure(deflate(&stream, Z_FINISH) == Z_STREAM_END, "no room");
	deflateEnd(&stream);
	return stream.total_out;
}

/* A cluster that begins with @nr bytes from @from on comes back, whatever is behind it. */
static void round_trip(enum qcow2_compression compression, __u8 *out, __u8 *in, size_t size,
		       const __u8 *from, size_t nr, int level)
{
	static __u8 cluster[1 << MOST_BITS], bytes[ROOM - 1024];
	size_t made, rest;

	if (nr > size)
		nr = size;
	memset(cluster, 0, size);
	memcpy(cluster, from, nr);
	if (compression == QCOW2_ZLIB)
		made = deflate_cluster(bytes, sizeof(bytes), cluster, size, level);
	else
		made = ZSTD_compress(bytes, sizeof(bytes), cluster, size, level);
	ensure(!ZSTD_isError(made), "%zu", made);
	/* to the end of a sector, as it lies in the file */
	rest = -made % 512;
	memcpy(in - made - rest, bytes, made);
	memset(in - rest, from[0], rest);
	ensure(!make(compression, out, size, in - made - rest, made + rest, 0x5a), "%zu bytes",
	       made);
	ensure(!memcmp(out - size, cluster, size), "another cluster comes back");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nr)
{
	static __u8 *in, *one, *other;
	enum qcow2_compression compression;
	size_t size;

	if (!in) {
		in = map_room();
		one = map_room();
		other = map_room();
	}
	if (nr < 2 || nr > ROOM)
		return -1;
	compression = data[0] & 1 ? QCOW2_ZSTD : QCOW2_ZLIB;
	size = 512UL << (data[0] >> 2) % (MOST_BITS - 8);
	memcpy(in - (nr - 1), data + 1, nr - 1);
	if (data[0] & 2)
		round_trip(compression, one, in, size, data + 1, nr - 1, 1 + data[0] / 32);
	else
		any_bytes(compression, one, other, size, in - (nr - 1), nr - 1);
	return 0;
}
