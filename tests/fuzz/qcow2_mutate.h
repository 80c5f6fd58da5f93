/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Changes of an image in memory, each of one field of its metadata to what lies on a boundary:
 * of a number, of the file, of another part of the metadata.
 */
#ifndef TESTS_FUZZ_QCOW2_MUTATE_H
#define TESTS_FUZZ_QCOW2_MUTATE_H

#include <stdbool.h>
#include <string.h>
#include "fuzz.h"
#include "targets/qcow2/format.h"

/**
 * struct mutant - an image that is changed
 * @bytes:	it
 * @size:	bytes of the file
 * @layout:	what its header said before
 * @has_layout:	it said something
 * @choices:	what decides
 */
struct mutant {
	__u8 *bytes;
	__u64 size;
	struct qcow2_layout layout;
	bool has_layout;
	struct choices *choices;
};

/* What a field is, which decides what it is changed to. */
enum field_kind { FIELD_NUMBER, FIELD_BITS, FIELD_PLACE, FIELD_ENTRY };

struct field {
	__u16 at;
	__u8 bytes;
	enum field_kind kind;
};

static const struct field header_fields[] = {
	{ 4, 4, FIELD_NUMBER },		/* version */
	{ 8, 8, FIELD_PLACE },		/* backing file's name */
	{ 16, 4, FIELD_NUMBER },	/* its bytes */
	{ 20, 4, FIELD_NUMBER },	/* cluster bits */
	{ 24, 8, FIELD_NUMBER },	/* size */
	{ 32, 4, FIELD_NUMBER },	/* encryption */
	{ 36, 4, FIELD_NUMBER },	/* L1 entries */
	{ 40, 8, FIELD_PLACE },		/* L1 table */
	{ 48, 8, FIELD_PLACE },		/* refcount table */
	{ 56, 4, FIELD_NUMBER },	/* its clusters */
	{ 60, 4, FIELD_NUMBER },	/* snapshots */
	{ 64, 8, FIELD_PLACE },		/* snapshot table */
	{ 72, 8, FIELD_BITS },		/* incompatible features */
	{ 80, 8, FIELD_BITS },		/* compatible ones */
	{ 88, 8, FIELD_BITS },		/* autoclear ones */
	{ 96, 4, FIELD_NUMBER },	/* refcount order */
	{ 100, 4, FIELD_NUMBER },	/* header bytes */
	{ 104, 1, FIELD_NUMBER },	/* compression */
};

static const struct field snapshot_fields[] = {
	{ 0, 8, FIELD_PLACE },		/* L1 table */
	{ 8, 4, FIELD_NUMBER },		/* its entries */
	{ 12, 2, FIELD_NUMBER },	/* bytes of the id */
	{ 14, 2, FIELD_NUMBER },	/* of the name */
	{ 36, 4, FIELD_NUMBER },	/* of extra data */
};

static const struct field bitmap_fields[] = {
	{ 0, 8, FIELD_PLACE },		/* table */
	{ 8, 4, FIELD_NUMBER },		/* its entries */
	{ 12, 4, FIELD_BITS },		/* flags */
	{ 16, 1, FIELD_NUMBER },	/* type */
	{ 17, 1, FIELD_NUMBER },	/* granularity */
	{ 18, 2, FIELD_NUMBER },	/* bytes of the name */
	{ 20, 4, FIELD_NUMBER },	/* of extra data */
};

#define MUTATE_NR(fields) (sizeof(fields) / sizeof((fields)[0]))

static inline __u64 mutate_get(const struct mutant *mutant, __u64 at, unsigned int bytes)
{
	__u64 value = 0;

	if (at > mutant->size || bytes > mutant->size - at)
		return 0;
	while (bytes--)
		value = value << 8 | mutant->bytes[at++];
	return value;
}

static inline void mutate_put(struct mutant *mutant, __u64 at, unsigned int bytes, __u64 value)
{
	if (at > mutant->size || bytes > mutant->size - at)
		return;
	for (; bytes--; value >>= 8)
		mutant->bytes[at + bytes] = value;
}

static inline __u64 mutate_cluster(const struct mutant *mutant)
{
	return mutant->has_layout ? qcow2_cluster_size(&mutant->layout) : 512;
}

/* A number at the boundary of something; those beside it are too. */
static inline __u64 mutate_number(struct mutant *mutant, unsigned int bytes, __u64 was)
{
	static const __u64 values[] = {
		0, 1, 2, 3, 8, 9, 16, 21, 72, 104, 112, 255, 512, 1023, 4096, 0x7fff, 0xffff,
		65536, 1 << 20, 4 << 20, 8 << 20, 0x7fffffff, 0x80000000, 0xffffffff,
		1ULL << 32, 1ULL << 53, 1ULL << 55, 1ULL << 56, 1ULL << 61, 1ULL << 62,
		1ULL << 63, ~0ULL,
	};
	__u64 value = choose(mutant->choices, 4) ?
		      values[choose(mutant->choices, MUTATE_NR(values))] :
		      1ULL << choose(mutant->choices, bytes * 8);

	switch (choose(mutant->choices, 8)) {
	case 0: return was + 1;
	case 1: return was - 1;
	case 2: return was * 2;
	case 3: return was / 2;
	case 4: return value + 1;
	case 5: return value - 1;
	default: return value;
	}
}

/* One of the bits that are known mostly. */
static inline __u64 mutate_bits(struct mutant *mutant, __u64 was)
{
	return was ^ 1ULL << choose(mutant->choices, choose(mutant->choices, 2) ? 6 : 64);
}

/* Where something else is, or the file or what can be a place ends. */
static inline __u64 mutate_place(struct mutant *mutant, __u64 was)
{
	const struct qcow2_layout *layout = &mutant->layout;
	__u64 size = mutate_cluster(mutant), nr = mutant->size / size;
	__u64 place;

	switch (choose(mutant->choices, 16)) {
	case 0: place = 0; break;
	case 1: place = layout->l1.offset; break;
	case 2: place = layout->reftable.offset; break;
	case 3: place = layout->snapshots_offset; break;
	case 4: place = layout->bitmaps.offset; break;
	case 5: place = mutate_get(mutant, layout->l1.offset, 8) & QCOW2_OFFSET; break;
	case 6: place = mutate_get(mutant, layout->reftable.offset, 8); break;
	case 7: place = nr * size; break;
	case 8: place = (nr - 1) * size; break;
	case 9: place = QCOW2_MAX_OFFSET; break;
	case 10: place = QCOW2_MAX_OFFSET - size; break;
	case 11: place = 1ULL << choose(mutant->choices, 64); break;
	case 12: place = was; break;
	default: place = choose(mutant->choices, nr + 2) * size; break;
	}
	switch (choose(mutant->choices, 8)) {
	case 0: return place + size;
	case 1: return place - size;
	case 2: return place + 512;
	case 3: return place + 1;
	default: return place;
	}
}

/* Flags, a place, or both. */
static inline __u64 mutate_entry(struct mutant *mutant, __u64 was)
{
	static const unsigned int flags[] = { 63, 62, 61, 56, 55, 8, 1, 0 };
	unsigned int what = choose(mutant->choices, 4);
	__u64 value = was;

	if (what == 3)
		return mutate_number(mutant, 8, was);
	if (what)
		value = (was & ~QCOW2_OFFSET) | mutate_place(mutant, was & QCOW2_OFFSET);
	if (what != 1)
		value ^= 1ULL << flags[choose(mutant->choices, MUTATE_NR(flags))];
	return value;
}

static inline void mutate_field(struct mutant *mutant, __u64 base, const struct field *field)
{
	__u64 was = mutate_get(mutant, base + field->at, field->bytes), value = was;

	switch (field->kind) {
	case FIELD_NUMBER: value = mutate_number(mutant, field->bytes, was); break;
	case FIELD_BITS: value = mutate_bits(mutant, was); break;
	case FIELD_PLACE: value = mutate_place(mutant, was); break;
	case FIELD_ENTRY: value = mutate_entry(mutant, was); break;
	}
	mutate_put(mutant, base + field->at, field->bytes, value);
}

static inline void mutate_header(struct mutant *mutant)
{
	mutate_field(mutant, 0, &header_fields[choose(mutant->choices, MUTATE_NR(header_fields))]);
}

/* Type, length or some of the data of a header extension. */
static inline void mutate_extension(struct mutant *mutant)
{
	static const __u32 types[] = {
		0, 0xe2792aca, 0x6803f857, 0x23852875, 0x0537be77, 0x44415441, 0xffffffff,
	};
	unsigned int nr = choose(mutant->choices, 4), what = choose(mutant->choices, 4);
	__u64 at = mutant->layout.header_bytes, length;
	const struct field field = { 0, 8, FIELD_PLACE };

	for (;; nr--, at += 8 + ((length + 7) & ~7ULL)) {
		length = mutate_get(mutant, at + 4, 4);
		if (!nr || !mutate_get(mutant, at, 4))
			break;
	}
	if (what == 0)
		mutate_put(mutant, at, 4, types[choose(mutant->choices, MUTATE_NR(types))]);
	else if (what == 1)
		mutate_put(mutant, at + 4, 4, mutate_number(mutant, 4, length));
	else if (what == 2)
		mutate_put(mutant, at + 8 + choose(mutant->choices, length), 1,
			   choose(mutant->choices, 256));
	else
		mutate_field(mutant, at + 8 + choose(mutant->choices, length / 8) * 8, &field);
}

/* A name, of which any byte may be the end of a string. */
static inline void mutate_name(struct mutant *mutant)
{
	const struct qcow2_extent *name = choose(mutant->choices, 2) ? &mutant->layout.backing :
								       &mutant->layout.data_file;

	if (name->bytes)
		mutate_put(mutant, name->offset + choose(mutant->choices, name->bytes), 1,
			   choose(mutant->choices, 3) ? 0 : choose(mutant->choices, 256));
}

/* An 8-byte entry of a table, one that is not 0 if that is found soon. */
static inline __u64 mutate_find(struct mutant *mutant, __u64 table, __u64 bytes)
{
	unsigned int tries = 8;
	__u64 at;

	do {
		at = table + choose(mutant->choices, bytes / 8) * 8;
	} while (!mutate_get(mutant, at, 8) && --tries);
	return at;
}

static inline void mutate_table(struct mutant *mutant, __u64 table, __u64 bytes)
{
	const struct field field = { 0, 8, FIELD_ENTRY };

	mutate_field(mutant, mutate_find(mutant, table, bytes), &field);
}

static inline void mutate_l1(struct mutant *mutant)
{
	mutate_table(mutant, mutant->layout.l1.offset, mutant->layout.l1.bytes);
}

/* An L2 table of the L1 table in @l1. */
static inline void mutate_l2_of(struct mutant *mutant, const struct qcow2_extent *l1)
{
	__u64 entry = mutate_get(mutant, mutate_find(mutant, l1->offset, l1->bytes), 8);

	if (entry & QCOW2_OFFSET)
		mutate_table(mutant, entry & QCOW2_OFFSET, mutate_cluster(mutant));
}

static inline void mutate_l2(struct mutant *mutant)
{
	mutate_l2_of(mutant, &mutant->layout.l1);
}

static inline void mutate_reftable(struct mutant *mutant)
{
	mutate_table(mutant, mutant->layout.reftable.offset, mutant->layout.reftable.bytes);
}

/* The count of one of the clusters that the file has, more or less. */
static inline void mutate_refcount(struct mutant *mutant)
{
	__u64 size = mutate_cluster(mutant);
	__u64 cluster = choose(mutant->choices, mutant->size / size + 2);
	__u32 entries = qcow2_refblock_entries(&mutant->layout);
	__u64 block = mutate_get(mutant, mutant->layout.reftable.offset + cluster / entries * 8, 8);
	__u64 most = qcow2_max_refcount(&mutant->layout), was;
	const __u64 values[] = { 0, 1, 2, most, most - 1, most / 2 };

	if (!block || block > mutant->size || size > mutant->size - block)
		return;
	was = qcow2_get_refcount(&mutant->layout, mutant->bytes + block, cluster % entries);
	qcow2_put_refcount(&mutant->layout, mutant->bytes + block, cluster % entries,
			   choose(mutant->choices, 3) ? values[choose(mutant->choices, 6)] & most :
						       (was + 1) & most);
}

/* One of the entries of a table whose entries are as long as they say. */
static inline __u64 mutate_walk(struct mutant *mutant, __u64 at, __u32 nr, __u32 head, __u32 names,
				__u32 extra)
{
	for (nr = choose(mutant->choices, nr < 8 ? nr : 8); nr; nr--) {
		__u64 bytes = head + mutate_get(mutant, at + names, 2) +
			      mutate_get(mutant, at + extra, 4);

		if (head == 40)
			bytes += mutate_get(mutant, at + names + 2, 2);
		at += (bytes + 7) & ~7ULL;
	}
	return at;
}

/* The snapshot table, a snapshot's L1 table, or an L2 table of that. */
static inline void mutate_snapshot(struct mutant *mutant)
{
	struct qcow2_extent l1;
	__u64 at;

	if (!mutant->layout.nr_snapshots)
		return;
	at = mutate_walk(mutant, mutant->layout.snapshots_offset, mutant->layout.nr_snapshots, 40,
			 12, 36);
	l1.offset = mutate_get(mutant, at, 8);
	l1.bytes = 8 * mutate_get(mutant, at + 8, 4);
	switch (choose(mutant->choices, 4)) {
	case 0: mutate_table(mutant, l1.offset, l1.bytes); break;
	case 1: mutate_l2_of(mutant, &l1); break;
	default:
		mutate_field(mutant, at, &snapshot_fields[choose(mutant->choices,
								 MUTATE_NR(snapshot_fields))]);
	}
}

/* The bitmap directory, or the table of a bitmap. */
static inline void mutate_bitmap(struct mutant *mutant)
{
	__u64 at;

	if (!mutant->layout.nr_bitmaps)
		return;
	at = mutate_walk(mutant, mutant->layout.bitmaps.offset, mutant->layout.nr_bitmaps, 24, 18,
			 20);
	if (choose(mutant->choices, 3))
		mutate_field(mutant, at, &bitmap_fields[choose(mutant->choices,
							       MUTATE_NR(bitmap_fields))]);
	else
		mutate_table(mutant, mutate_get(mutant, at, 8), 8 * mutate_get(mutant, at + 8, 4));
}

/* The file ends earlier. */
static inline void mutate_end(struct mutant *mutant)
{
	__u64 size = mutate_cluster(mutant), less = choose(mutant->choices, 4) * size +
		     (choose(mutant->choices, 2) ? choose(mutant->choices, size) : 0);

	if (!choose(mutant->choices, 4))
		mutant->size -= less < mutant->size ? less : 0;
}

/* Change a few fields of an image. Return: how long it is now, no more than it was. */
static inline __u64 qcow2_mutate(void *bytes, __u64 size, struct choices *choices)
{
	static void (*const ways[])(struct mutant *mutant) = {
		mutate_header, mutate_header, mutate_extension, mutate_name, mutate_l1, mutate_l1,
		mutate_l2, mutate_l2, mutate_l2, mutate_reftable, mutate_refcount, mutate_refcount,
		mutate_snapshot, mutate_bitmap, mutate_end,
	};
	struct mutant mutant = { .bytes = bytes, .size = size, .choices = choices };
	unsigned int nr = 1 + choose(choices, 3);
	struct qcow2_why why;

	mutant.has_layout = !qcow2_parse_header(bytes, size, &mutant.layout, &why);
	for (; nr; nr--)
		if (mutant.has_layout)
			ways[choose(choices, MUTATE_NR(ways))](&mutant);
		else if (size >= 112)
			mutate_header(&mutant);
	return mutant.size;
}

#endif
