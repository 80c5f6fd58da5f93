// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2: what the mapping in memory has a place for is read and written there, by the program;
 * the rest is the server's. See qcow2.h.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"
#include "qcow2.h"

const volatile struct qcow2_geometry geometry;
const volatile __u32 qcow2_depth;	/* tags of a queue */

struct qcow2_shared qcow2_shared SEC(".data.qcow2");

/* As many bytes as an element of an array takes at least. */
struct pair {
	__u32 word[2];
};

/* The server makes them as large as they have to be, and has them in its memory. */
struct pairs {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pair);
};

struct words {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};

/* The number of an L2 table and one, by L1 entry; 0: it is not in memory. */
struct pairs qcow2_index SEC(".maps");
/* I/Os in flight, by table. */
struct pairs qcow2_users SEC(".maps");
/* Which table an I/O uses, by tag. */
struct pairs qcow2_tags SEC(".maps");
/* What the next server has to know, should this one die: struct qcow2_owner, in words. */
struct words qcow2_owners SEC(".maps");
/* The tables, one behind the other, as they lie in the file. */
struct words qcow2_words SEC(".maps");

/* Reads and writes that were sent at once, by CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} qcow2_hits SEC(".maps");

static void count_hit(void)
{
	__u32 key = 0;
	__u64 *hits = bpf_map_lookup_elem(&qcow2_hits, &key);

	if (hits)
		++*hits;
}

/* Word @nr of a map of pairs, or NULL. */
static __always_inline volatile __u32 *word_of(void *map, __u32 nr)
{
	__u32 key = nr / 2;
	struct pair *pair = bpf_map_lookup_elem(map, &key);

	return pair ? &pair->word[nr & 1] : NULL;
}

/* What is known of the I/O's tag. NULL: never. */
static volatile __u32 *tag_of(const struct ublk_bpf_io *io)
{
	return word_of(&qcow2_tags,
		       ublk_bpf_get_queue_id(io) * qcow2_depth + ublk_bpf_get_io_tag(io));
}

static void unuse(__u32 table)
{
	volatile __u32 *users = word_of(&qcow2_users, table - 1);

	if (users)
		__sync_fetch_and_add(users, -1);
}

/* Use the table for byte @pos until the I/O is released. Return: it and one; 0: not there. */
static __u32 use_table(__u64 pos, volatile __u32 *tag)
{
	__u32 l1 = qcow2_map_l1(&geometry, pos), table;
	volatile __u32 *index = word_of(&qcow2_index, l1), *users;

	table = index ? *index : 0;
	if (*tag & QCOW2_GIVEN) {
		if (table == (*tag & ~QCOW2_GIVEN))
			return table;
		unuse(*tag & ~QCOW2_GIVEN);	/* an I/O's whose server died */
	}
	users = table ? word_of(&qcow2_users, table - 1) : NULL;
	if (!index || !users)
		goto wanted;
	__sync_fetch_and_add(users, 1);
	if (*index == table)
		return table;
	__sync_fetch_and_add(users, -1);		/* it is leaving, and does not wait for us */
wanted:
	*tag = QCOW2_WANTED;
	return 0;
}

/* The words of the entry for byte @pos, which belong together. Return: they do. */
static bool read_entry(__u32 table, __u64 pos, __u64 *entry, __u64 *bitmap)
{
	const volatile struct qcow2_geometry *g = &geometry;
	__u32 key = ((table - 1) << (g->cluster_bits - 3)) + qcow2_map_word(g, pos);
	volatile __u64 *first = bpf_map_lookup_elem(&qcow2_words, &key), *second;

	if (!first)
		return false;
	*entry = bpf_be64_to_cpu(*first);
	*bitmap = 0;
	if (g->entry_words == 1)
		return true;
	key++;
	second = bpf_map_lookup_elem(&qcow2_words, &key);
	if (!second)
		return false;
	*bitmap = bpf_be64_to_cpu(*second);
	return bpf_be64_to_cpu(*first) == *entry;
}

/* A range that is to be forwarded; none if it is empty. */
struct range {
	__u32 off, bytes;
	__u64 pos;
};

static int forward(struct ublk_bpf_io *io, const struct range *range)
{
	return range->bytes ? ublk_bpf_forward(io, range->off, range->bytes, geometry.data_slot,
					       range->pos) : 0;
}

/* Send a read or write by its table. Return: 0; else the server is to have it. */
static int send(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off, __u32 table,
		bool write)
{
	const volatile struct qcow2_geometry *g = &geometry;
	__u32 size = 1U << g->cluster_bits, bytes = iod->nr_sectors << 9, part, i;
	__u64 pos = iod->start_sector << 9, entry, bitmap, place;
	struct range range = {};
	int err = 0;

	for (i = 0; i < QCOW2_MAX_IO_CLUSTERS && off < bytes && !err; i++, off += part) {
		part = size - ((pos + off) & (size - 1));
		if (part > bytes - off)
			part = bytes - off;
		if (!read_entry(table, pos + off, &entry, &bitmap))
			return 1;
		place = qcow2_map_place(g, qcow2_shared.end, entry, bitmap, pos + off, part, write);
		if (place == ~0ULL)
			return 1;
		if (range.bytes && range.pos + range.bytes == place) {
			range.bytes += part;
			continue;
		}
		err = forward(io, &range);
		range = (struct range){ .off = off, .bytes = part, .pos = place };
	}
	if (off < bytes || err)
		return 1;
	return forward(io, &range);
}

static int flush(struct ublk_bpf_io *io)
{
	int err = ublk_bpf_forward(io, 0, 0, QCOW2_SLOT, 0);

	if (!err && geometry.data_slot != QCOW2_SLOT)
		err = ublk_bpf_forward(io, 0, 0, geometry.data_slot, 0);
	return err;
}

unsigned long UBLK_BPF_STRUCT_OPS(qcow2_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	__u32 op = iod ? iod->op_flags & 0xff : UBLK_IO_OP_DISCARD, table;
	volatile __u32 *tag = tag_of(io);
	bool given;
	int err;

	if (!iod || !tag)
		goto redirect;
	if (op == UBLK_IO_OP_FLUSH) {
		if (!qcow2_shared.dirty && !flush(io))
			return ublk_bpf_answer(io, 0);
		goto redirect;
	}
	if (op != UBLK_IO_OP_READ && op != UBLK_IO_OP_WRITE)
		goto redirect;
	if (iod->op_flags & UBLK_IO_F_FUA && qcow2_shared.dirty)
		goto redirect;
	if (op == UBLK_IO_OP_WRITE && !qcow2_shared.writes) {
		if (*tag & QCOW2_GIVEN)
			unuse(*tag & ~QCOW2_GIVEN);
		*tag = QCOW2_WANTED;
		goto redirect;
	}
	given = *tag & QCOW2_GIVEN;
	table = use_table(iod->start_sector << 9, tag);
	if (!table)
		goto redirect;
	err = send(io, iod, off, table, op == UBLK_IO_OP_WRITE);
	/* what it was sent by may not be in the file yet */
	if (iod->op_flags & UBLK_IO_F_FUA && qcow2_shared.dirty)
		err = 1;
	*tag = err ? 0 : table;
	if (!err) {
		if (!given)
			count_hit();
		return ublk_bpf_answer(io, 0);
	}
	unuse(table);	/* the server may wait until nobody uses it */
redirect:
	return ublk_bpf_return_val(UBLK_BPF_IO_REDIRECT, 0);
}

void UBLK_BPF_STRUCT_OPS(qcow2_release_io_cmd, struct ublk_bpf_io *io)
{
	volatile __u32 *tag = tag_of(io);
	__u32 table = tag ? *tag : 0;

	if (!table || table & (QCOW2_WANTED | QCOW2_GIVEN))
		return;
	*tag = 0;
	unuse(table);
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(qcow2_ops,
	.queue_io_cmd	= (void *)qcow2_queue_io_cmd,
	.release_io_cmd	= (void *)qcow2_release_io_cmd,
);
