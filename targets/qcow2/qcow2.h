/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * What the program and the server of a qcow2 device share: where the mapping is in memory, and
 * where an I/O goes by it. Pure, so that it is tested on the host.
 *
 * An I/O lies within one L2 table: the device's chunk size sees to that. For each I/O that the
 * program sends by a table it adds one to the table's users, and looks whether the index still
 * names it; it takes that away when the I/O is released: tables.h says what that is for.
 *
 * Where there is no table, the server gets the I/O, with a word that it is wanted. When it has
 * found that all of the I/O is in place, it gives it back (-EAGAIN), using the table in the
 * name of the I/O, so that it stays. Being sent to the server again would fail the I/O: until
 * the program has taken it (QCOW2_GIVEN), nothing that was in place ceases to be.
 */
#ifndef TARGET_QCOW2_H
#define TARGET_QCOW2_H

#include <linux/types.h>

#define QCOW2_SLOT		0	/* the image */
#define QCOW2_DATA_SLOT		1	/* its data file, if it has one */
#define QCOW2_MAX_IO_CLUSTERS	16	/* of an I/O: as many ranges are possible */

/* Of a tag: the number of the table that its I/O uses, and one; 0: none. */
#define QCOW2_WANTED		(1U << 31)	/* or: it would use one if it were there */
#define QCOW2_GIVEN		(1U << 30)	/* and: the program has not sent it yet */

/**
 * struct qcow2_geometry - what of an image the program has to know
 * @cluster_bits:	of a cluster's bytes
 * @entry_words:	of an L2 entry: 2 with subclusters
 * @data_slot:		where clusters are: the image, or its data file
 * @own_data:		they are in a data file, each at its own place
 */
struct qcow2_geometry {
	__u32 cluster_bits;
	__u32 entry_words;
	__u32 data_slot;
	__u32 own_data;
};

/**
 * struct qcow2_shared - what changes while the device is used
 * @end:	no cluster that is used is behind this byte of the data's file
 * @dirty:	the mapping in memory is newer than what a flush has made last: a flush, or a
 *		write that is one, is the server's
 * @writes:	the program may write: the file says by now that it is being changed
 * @misses:	reads and writes that were not in place, or of which that was not known
 * @fills:	tables that were read
 * @evictions:	tables that have left memory
 * @allocations: clusters
 * @leaks:	clusters that are not needed any more, and will not be used again
 * @below:	what the image lies over, see qcow2_chain_identity(); as what follows it is for
 *		the next server, not for the program
 * @kind:	what of the image must stay as it is
 * @size:	of the disk, which does not become smaller
 * @failed:	the error of a flush, or of what else was lost: nobody goes on with it; 0: none
 */
struct qcow2_shared {
	__u64 end;
	__u32 dirty;
	__u32 writes;
	__u64 misses;
	__u64 fills;
	__u64 evictions;
	__u64 allocations;
	__u64 leaks;
	__u64 below;
	__u64 kind;
	__u64 size;
	__u64 failed;
};

/* Of an entry's first word, in the machine's order: see format.h, which no program can include. */
#define QCOW2_MAP_COPIED	(1ULL << 63)
#define QCOW2_MAP_OFFSET	0x00fffffffffffe00ULL

/* L2 entries of a table, as a power of two. */
static inline __u32 qcow2_map_entries_bits(const volatile struct qcow2_geometry *geometry)
{
	return geometry->cluster_bits - 2 - geometry->entry_words;
}

/* The L1 entry for byte @pos. */
static inline __u32 qcow2_map_l1(const volatile struct qcow2_geometry *geometry, __u64 pos)
{
	return pos >> (geometry->cluster_bits + qcow2_map_entries_bits(geometry));
}

/* Where the entry for byte @pos is in its table, in words. */
static inline __u32 qcow2_map_word(const volatile struct qcow2_geometry *geometry, __u64 pos)
{
	__u32 mask = (1U << qcow2_map_entries_bits(geometry)) - 1;

	return (pos >> geometry->cluster_bits & mask) * geometry->entry_words;
}

/**
 * qcow2_map_place() - where a part of a cluster is read or written in place
 * @geometry:	of the image
 * @end:	of the data's file
 * @entry:	the L2 entry's first word
 * @bitmap:	its second, with subclusters
 * @pos:	of the disk, where the part begins
 * @bytes:	how long it is; it ends with the cluster at last
 * @write:	it is to be written
 *
 * Return: its place in the data's file; ~0: it has none, or not all of it has, or it is
 * shared, or cannot be meant.
 */
static inline __u64 qcow2_map_place(const volatile struct qcow2_geometry *geometry, __u64 end, __u64 entry,
				    __u64 bitmap, __u64 pos, __u32 bytes, int write)
{
	__u64 size = 1ULL << geometry->cluster_bits, in = pos & (size - 1);
	__u64 place = entry & QCOW2_MAP_OFFSET, units;
	__u32 unit_bits = geometry->cluster_bits - 5;

	/* neither compressed nor zeroes, nor anything else */
	if (entry & ~(QCOW2_MAP_COPIED | QCOW2_MAP_OFFSET) || place & (size - 1))
		return ~0ULL;
	if (!(entry & QCOW2_MAP_COPIED) && (write || !place))
		return ~0ULL;
	if (geometry->own_data ? place != pos - in : !place)
		return ~0ULL;
	if (geometry->entry_words == 2) {
		units = (2ULL << ((in + bytes - 1) >> unit_bits)) - (1ULL << (in >> unit_bits));
		if ((bitmap & units) != units || bitmap & bitmap >> 32 & 0xffffffff)
			return ~0ULL;
	}
	if (place >= end || size > end - place)
		return ~0ULL;
	return place + in;
}

#endif
