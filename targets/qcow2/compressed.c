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

/* A frame may end before the cluster does: there are others behind it. */
static int zstd_cluster(void *to, size_t size, const void *bytes, size_t nr)
{
	ZSTD_outBuffer out = { .dst = to, .size = size };
	ZSTD_inBuffer in = { .src = bytes, .size = nr };
	ZSTD_DCtx *context = ZSTD_createDCtx();
	size_t ret = 0, before;

	if (!context)
		return -ENOMEM;
	while (out.pos < out.size) {
		before = in.pos + out.pos;
		ret = ZSTD_decompressStream(context, &out, &in);
		if (ZSTD_isError(ret) || in.pos + out.pos == before)
			break;
	}
	ZSTD_freeDCtx(context);
	return out.pos == out.size && !ZSTD_isError(ret) ? 0 : -EIO;
}

int qcow2_decompress(enum qcow2_compression compression, void *to, size_t size,
		     const void *bytes, size_t nr)
{
	return compression == QCOW2_ZSTD ? zstd_cluster(to, size, bytes, nr) :
					   inflate_cluster(to, size, bytes, nr);
}
