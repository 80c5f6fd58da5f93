// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2, server half: the metadata, and all I/O that the mapping in memory has no place for.
 * One thread a queue; the engine is used by one of them at a time.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "device.h"
#include "given.h"
#include "qcow2.skel.h"

static int qcow2_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	struct qcow2_device *device = qcow2_device_of(dev);
	struct qcow2_bpf *skel = qcow2_bpf__open();

	if (!skel)
		return -errno;
	device->skel = skel;
	skel->rodata->geometry = device->geometry;
	skel->rodata->qcow2_depth = ublk_bpf_dev_depth(dev);
	*obj = skel->obj;
	return qcow2_maps_resize(skel->obj, dev, &device->layout, device->cache);
}

static void qcow2_close_program(struct ublk_bpf_dev *dev)
{
	struct qcow2_device *device = qcow2_device_of(dev);

	if (device && device->skel)
		qcow2_bpf__destroy(device->skel);
	if (device)
		device->skel = NULL;
}

void qcow2_tell_program(struct qcow2_device *device)
{
	const struct qcow2_image *image = device->image;
	struct qcow2_shared *shared = device->maps.shared;
	/* in a data file a cluster has its own place, whether that is there yet or not */
	__u64 end = device->geometry.own_data ? QCOW2_MAX_OFFSET :
		    image ? image->guard.end << device->layout.cluster_bits : 0;
	bool stopped = !image || qcow2_image_stopped(image);

	if (end > device->limit)
		end = device->limit;
	__atomic_store_n(&shared->end, end, __ATOMIC_RELEASE);
	__atomic_store_n(&shared->dirty, stopped || image->tables.mapped, __ATOMIC_SEQ_CST);
	__atomic_store_n(&shared->writes, !stopped && image->begun, __ATOMIC_SEQ_CST);
	if (!image)
		return;
	shared->fills = device->before.fills + image->tables.loads;
	shared->evictions = device->before.evictions + image->tables.evictions;
	shared->allocations = device->before.allocations + image->refs.allocations;
	shared->leaks = device->before.leaks + image->tables.leaks;
}

/*
 * Is all of an I/O in place, by a table that is in memory? Then its tag uses that.
 * Called with device->lock.
 */
static bool give_back(struct qcow2_device *device, const struct ublksrv_io_desc *iod, __u32 *tag)
{
	const struct qcow2_geometry *geometry = &device->geometry;
	__u64 pos = iod->start_sector << 9, end = pos + ((__u64)iod->nr_sectors << 9), size, entry, bitmap;
	__u32 l1 = qcow2_map_l1(geometry, pos), bytes;
	bool write = ublksrv_get_op(iod) == UBLK_IO_OP_WRITE;
	struct qcow2_table *table;

	if (iod->op_flags & UBLK_IO_F_FUA || (write && qcow2_image_begin(device->image)) ||
	    qcow2_tables_get(&device->image->tables, l1, &table) || !table ||
	    device->maps.memory.index[l1] != table->nr + 1)
		return false;
	for (size = qcow2_cluster_size(&device->layout); pos < end; pos += bytes) {
		bytes = size - (pos & (size - 1));
		if (bytes > end - pos)
			bytes = end - pos;
		entry = qcow2_table_entry(&device->image->tables, table,
					  qcow2_map_word(geometry, pos) / geometry->entry_words, &bitmap);
		if (qcow2_map_place(geometry, device->maps.shared->end, entry, bitmap, pos, bytes,
				    write) == ~0ULL)
			return false;
	}
	qcow2_tell_program(device);
	__atomic_fetch_add(&device->maps.memory.users[table->nr], 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(tag, (table->nr + 1) | QCOW2_GIVEN, __ATOMIC_SEQ_CST);
	device->given[tag - device->maps.tags] = true;
	return true;
}

void qcow2_wait_for_given(struct ublk_bpf_dev *dev, struct qcow2_device *device)
{
	qcow2_wait_until_taken(device->given, device->maps.tags,
			       ublk_bpf_dev_nr_queues(dev) * device->depth);
}

/*
 * The server has an I/O: what was its tag? If another I/O's that was not released, because
 * the program went away, that has ended by now. Return: the program had no table for this one.
 */
static bool take_tag(struct qcow2_device *device, __u32 *tag)
{
	__u32 was = __atomic_exchange_n(tag, 0, __ATOMIC_SEQ_CST);

	if (was && was != QCOW2_WANTED)
		__atomic_fetch_sub(&device->maps.memory.users[(was & ~QCOW2_GIVEN) - 1], 1, __ATOMIC_SEQ_CST);
	return was == QCOW2_WANTED;
}

/* Whole clusters only: what is left of others stays. */
static int discard(struct qcow2_device *device, __u64 pos, __u64 bytes)
{
	__u64 size = qcow2_cluster_size(&device->layout), end = pos + bytes;
	__u64 from = (pos + size - 1) & ~(size - 1), to = end & ~(size - 1);

	if (qcow2_zeroes_are_data(device))
		return 0;
	if (end == device->layout.size)
		to = end;
	return from < to ? qcow2_image_zero(device->image, from, to - from, true) : 0;
}

static int serve(struct ublk_bpf_dev *dev, struct qcow2_device *device,
		 const struct ublksrv_io_desc *iod, void *buf)
{
	const struct ublk_bpf_args *args = ublk_bpf_dev_args(dev);
	__u64 pos = iod->start_sector << 9, bytes = (__u64)iod->nr_sectors << 9;
	unsigned int op = ublksrv_get_op(iod);
	int ret;

	if (op != UBLK_IO_OP_READ && op != UBLK_IO_OP_FLUSH) {
		/* before a program can write by what changes now, and a flush come for that */
		__atomic_store_n(&device->maps.shared->dirty, 1, __ATOMIC_SEQ_CST);
		qcow2_wait_for_given(dev, device);
	}
	switch (op) {
	case UBLK_IO_OP_READ:
		return qcow2_image_read(device->image, buf, pos, bytes);
	case UBLK_IO_OP_WRITE:
		ret = qcow2_image_write(device->image, buf, pos, bytes);
		break;
	case UBLK_IO_OP_FLUSH:
		return qcow2_image_flush(device->image);
	case UBLK_IO_OP_DISCARD:
		ret = discard(device, pos, bytes);
		break;
	case UBLK_IO_OP_WRITE_ZEROES:
		ret = qcow2_image_zero(device->image, pos, bytes,
				       !(iod->op_flags & UBLK_IO_F_NOUNMAP));
		break;
	default:
		return -EOPNOTSUPP;
	}
	/* without a program there is no memory that outlives us */
	if (!ret && (iod->op_flags & UBLK_IO_F_FUA || (args->server && args->recover)))
		ret = qcow2_image_flush(device->image);
	return ret;
}

void qcow2_tell_user(struct ublk_bpf_dev *dev, const struct qcow2_device *device)
{
	const struct qcow2_image *image = device->image;
	const char *corrupt = image ? qcow2_image_corrupt(image) : NULL;
	int failed = image ? image->tables.failed ?: image->refs.failed : 0;

	if (corrupt)
		ublk_bpf_dev_warn(dev, "writes fail: %s", corrupt);
	else if (failed)
		ublk_bpf_dev_warn(dev,
			"writes fail, since a flush has failed (%s): what was written after the last one that did not may be lost; delete it and run qemu-img check",
			strerror(-failed));
}

static int qcow2_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int nr,
			   const struct ublksrv_io_desc *iod, void *buf)
{
	struct qcow2_device *device = qcow2_device_of(dev);
	__u32 *tag = &device->maps.tags[queue * device->depth + nr];
	unsigned int op = ublksrv_get_op(iod);
	bool wanted = take_tag(device, tag);
	int ret;

	pthread_mutex_lock(&device->lock);
	device->maps.shared->misses += op == UBLK_IO_OP_READ || op == UBLK_IO_OP_WRITE;
	if (!device->image) {	/* a reload has failed, and said why */
		ret = -EIO;
		goto out;
	}
	if (wanted && (op == UBLK_IO_OP_READ || op == UBLK_IO_OP_WRITE) &&
	    give_back(device, iod, tag)) {
		ret = -EAGAIN;
	} else {
		ret = serve(dev, device, iod, buf);
		qcow2_tell_program(device);
		qcow2_tell_user(dev, device);
	}
out:
	pthread_mutex_unlock(&device->lock);
	return ret ?: (int)(iod->nr_sectors << 9);
}

static int qcow2_counters(unsigned int dev_id, struct ublk_bpf_counter *counters, unsigned int max)
{
	struct qcow2_shared shared = {};
	__u64 hits;
	int ret = qcow2_maps_read_counts(dev_id, &shared, &hits);
	const struct ublk_bpf_counter all[] = {
		{ .name = "hits", .value = hits, .of_next = true },
		{ .name = "misses", .value = shared.misses },
		{ .name = "fills", .value = shared.fills },
		{ .name = "evictions", .value = shared.evictions },
		{ .name = "allocations", .value = shared.allocations },
		{ .name = "leaks", .value = shared.leaks },
	};
	unsigned int i;

	for (i = 0; !ret && i < max && i < sizeof(all) / sizeof(all[0]); i++)
		counters[i] = all[i];
	return ret ?: (int)i;
}

static const struct ublk_bpf_option qcow2_options[] = {
	{ "b", "FILE", "a file that the image, or one below it, may lie over, wherever it is (qcow2)" },
	{ "allow", "DIR", "they may lie over what is in DIR, or below (qcow2)" },
	{ "cache", "SIZE", "bytes of the mapping that are in memory; default 32M (qcow2)",
	  ublk_bpf_parse_size, "a size such as 32M is needed: a number, and k, M, G, T or nothing" },
	{}
};

const struct ublk_bpf_target target_qcow2 = {
	.name		= "qcow2",
	.help		= "the disk in a qcow2 image (-f)",
	.options	= UBLK_BPF_OPT_FILE | UBLK_BPF_OPT_WHOLE | UBLK_BPF_OPT_READ_ONLY |
			  UBLK_BPF_OPT_SERVER | UBLK_BPF_OPT_FALLBACK,
	.own_options	= qcow2_options,
	.init		= qcow2_init,
	.open_program	= qcow2_open_program,
	.close_program	= qcow2_close_program,
	.prepare	= qcow2_prepare,
	.handle_io	= qcow2_handle_io,
	.pause		= qcow2_pause,
	.reload		= qcow2_reload,
	.counters	= qcow2_counters,
	.deinit		= qcow2_deinit,
};
