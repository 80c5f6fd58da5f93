// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Compressed clusters: see compressed.h. */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include "compressed.h"

#define WINDOW_BITS	(-12)	/* no header, and 4 KiB: all that is needed, says QEMU */

struct qcow2_decompressor {
	z_stream zlib;
	ZSTD_DCtx *zstd;	/* NULL: it is for zlib's */
};

/* A window is allocated when there first is something to be kept in it: that is now. */
static bool zlib_init(z_stream *zlib)
{
	if (inflateInit2(zlib, WINDOW_BITS) != Z_OK)
		return false;
	if (inflateSetDictionary(zlib, (const Bytef *)"", 1) == Z_OK)
		return true;
	inflateEnd(zlib);
	return false;
}

struct qcow2_decompressor *qcow2_decompressor_new(enum qcow2_compression compression)
{
	struct qcow2_decompressor *decompressor = calloc(1, sizeof(*decompressor));
	bool ready;

	if (!decompressor)
		return NULL;
	if (compression == QCOW2_ZSTD) {
		decompressor->zstd = ZSTD_createDCtx();
		ready = decompressor->zstd;
	} else {
		ready = zlib_init(&decompressor->zlib);
	}
	if (ready)
		return decompressor;
	free(decompressor);
	return NULL;
}

void qcow2_decompressor_free(struct qcow2_decompressor *decompressor)
{
	if (decompressor && decompressor->zstd)
		ZSTD_freeDCtx(decompressor->zstd);
	else if (decompressor)
		inflateEnd(&decompressor->zlib);
	free(decompressor);
}

/* It has made a cluster, however much there still would be. */
static int inflate_cluster(z_stream *zlib, void *to, size_t size, const void *bytes, size_t nr)
{
	int ret = inflateReset(zlib);

	zlib->next_in = (void *)bytes;
	zlib->avail_in = nr;
	zlib->next_out = to;
	zlib->avail_out = size;
	if (ret == Z_OK)
		ret = inflate(zlib, Z_FINISH);
	return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && !zlib->avail_out ? 0 : -EIO;
}

/* Of today's format: that of before, which a library may know, was never in an image. */
static bool is_frame(const void *bytes, size_t nr)
{
	__u32 magic;

	if (nr < sizeof(magic))
		return false;
	memcpy(&magic, bytes, sizeof(magic));
	magic = le32toh(magic);
	return magic == ZSTD_MAGICNUMBER ||
	       (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

/*
 * A frame may end before the cluster does: there are others behind it. Each is made at once and
 * in its place, so no window is kept beside it: how large that is would be the frame's to say.
 */
static int zstd_cluster(ZSTD_DCtx *zstd, void *to, size_t size, const void *bytes, size_t nr)
{
	size_t made = 0, at = 0, frame, ret;

	while (made < size && is_frame(bytes + at, nr - at)) {
		frame = ZSTD_findFrameCompressedSize(bytes + at, nr - at);
		if (ZSTD_isError(frame))
			break;
		ret = ZSTD_decompressDCtx(zstd, to + made, size - made, bytes + at, frame);
		if (ZSTD_isError(ret))
			break;
		made += ret;
		at += frame;
	}
	return made == size ? 0 : -EIO;
}

int qcow2_decompress(struct qcow2_decompressor *decompressor, void *to, size_t size,
		     const void *bytes, size_t nr)
{
	if (decompressor->zstd)
		return zstd_cluster(decompressor->zstd, to, size, bytes, nr);
	return inflate_cluster(&decompressor->zlib, to, size, bytes, nr);
}
