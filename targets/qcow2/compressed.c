// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Compressed clusters: see compressed.h. */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>
#include "compressed.h"

#define WINDOW_BITS	(-12)	/* no header, and 4 KiB: all that is needed, says QEMU */

/* It has made a cluster, however much there still would be. */
static int inflate_cluster(void *to, size_t size, const void *bytes, size_t nr)
{
	z_stream stream = {
		.next_in	= (void *)bytes,
		.avail_in	= nr,
		.next_out	= to,
		.avail_out	= size,
	};
	int ret;

	if (inflateInit2(&stream, WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	ret = inflate(&stream, Z_FINISH);
	inflateEnd(&stream);
	if (ret == Z_MEM_ERROR)
		return -ENOMEM;
	return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && !stream.avail_out ? 0 : -EIO;
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
static int zstd_cluster(void *to, size_t size, const void *bytes, size_t nr)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	size_t made = 0, at = 0, frame, ret;

	if (!context)
		return -ENOMEM;
	while (made < size && is_frame(bytes + at, nr - at)) {
		frame = ZSTD_findFrameCompressedSize(bytes + at, nr - at);
		if (ZSTD_isError(frame))
			break;
		ret = ZSTD_decompressDCtx(context, to + made, size - made, bytes + at, frame);
		if (ZSTD_isError(ret))
			break;
		made += ret;
		at += frame;
	}
	ZSTD_freeDCtx(context);
	return made == size ? 0 : -EIO;
}

int qcow2_decompress(enum qcow2_compression compression, void *to, size_t size,
		     const void *bytes, size_t nr)
{
	return compression == QCOW2_ZSTD ? zstd_cluster(to, size, bytes, nr) :
					   inflate_cluster(to, size, bytes, nr);
}
