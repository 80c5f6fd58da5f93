// SPDX-License-Identifier: GPL-2.0
/*
 * checksum: a filter over the first 64 MiB of one backing; what lies behind fails. Keeps
 * a CRC of each sector that is written in a map, and fails a read that brings something
 * else with EILSEQ:
 *
 *	ublk-bpf add prog -o checksum.bpf.o -f DISK
 *
 * Sectors that were not written since, or whose last write failed, are not checked.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"

#define SECTOR	512
#define SECTORS	(64 << 11)
#define DEPTH	4096	/* the most that a queue has; for one queue */
#define KNOWN	(1ULL << 32)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SECTORS);
	__type(key, __u32);
	__type(value, __u64);	/* with KNOWN; or 0 */
} sums SEC(".maps");

struct sector {
	__u8 data[SECTOR];
};

/* By tag: io_done of another I/O can come in the middle of this one's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEPTH);
	__type(key, __u32);
	__type(value, struct sector);
} sectors SEC(".maps");

/* What four bits come to. */
const __u32 crc_of[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
	0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
	0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

/*
 * CRC-32C. Not static: then the verifier looks at it once, and not at each call. And
 * without a question about the sum: for that it would look at each round of the loop.
 */
__noinline __u64 crc(const struct sector *sector)
{
	__u32 sum = ~0U;
	int i;

	if (!sector)
		return 0;
	bpf_for(i, 0, SECTOR) {
		sum ^= sector->data[i & (SECTOR - 1)];
		sum = sum >> 4 ^ crc_of[sum & 15];
		sum = sum >> 4 ^ crc_of[sum & 15];
	}
	return sum | KNOWN;
}

enum what { FORGET, NOTE, CHECK };

/* Do @what with the sums of @bytes that @io carries from @off on. Return: 0 or -errno. */
static int each_sector(struct ublk_bpf_io *io, __u32 off, __u32 bytes, enum what what)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	__u32 tag = ublk_bpf_get_io_tag(io);
	struct sector *sector = bpf_map_lookup_elem(&sectors, &tag);
	int i, err = 0;

	if (!iod || !sector)
		return -EIO;
	bpf_for(i, 0, bytes / SECTOR) {
		__u64 nr = iod->start_sector + off / SECTOR + i;
		__u32 key = nr < SECTORS ? nr : SECTORS;
		__u64 *sum = bpf_map_lookup_elem(&sums, &key);	/* none for SECTORS */

		if (!sum)
			return -EIO;
		if (what != FORGET)
			err = ublk_bpf_payload_read(io, off + i * SECTOR, sector, SECTOR);
		if (err)
			return err;
		if (what == CHECK && *sum && *sum != crc(sector))
			return -EILSEQ;
		if (what != CHECK)
			*sum = what == NOTE ? crc(sector) : 0;
	}
	return 0;
}

unsigned long UBLK_BPF_STRUCT_OPS(checksum_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	__u32 op = iod ? iod->op_flags & 0xff : UBLK_IO_OP_FLUSH;
	int err = 0;

	if (!iod)
		return ublk_bpf_fail_io(io, -EIO);
	if (op == UBLK_IO_OP_DISCARD || op == UBLK_IO_OP_WRITE_ZEROES)
		return ublk_bpf_fail_io(io, -EOPNOTSUPP);	/* zeroes are written instead */
	if (op == UBLK_IO_OP_WRITE)	/* what there will be is known when it is done */
		err = each_sector(io, 0, iod->nr_sectors * SECTOR, FORGET);
	if (!err)
		err = ublk_bpf_forward(io, 0, iod->nr_sectors * SECTOR, 0,
				       iod->start_sector * SECTOR);
	return ublk_bpf_answer(io, err);
}

int UBLK_BPF_STRUCT_OPS(checksum_io_done, struct ublk_bpf_io *io, unsigned int slot,
			    unsigned int off, unsigned int bytes, int res)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);
	__u32 op = iod ? iod->op_flags & 0xff : UBLK_IO_OP_FLUSH;

	if (res < 0 || (op != UBLK_IO_OP_READ && op != UBLK_IO_OP_WRITE))
		return 0;
	return each_sector(io, off, bytes, op == UBLK_IO_OP_WRITE ? NOTE : CHECK);
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(checksum_ops,
	.queue_io_cmd	= (void *)checksum_queue_io_cmd,
	.io_done	= (void *)checksum_io_done,
);
