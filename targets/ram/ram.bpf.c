// SPDX-License-Identifier: GPL-2.0
/*
 * ram: a disk whose data lies in a BPF map, and nowhere else. It is gone with the
 * device, not with its server.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "ublk_bpf.bpf.h"
#include "ram.h"

#define EIO		5
#define EOPNOTSUPP	95

#define SECTOR	512
#define STEP	256	/* pages a call */

struct page {
	__u8 data[RAM_PAGE];
};

/* The server makes it as large as the device. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct page);
} pages SEC(".maps");

static int copy(struct ublk_bpf_io *io, __u32 off, void *data, __u32 data__sz, bool write)
{
	return write ? ublk_bpf_payload_read(io, off, data, data__sz) :
		       ublk_bpf_payload_write(io, off, data, data__sz);
}

/*
 * Copy what an I/O has of one page from byte @off of it on. Whole sectors, one after
 * the other, for an I/O that is not of whole pages.
 * Return: bytes, or a negative errno.
 */
static int copy_page(struct ublk_bpf_io *io, __u64 pos, __u32 off, __u32 left, bool write)
{
	__u32 key = pos / RAM_PAGE, at = pos % RAM_PAGE, done;
	struct page *page = bpf_map_lookup_elem(&pages, &key);
	int err;

	if (!page)
		return -EIO;
	if (!at && left >= RAM_PAGE)
		return copy(io, off, page, RAM_PAGE, write) ?: RAM_PAGE;
	for (done = 0; done < left && at < RAM_PAGE; done += SECTOR, at += SECTOR) {
		err = copy(io, off + done, page->data + (at & (RAM_PAGE - SECTOR)), SECTOR, write);
		if (err)
			return err;
	}
	return done;
}

static unsigned long copy_io(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod,
			     __u32 off, bool write)
{
	__u32 bytes = iod->nr_sectors << 9, done = off;
	__u64 pos = iod->start_sector << 9;
	int ret;

	for (int i = 0; i < STEP && done < bytes; i++) {
		ret = copy_page(io, pos + done, done, bytes - done, write);
		if (ret < 0)
			return ublk_bpf_fail_io(io, ret);
		done += ret;
	}
	if (done < bytes)
		return ublk_bpf_return_val(UBLK_BPF_IO_CONTINUE, done - off);
	ublk_bpf_complete_io(io, bytes);
	return ublk_bpf_return_val(UBLK_BPF_IO_QUEUED, 0);
}

/* Zeroes instead of what an I/O covers, a sector or a page at a time. */
static unsigned long clear_io(struct ublk_bpf_io *io, const struct ublksrv_io_desc *iod, __u32 off)
{
	static const struct page zeroes;
	__u32 bytes = iod->nr_sectors << 9, done = off;
	__u64 pos = iod->start_sector << 9;

	for (int i = 0; i < STEP && done < bytes; i++) {
		__u32 key = (pos + done) / RAM_PAGE, at = (pos + done) % RAM_PAGE;
		struct page *page = bpf_map_lookup_elem(&pages, &key);

		if (!page)
			return ublk_bpf_fail_io(io, -EIO);
		if (!at && bytes - done >= RAM_PAGE) {
			bpf_probe_read_kernel(page, RAM_PAGE, &zeroes);
			done += RAM_PAGE;
		} else {
			bpf_probe_read_kernel(page->data + (at & (RAM_PAGE - SECTOR)), SECTOR, &zeroes);
			done += SECTOR;
		}
	}
	if (done < bytes)
		return ublk_bpf_return_val(UBLK_BPF_IO_CONTINUE, done - off);
	ublk_bpf_complete_io(io, bytes);
	return ublk_bpf_return_val(UBLK_BPF_IO_QUEUED, 0);
}

unsigned long UBLK_BPF_STRUCT_OPS(ram_queue_io_cmd, struct ublk_bpf_io *io, unsigned int off)
{
	const struct ublksrv_io_desc *iod = ublk_bpf_get_iod(io);

	if (!iod)
		return ublk_bpf_fail_io(io, -EIO);
	switch (iod->op_flags & 0xff) {
	case UBLK_IO_OP_READ:
		return copy_io(io, iod, off, false);
	case UBLK_IO_OP_WRITE:
		return copy_io(io, iod, off, true);
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		return clear_io(io, iod, off);
	default:
		return ublk_bpf_fail_io(io, -EOPNOTSUPP);
	}
}

char _license[] SEC("license") = "GPL";

UBLK_BPF_OPS(ram_ops,
	.queue_io_cmd	= (void *)ram_queue_io_cmd,
);
