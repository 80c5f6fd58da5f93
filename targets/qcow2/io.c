// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Reading, writing and zeroing the disk that is in an image: see image.h. */
#include <errno.h>
#include <stdlib.h>
#include "image.h"

#define ALL_ZERO	(0xffffffffULL << QCOW2_SUBCLUSTERS)	/* of a bitmap */

/* A part of the disk that lies in one cluster, and what is known of that. */
struct part {
	__u64 cluster;		/* of the disk */
	__u32 l1;
	__u32 nr;		/* entry of its table */
	__u32 from, to;		/* bytes in the cluster */
	struct qcow2_table *table;	/* NULL: none */
	__u64 entry, bitmap;
};

/* Bytes of what is allocated or not by itself: a cluster, or a subcluster. */
static __u32 unit_size(const struct qcow2_image *image)
{
	__u32 size = qcow2_cluster_size(&image->layout);

	return image->layout.entry_bits == 4 ? size / QCOW2_SUBCLUSTERS : size;
}

static bool is_raw(const struct qcow2_image *image)
{
	return image->layout.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
}

/* The part of the disk from @pos that lies in one cluster, of @bytes at most. */
static struct part part_at(const struct qcow2_image *image, __u64 pos, __u64 bytes)
{
	__u64 size = qcow2_cluster_size(&image->layout), nr = pos >> image->layout.cluster_bits;
	struct part part = {
		.cluster = nr,
		.l1	= pos >> qcow2_l2_reach_bits(&image->layout),
		.nr	= nr & (qcow2_l2_entries(&image->layout) - 1),
		.from	= pos & (size - 1),
	};

	part.to = bytes < size - part.from ? part.from + bytes : size;
	return part;
}

/* Look up what there is. @own: to change it. */
static int look_up(struct qcow2_image *image, struct part *part, bool own)
{
	int ret = own ? qcow2_tables_get_own(&image->tables, part->l1, &part->table) :
			qcow2_tables_get(&image->tables, part->l1, &part->table);

	part->entry = 0;
	part->bitmap = 0;
	if (!ret && part->table)
		part->entry = qcow2_table_entry(&image->tables, part->table, part->nr, &part->bitmap);
	return ret;
}

/* What byte @at of the part's cluster is. */
static int kind_at(const struct qcow2_image *image, const struct part *part, __u32 at,
		   struct qcow2_cluster *cluster)
{
	qcow2_parse_entry(&image->layout, part->entry, part->bitmap, at / unit_size(image), cluster);
	if (cluster->kind == QCOW2_KIND_INVALID)
		return -EIO;
	if (qcow2_has_data_file(&image->layout) && cluster->allocated &&
	    cluster->offset != part->cluster << image->layout.cluster_bits)
		return -EIO;
	return 0;
}

static int read_compressed(struct qcow2_image *image, const struct qcow2_cluster *cluster,
			   void *to, __u32 from, __u32 bytes)
{
	size_t size = qcow2_cluster_size(&image->layout), nr = size + QCOW2_SECTOR;
	__u8 *all = image->compressed + nr;
	int ret;

	/* it takes no more than a cluster and the rest of a sector, whatever it says */
	if (nr > cluster->bytes)
		nr = cluster->bytes;
	ret = image->blk->read(image->blk, image->compressed, cluster->offset, nr);
	if (!ret)
		ret = qcow2_decompress(image->decompressor, all, size, image->compressed, nr);
	if (!ret)
		memcpy(to, all + from, bytes);
	return ret;
}

static int read_backing(struct qcow2_image *image, void *to, __u64 pos, size_t bytes)
{
	if (image->backing)
		return image->backing->read(image->backing, to, pos, bytes);
	memset(to, 0, bytes);
	return 0;
}

/* Read bytes @from to @end of the part's cluster, as they are now. */
static int read_part(struct qcow2_image *image, const struct part *part, void *to, __u32 from,
		     __u32 end)
{
	__u64 start = part->cluster << image->layout.cluster_bits;
	__u32 unit = unit_size(image), next;
	struct qcow2_cluster cluster;
	int ret = 0;

	for (; !ret && from < end; to += next - from, from = next) {
		next = from - from % unit + unit;
		if (next > end)
			next = end;
		ret = kind_at(image, part, from, &cluster);
		if (ret)
			break;
		switch (cluster.kind) {
		case QCOW2_KIND_UNALLOCATED:
			ret = read_backing(image, to, start + from, next - from);
			break;
		case QCOW2_KIND_ZERO:
			memset(to, 0, next - from);
			break;
		case QCOW2_KIND_DATA:
			ret = image->data->read(image->data, to, cluster.offset + from, next - from);
			break;
		default:
			next = end;
			ret = read_compressed(image, &cluster, to, from, end - from);
		}
	}
	return ret;
}

int qcow2_image_read(struct qcow2_image *image, void *to, __u64 pos, size_t bytes)
{
	struct part part;
	int ret;

	while (bytes) {
		part = part_at(image, pos, bytes);
		ret = look_up(image, &part, false);
		if (!ret)
			ret = read_part(image, &part, to, part.from, part.to);
		if (ret)
			return ret;
		to += part.to - part.from;
		pos += part.to - part.from;
		bytes -= part.to - part.from;
	}
	return 0;
}

/* What the part's cluster had in the file is not its any more. */
static int lose(struct qcow2_image *image, const struct part *part,
		const struct qcow2_cluster *old)
{
	unsigned int bits = image->layout.cluster_bits;
	__u64 first = old->offset >> bits, last;

	if (old->kind == QCOW2_KIND_COMPRESSED) {
		last = (old->offset + old->bytes - 1) >> bits;
		return qcow2_tables_lose(&image->tables, part->table, first, last - first + 1);
	}
	if (!old->allocated || qcow2_has_data_file(&image->layout))
		return 0;
	return qcow2_tables_lose(&image->tables, part->table, first, 1);
}

/* The bits of the units that bytes @from to @to of a cluster touch. */
static __u32 units(const struct qcow2_image *image, __u32 from, __u32 to)
{
	__u32 first = from / unit_size(image), last = (to - 1) / unit_size(image);

	return (__u32)(~0ULL >> (63 - (last - first))) << first;
}

/* Where a cluster goes that has no place of its own. */
static int find_place(struct qcow2_image *image, const struct part *part, __u64 *place)
{
	__u64 cluster = part->cluster;
	int ret = 0;

	if (!qcow2_has_data_file(&image->layout))
		ret = qcow2_refs_alloc(&image->refs, 1, &cluster);
	*place = cluster << image->layout.cluster_bits;
	return ret;
}

/*
 * Write a part of a cluster that has no place of its own, or whose place has not its data:
 * in one piece, with what else has to be written. The mapping changes when that is there.
 */
static int write_anew(struct qcow2_image *image, struct part *part,
		      const struct qcow2_cluster *old, const void *from)
{
	bool subclusters = image->layout.entry_bits == 4;
	bool keep = old->allocated && (old->copied || qcow2_has_data_file(&image->layout));
	__u32 size = qcow2_cluster_size(&image->layout), unit = unit_size(image), at;
	__u32 touched = units(image, part->from, part->to), copied = 0, bits;
	__u64 place = old->offset, bitmap = 0;
	struct qcow2_cluster is;
	__u32 start = size, end = 0;
	int ret = 0;

	/* what has data elsewhere comes along */
	for (at = 0; at < size; at += unit) {
		ret = kind_at(image, part, at, &is);
		if (ret)
			return ret;
		bits = units(image, at, at + 1);
		if (!keep && (is.kind == QCOW2_KIND_DATA || is.kind == QCOW2_KIND_COMPRESSED))
			copied |= bits;
		if (!((touched | copied) & bits))
			continue;
		/* what is there already, and is its own, is not read to be written again */
		if (keep && is.kind == QCOW2_KIND_DATA) {
			__u32 lies = at < part->from ? part->from : at;
			__u32 ends = at + unit > part->to ? part->to : at + unit;

			start = lies < start ? lies : start;
			end = ends > end ? ends : end;
			continue;
		}
		if (at < part->from)
			ret = read_part(image, part, image->cluster + at, at,
					at + unit < part->from ? at + unit : part->from);
		if (!ret && at + unit > part->to)
			ret = read_part(image, part, image->cluster + (at > part->to ? at : part->to),
					at > part->to ? at : part->to, at + unit);
		if (ret)
			return ret;
		start = at < start ? at : start;
		end = at + unit > end ? at + unit : end;
	}
	memcpy(image->cluster + part->from, from, part->to - part->from);

	if (!keep) {
		/* a hole between two that are copied is nobody's, and is not to be the last one's */
		for (at = start; at < end; at += unit)
			if (!((touched | copied) & units(image, at, at + 1)))
				memset(image->cluster + at, 0, unit);
		ret = find_place(image, part, &place);
		if (ret)
			return ret;
	}
	ret = image->data->write(image->data, image->cluster + start, place + start, end - start);
	if (ret) {
		if (!keep && !qcow2_has_data_file(&image->layout))
			qcow2_refs_put(&image->refs, place >> image->layout.cluster_bits, 1);
		return ret;
	}

	if (subclusters) {
		bitmap = old->kind == QCOW2_KIND_COMPRESSED ? 0 : part->bitmap;
		bitmap |= touched | copied;
		bitmap &= ~((__u64)(touched | copied) << QCOW2_SUBCLUSTERS);
	}
	qcow2_table_set(&image->tables, part->table, part->nr, place | QCOW2_COPIED, bitmap);
	return keep ? 0 : lose(image, part, old);
}

/* Do all units of a part have their data in a place of their own? */
static int is_in_place(const struct qcow2_image *image, const struct part *part, bool *in_place,
		       struct qcow2_cluster *cluster)
{
	__u32 unit = unit_size(image), at;
	int ret;

	*in_place = true;
	for (at = part->from; at < part->to; at += unit - at % unit) {
		ret = kind_at(image, part, at, cluster);
		if (ret)
			return ret;
		if (cluster->kind != QCOW2_KIND_DATA ||
		    (!cluster->copied && !qcow2_has_data_file(&image->layout)))
			*in_place = false;
	}
	return 0;
}

int qcow2_image_write(struct qcow2_image *image, const void *from, __u64 pos, size_t bytes)
{
	struct qcow2_cluster cluster;
	struct part part;
	bool in_place;
	int ret = qcow2_image_begin(image);

	if (ret)
		return ret;
	while (bytes) {
		part = part_at(image, pos, bytes);
		ret = look_up(image, &part, true);
		if (!ret)
			ret = is_in_place(image, &part, &in_place, &cluster);
		if (ret)
			return ret;
		if (in_place)
			ret = image->data->write(image->data, from, cluster.offset + part.from,
						 part.to - part.from);
		else
			ret = write_anew(image, &part, &cluster, from);
		if (ret)
			return ret;
		from += part.to - part.from;
		pos += part.to - part.from;
		bytes -= part.to - part.from;
	}
	return 0;
}

/* Write zeroes, as data: many at once, from where direct I/O can be from. */
static int write_zeroes(struct qcow2_image *image, __u64 pos, __u64 bytes)
{
	static const __u8 zeroes[64U << 10] __attribute__((aligned(4096)));
	int ret = 0;

	while (!ret && bytes) {
		__u64 nr = bytes < sizeof(zeroes) ? bytes : sizeof(zeroes);

		ret = qcow2_image_write(image, zeroes, pos, nr);
		pos += nr;
		bytes -= nr;
	}
	return ret;
}

/* Does all of a part read as zeroes without a look at any data? */
static int is_zero(const struct qcow2_image *image, const struct part *part, bool *zero)
{
	__u32 unit = unit_size(image), at;
	struct qcow2_cluster cluster;
	int ret;

	*zero = true;
	for (at = part->from; *zero && at < part->to; at += unit - at % unit) {
		ret = kind_at(image, part, at, &cluster);
		if (ret)
			return ret;
		*zero = cluster.kind == QCOW2_KIND_ZERO ||
			(cluster.kind == QCOW2_KIND_UNALLOCATED && !image->backing);
	}
	return 0;
}

/* Zero a whole cluster by its entry. */
static int zero_cluster(struct qcow2_image *image, struct part *part, bool unmap)
{
	bool subclusters = image->layout.entry_bits == 4, keep;
	struct qcow2_cluster old;
	__u64 entry = 0;
	int ret = kind_at(image, part, 0, &old);

	if (ret)
		return ret;
	keep = !unmap && image->layout.version > 2 && old.allocated &&
	       (old.copied || qcow2_has_data_file(&image->layout));
	if (keep)
		entry = old.offset | QCOW2_COPIED;
	if (!subclusters && (keep || image->backing))
		entry |= QCOW2_ZERO;
	qcow2_table_set(&image->tables, part->table, part->nr, entry, subclusters ? ALL_ZERO : 0);
	if (keep)
		return 0;
	if (qcow2_has_data_file(&image->layout) && old.allocated)
		image->data->discard(image->data, old.offset, qcow2_cluster_size(&image->layout));
	return lose(image, part, &old);
}

/* The whole subclusters of a part, by their bitmap. Return: bytes at its start and end left. */
static int zero_subclusters(struct qcow2_image *image, struct part *part, __u32 *head, __u32 *tail)
{
	__u32 unit = unit_size(image);
	__u32 from = (part->from + unit - 1) / unit * unit, to = part->to / unit * unit, bits;
	struct qcow2_cluster old;
	int ret = kind_at(image, part, 0, &old);

	*head = part->to - part->from;
	*tail = 0;
	if (ret || from >= to || old.kind == QCOW2_KIND_COMPRESSED)
		return ret;
	*head = from - part->from;
	*tail = part->to - to;
	bits = units(image, from, to);
	qcow2_table_set(&image->tables, part->table, part->nr, part->entry,
			(part->bitmap & ~(__u64)bits) | (__u64)bits << QCOW2_SUBCLUSTERS);
	return 0;
}

static int zero_part(struct qcow2_image *image, struct part *part, bool unmap)
{
	__u64 start = part->cluster << image->layout.cluster_bits;
	bool whole = part->from == 0 && (part->to == qcow2_cluster_size(&image->layout) ||
					 start + part->to == image->layout.size);
	__u32 head = part->to - part->from, tail = 0;
	bool zero;
	int ret = look_up(image, part, false);

	if (!ret)
		ret = is_zero(image, part, &zero);
	if (ret || (zero && !is_raw(image) && !(whole && unmap && part->entry)))
		return ret;
	ret = look_up(image, part, true);
	if (ret)
		return ret;
	/* version 2 has no zeroes; a raw data file has to have them */
	if (whole && !is_raw(image) && (image->layout.version > 2 || !image->backing))
		return zero_cluster(image, part, unmap);
	if (image->layout.entry_bits == 4 && !is_raw(image))
		ret = zero_subclusters(image, part, &head, &tail);
	if (!ret)
		ret = write_zeroes(image, start + part->from, head);
	if (!ret)
		ret = write_zeroes(image, start + part->to - tail, tail);
	return ret;
}

int qcow2_image_zero(struct qcow2_image *image, __u64 pos, __u64 bytes, bool unmap)
{
	struct part part;
	int ret = qcow2_image_begin(image);

	while (!ret && bytes) {
		part = part_at(image, pos, bytes);
		ret = zero_part(image, &part, unmap);
		pos += part.to - part.from;
		bytes -= part.to - part.from;
	}
	return ret;
}
