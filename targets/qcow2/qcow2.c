// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2, server half: the metadata, and all I/O that the mapping in memory has no place for.
 * One thread a queue; the engine is used by one of them at a time.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ublk_bpf.h"
#include "chain.h"
#include "file.h"
#include "image.h"
#include "lock.h"
#include "maps.h"
#include "qcow2.h"
#include "qcow2.skel.h"
#include "why.h"

#define DEFAULT_CACHE	(32U << 20)
#define MAX_CACHE	(16ULL << 30)
#define MAX_CLEAR_BYTES	(1U << 30)
#define WAIT_US		20
#define MAX_WAITS	50000

struct device {
	struct qcow2_bpf *skel;
	struct qcow2_file file, data;
	struct qcow2_chain *chain;
	struct qcow2_layout layout;
	__u64 cache;		/* bytes */
	__u64 limit;		/* where whole clusters end on a block device */
	struct qcow2_maps maps;
	struct qcow2_geometry geometry;
	bool *given;		/* by tag: by this server, once at least */
	unsigned int depth;
	pthread_mutex_t lock;	/* of all below */
	struct qcow2_image *image;
};

static struct device *device_of(const struct ublk_bpf_dev *dev)
{
	return ublk_bpf_dev_priv(dev);
}

/* The largest power of two of sectors that is within one L2 table and has few clusters. */
static unsigned int chunk_sectors(const struct qcow2_layout *layout)
{
	__u64 most = QCOW2_MAX_IO_CLUSTERS * qcow2_cluster_size(layout);
	__u64 reach = 1ULL << qcow2_l2_reach_bits(layout);

	return (most < reach ? most : reach) >> 9;
}

static int describe(struct ublk_bpf_dev *dev, struct device *device)
{
	struct qcow2_file *data = device->data.bounce ? &device->data : &device->file;
	struct ublk_params *params = ublk_bpf_dev_params(dev);
	__u64 cluster = qcow2_cluster_size(&device->layout);
	unsigned int logical = 512, physical = 4096, i;

	for (i = 0; i < ublk_bpf_dev_nr_backings(dev); i++) {
		const struct ublk_bpf_backing *backing = ublk_bpf_dev_backing(dev, i);

		logical = backing->logical_block > logical ? backing->logical_block : logical;
		physical = backing->physical_block > physical ? backing->physical_block : physical;
	}
	if (cluster < logical || device->layout.size % logical)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"direct I/O on it needs blocks of %u bytes, its clusters of %llu or its disk of %llu are none; put it on another file system",
			logical, cluster, device->layout.size);
	if (!device->layout.size)
		return ublk_bpf_dev_fail(dev, -EINVAL, "its disk has no bytes; qemu-img resize gives it some");
	ublk_bpf_dev_set_block_size(dev, logical, physical);
	ublk_bpf_dev_set_size(dev, device->layout.size);
	params->basic.chunk_sectors = chunk_sectors(&device->layout);
	params->basic.attrs |= UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
	params->types |= UBLK_PARAM_TYPE_DISCARD;
	params->discard.discard_granularity = cluster;
	params->discard.max_discard_sectors = MAX_CLEAR_BYTES >> 9;
	params->discard.max_write_zeroes_sectors = MAX_CLEAR_BYTES >> 9;
	params->discard.max_discard_segments = 1;
	device->limit = QCOW2_MAX_OFFSET;
	if (data->is_block)
		device->limit = data->blk.size(&data->blk) & ~(cluster - 1);
	device->geometry = (struct qcow2_geometry){
		.cluster_bits	= device->layout.cluster_bits,
		.entry_words	= device->layout.entry_bits == 4 ? 2 : 1,
		.data_slot	= device->data.bounce ? QCOW2_DATA_SLOT : QCOW2_SLOT,
		.own_data	= !!device->data.bounce,
	};
	return 0;
}

/* Nobody else may use the image, or a file of its, as we do. */
static int lock(struct ublk_bpf_dev *dev, int fd, bool read_only)
{
	int ret = qcow2_lock(fd, !read_only);

	if (ret == -EAGAIN)
		return ublk_bpf_dev_fail(dev, ret, read_only ?
			"somebody writes it, such as QEMU; end that use" :
			"it is in use, such as by QEMU; end that use, or share it among readers with -r");
	return ret ? ublk_bpf_dev_fail(dev, ret, "it cannot be locked: %s", strerror(-ret)) : 0;
}

/* Open, lock and measure what is backing @nr of the device. */
static int open_file(struct ublk_bpf_dev *dev, struct qcow2_file *file, unsigned int nr,
		     const char *path)
{
	bool read_only = ublk_bpf_dev_args(dev)->read_only;
	const struct ublk_bpf_backing *backing;
	int ret = ublk_bpf_dev_open_backing(dev, path, read_only);

	if (ret)
		return ret;
	backing = ublk_bpf_dev_backing(dev, nr);
	ret = lock(dev, backing->fd, read_only);
	return ret ?: qcow2_file_init(file, backing->fd, backing->logical_block, backing->is_block);
}

/* Keep a sentence: what is wrong, or else what the error is called. */
static int fail_why(struct ublk_bpf_dev *dev, int err, const struct qcow2_why *why)
{
	return ublk_bpf_dev_fail(dev, err, "%s", why->text[0] ? why->text : strerror(-err));
}

static int open_data(struct ublk_bpf_dev *dev, struct device *device,
		     const struct qcow2_trust *trust, const char *path)
{
	struct qcow2_why why = {};
	char link[32];
	int found, ret;

	if (!qcow2_has_data_file(&device->layout))
		return 0;
	found = qcow2_find_data(&device->file.blk, path, &device->layout, trust, &why);
	if (found < 0)
		return fail_why(dev, found, &why);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
	ret = open_file(dev, &device->data, QCOW2_DATA_SLOT, link);
	if (ret) {
		snprintf(why.text, sizeof(why.text), "%s", ublk_bpf_dev_error(dev));
		ublk_bpf_dev_fail(dev, ret, "its data file: %s", why.text);
	}
	close(found);
	return ret;
}

/* The texts of an option that may be repeated. */
static const char **texts_of(const struct ublk_bpf_args *args, const char *name, unsigned int *nr)
{
	const char **texts;

	for (*nr = 0; ublk_bpf_args_text(args, name, *nr); ++*nr)
		;
	texts = calloc(*nr + 1, sizeof(*texts));
	for (unsigned int i = 0; texts && i < *nr; i++)
		texts[i] = ublk_bpf_args_text(args, name, i);
	return texts;
}

/* What the image consists of beside itself. */
static int open_others(struct ublk_bpf_dev *dev, struct device *device, const char *path)
{
	const struct ublk_bpf_args *args = ublk_bpf_dev_args(dev);
	struct qcow2_trust trust = {};
	struct qcow2_why why = {};
	int ret = -ENOMEM;

	trust.files = texts_of(args, "b", &trust.nr_files);
	trust.folders = texts_of(args, "allow", &trust.nr_folders);
	if (!trust.files || !trust.folders)
		goto free;
	ret = open_data(dev, device, &trust, path);
	if (ret)
		goto free;
	ret = qcow2_chain_open(&device->chain, device->file.fd, path, &device->file.blk,
			       &device->layout, &trust, &why);
	if (ret)
		fail_why(dev, ret, &why);
free:
	free(trust.files);
	free(trust.folders);
	return ret;
}

static int qcow2_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	struct device *device = calloc(1, sizeof(*device));
	const char *path = args->files[0].path;
	struct qcow2_why why = {};
	char link[32];
	int ret;

	if (!device)
		return -ENOMEM;
	ublk_bpf_dev_set_priv(dev, device);
	pthread_mutex_init(&device->lock, NULL);
	device->cache = ublk_bpf_args_get(args, "cache", DEFAULT_CACHE);
	if (device->cache > MAX_CACHE)
		return ublk_bpf_dev_fail(dev, -EINVAL, "a cache of %llu bytes is too large; at most 16G can be had",
					 device->cache);
	ret = open_file(dev, &device->file, QCOW2_SLOT, path);
	if (ret)
		return ret;
	ret = qcow2_read_header(&device->file.blk, &device->layout, &why);
	if (ret)
		return fail_why(dev, ret, &why);
	/* the path may be another file's by now */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", device->file.fd);
	ret = open_others(dev, device, link);
	return ret ?: describe(dev, device);
}

static int qcow2_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	struct device *device = device_of(dev);
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
	struct device *device = device_of(dev);

	if (device && device->skel)
		qcow2_bpf__destroy(device->skel);
	if (device)
		device->skel = NULL;
}

/* What the program may know of the image, after something was done to it. */
static void tell_program(struct device *device)
{
	/* in a data file a cluster has its own place, whether that is there yet or not */
	__u64 end = device->geometry.own_data ? QCOW2_MAX_OFFSET :
		    device->image->guard.end << device->layout.cluster_bits;
	bool stopped = qcow2_image_corrupt(device->image) || device->image->tables.failed ||
		       device->image->refs.failed;

	if (end > device->limit)
		end = device->limit;
	__atomic_store_n(&device->maps.shared->end, end, __ATOMIC_RELEASE);
	__atomic_store_n(&device->maps.shared->dirty, device->image->tables.mapped || stopped,
			 __ATOMIC_SEQ_CST);
	__atomic_store_n(&device->maps.shared->writes, device->image->begun && !stopped, __ATOMIC_SEQ_CST);
	device->maps.shared->fills = device->image->tables.loads;
	device->maps.shared->evictions = device->image->tables.evictions;
	device->maps.shared->allocations = device->image->refs.allocations;
	device->maps.shared->leaks = device->image->tables.leaks;
}

/* Open what is in the device's files, after @layout, in memory that the program sees. */
static int open_image(struct ublk_bpf_dev *dev, struct device *device, const struct qcow2_layout *layout,
		      struct qcow2_image *image, struct qcow2_why *why)
{
	if (!qcow2_maps_suffice(&device->maps, layout))
		return refuse(why, -EFBIG,
			      "its disk has grown by more than a device in use has room for; delete it and add it again");
	return qcow2_image_open(image, &device->file.blk, device->data.bounce ? &device->data.blk : NULL,
				qcow2_chain_blk(device->chain), layout, &device->maps.memory,
				ublk_bpf_dev_args(dev)->read_only, why);
}

/* What the image lies over is locked by its server only: while there is none it may change. */
static int check_below(struct ublk_bpf_dev *dev, struct device *device)
{
	__u64 *was = &device->maps.shared->below, now = qcow2_chain_identity(device->chain);

	if (*was && *was != now)
		return ublk_bpf_dev_fail(dev, -ESTALE,
			"what it lies over is not what it was when its server died, and may read otherwise; delete the device and add it again");
	*was = now;
	return 0;
}

static int qcow2_prepare(struct ublk_bpf_dev *dev)
{
	struct device *device = device_of(dev);
	int ret = qcow2_maps_open(&device->maps, dev, &device->layout, device->cache);
	struct qcow2_image *image;
	struct qcow2_why why = {};

	if (!ret)
		ret = check_below(dev, device);
	if (ret)
		return ret;
	device->depth = ublk_bpf_dev_depth(dev);
	device->given = calloc(ublk_bpf_dev_nr_queues(dev) * device->depth, sizeof(*device->given));
	image = calloc(1, sizeof(*image));
	ret = device->given && image ? open_image(dev, device, &device->layout, image, &why) : -ENOMEM;
	if (ret) {
		free(image);
		return fail_why(dev, ret, &why);
	}
	device->image = image;
	tell_program(device);
	return 0;
}

/*
 * Is all of an I/O in place, by a table that is in memory? Then its tag uses that.
 * Called with device->lock.
 */
static bool give_back(struct device *device, const struct ublksrv_io_desc *iod, __u32 *tag)
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
	tell_program(device);
	__atomic_fetch_add(&device->maps.memory.users[table->nr], 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(tag, (table->nr + 1) | QCOW2_GIVEN, __ATOMIC_SEQ_CST);
	device->given[tag - device->maps.tags] = true;
	return true;
}

/*
 * Wait until the program has taken what was given back to it: that needs the tables as they
 * are. Their threads do no more than tell the driver, so it is not long. Called with
 * device->lock, so that nothing more is given. Those of a server that died may stay, but
 * what comes of them has not been the server's since; and if the program is gone, so will all.
 */
static void wait_for_given(struct ublk_bpf_dev *dev, struct device *device)
{
	unsigned int nr = ublk_bpf_dev_nr_queues(dev) * device->depth, i, waits = 0;

	for (i = 0; i < nr; i++)
		while (device->given[i] && waits++ < MAX_WAITS &&
		       __atomic_load_n(&device->maps.tags[i], __ATOMIC_SEQ_CST) & QCOW2_GIVEN)
			usleep(WAIT_US);
}

/*
 * The server has an I/O: what was its tag? If another I/O's that was not released, because
 * the program went away, that has ended by now. Return: the program had no table for this one.
 */
static bool take_tag(struct device *device, __u32 *tag)
{
	__u32 was = __atomic_exchange_n(tag, 0, __ATOMIC_SEQ_CST);

	if (was && was != QCOW2_WANTED)
		__atomic_fetch_sub(&device->maps.memory.users[(was & ~QCOW2_GIVEN) - 1], 1, __ATOMIC_SEQ_CST);
	return was == QCOW2_WANTED;
}

/* Whole clusters only: what is left of others stays. */
static int discard(struct device *device, __u64 pos, __u64 bytes)
{
	__u64 size = qcow2_cluster_size(&device->layout), end = pos + bytes;
	__u64 from = (pos + size - 1) & ~(size - 1), to = end & ~(size - 1);

	/* it would have to be made of data: see qcow2_image_zero() */
	if ((device->layout.version == 2 && device->chain) ||
	    device->layout.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		return 0;
	if (end == device->layout.size)
		to = end;
	return from < to ? qcow2_image_zero(device->image, from, to - from, true) : 0;
}

static int serve(struct ublk_bpf_dev *dev, struct device *device,
		 const struct ublksrv_io_desc *iod, void *buf)
{
	const struct ublk_bpf_args *args = ublk_bpf_dev_args(dev);
	__u64 pos = iod->start_sector << 9, bytes = (__u64)iod->nr_sectors << 9;
	unsigned int op = ublksrv_get_op(iod);
	int ret;

	if (op != UBLK_IO_OP_READ && op != UBLK_IO_OP_FLUSH) {
		/* before a program can write by what changes now, and a flush come for that */
		__atomic_store_n(&device->maps.shared->dirty, 1, __ATOMIC_SEQ_CST);
		wait_for_given(dev, device);
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

/* What the device has ceased to do, and why. */
static void tell_user(struct ublk_bpf_dev *dev, const struct device *device)
{
	const char *corrupt = qcow2_image_corrupt(device->image);
	int failed = device->image->tables.failed ?: device->image->refs.failed;

	if (corrupt)
		ublk_bpf_dev_warn(dev, "writes fail: %s", corrupt);
	else if (failed == -ESTALE)
		ublk_bpf_dev_warn(dev, "writes fail, since its image was changed by somebody else");
	else if (failed)
		ublk_bpf_dev_warn(dev,
			"writes fail, since a flush has failed (%s): what was written after the last one that did not may be lost; delete it and run qemu-img check",
			strerror(-failed));
}

static int qcow2_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int nr,
			   const struct ublksrv_io_desc *iod, void *buf)
{
	struct device *device = device_of(dev);
	__u32 *tag = &device->maps.tags[queue * device->depth + nr];
	unsigned int op = ublksrv_get_op(iod);
	bool wanted = take_tag(device, tag);
	int ret;

	pthread_mutex_lock(&device->lock);
	device->maps.shared->misses += op == UBLK_IO_OP_READ || op == UBLK_IO_OP_WRITE;
	if (wanted && (op == UBLK_IO_OP_READ || op == UBLK_IO_OP_WRITE) &&
	    give_back(device, iod, tag)) {
		ret = -EAGAIN;
	} else {
		ret = serve(dev, device, iod, buf);
		tell_program(device);
		tell_user(dev, device);
	}
	pthread_mutex_unlock(&device->lock);
	return ret ?: (int)(iod->nr_sectors << 9);
}

static bool is_same_extent(const struct qcow2_extent *was, const struct qcow2_extent *now)
{
	return was->offset == now->offset && was->bytes == now->bytes;
}

/* Does a header say what @was did? */
static bool is_unchanged(const struct qcow2_layout *was, const struct qcow2_layout *now)
{
	return was->version == now->version && was->size == now->size &&
	       is_same_extent(&was->l1, &now->l1) && is_same_extent(&was->reftable, &now->reftable) &&
	       is_same_extent(&was->bitmaps, &now->bitmaps) && is_same_extent(&was->backing, &now->backing) &&
	       was->nr_snapshots == now->nr_snapshots && was->snapshots_offset == now->snapshots_offset &&
	       was->incompatible == now->incompatible && was->compatible == now->compatible &&
	       was->autoclear == now->autoclear;
}

/* Can a device go on with what its image has become? */
static int check_change(const struct qcow2_image *image, const struct qcow2_layout *now,
			struct qcow2_why *why)
{
	const struct qcow2_layout *was = &image->layout;
	__u64 kind = QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_SUBCLUSTERS;

	if (image->tables.mapped)
		return refuse(why, -EBUSY,
			      "it was changed while not all that was written was in it, which may be lost; delete the device and run qemu-img check");
	if (was->version != now->version || was->cluster_bits != now->cluster_bits ||
	    was->refcount_order != now->refcount_order || (was->incompatible ^ now->incompatible) & kind ||
	    (was->autoclear ^ now->autoclear) & QCOW2_AUTOCLEAR_RAW_DATA ||
	    !was->backing.bytes != !now->backing.bytes)
		return refuse(why, -EINVAL,
			      "it has become an image of another kind; delete the device and add it again");
	if (now->size < was->size)
		return refuse(why, -EINVAL,
			      "its disk has become smaller, %llu bytes; delete the device and add it again",
			      now->size);
	return 0;
}

/* Somebody else has changed the image: go on with it as @layout says it is. */
static int take_over(struct ublk_bpf_dev *dev, struct device *device, const struct qcow2_layout *layout,
		     struct qcow2_why *why)
{
	struct qcow2_image *image = calloc(1, sizeof(*image));
	int ret = image ? check_change(device->image, layout, why) : -ENOMEM;

	/* what is written by the old one's tables would harm it */
	device->image->tables.failed = -ESTALE;
	tell_program(device);
	if (!ret) {
		wait_for_given(dev, device);
		ret = qcow2_tables_forget(&device->image->tables);
		if (ret)
			refuse(why, ret, "I/O that uses its tables does not end; try again");
	}
	if (!ret)
		ret = open_image(dev, device, layout, image, why);
	if (ret) {
		free(image);
		return ret;
	}
	qcow2_image_drop(device->image);
	free(device->image);
	device->image = image;
	device->layout = *layout;
	return 0;
}

/* A larger disk, made by somebody who was allowed to: see the manual. */
static int qcow2_reload(struct ublk_bpf_dev *dev)
{
	struct device *device = device_of(dev);
	struct qcow2_layout layout;
	struct qcow2_why why = {};
	int ret;

	pthread_mutex_lock(&device->lock);
	ret = qcow2_read_header(&device->file.blk, &layout, &why);
	if (!ret && !is_unchanged(&device->image->layout, &layout))
		ret = take_over(dev, device, &layout, &why);
	if (ret)
		fail_why(dev, ret, &why);
	else
		ret = describe(dev, device);
	tell_program(device);
	pthread_mutex_unlock(&device->lock);
	return ret;
}

static int qcow2_counters(unsigned int dev_id, struct ublk_bpf_counter *counters, unsigned int max)
{
	struct qcow2_shared shared;
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

static void qcow2_deinit(struct ublk_bpf_dev *dev)
{
	struct device *device = device_of(dev);
	int ret;

	if (!device)
		return;
	ret = device->image ? qcow2_image_close(device->image) : 0;
	if (ret)
		ublk_bpf_dev_warn(dev, "its image could not be closed: %s; what was not flushed may be lost, run qemu-img check",
				  strerror(-ret));
	free(device->image);
	qcow2_maps_close(&device->maps);
	free(device->given);
	qcow2_chain_close(device->chain);
	qcow2_file_free(&device->file);
	qcow2_file_free(&device->data);
	pthread_mutex_destroy(&device->lock);
	free(device);
	ublk_bpf_dev_set_priv(dev, NULL);
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
	.reload		= qcow2_reload,
	.counters	= qcow2_counters,
	.deinit		= qcow2_deinit,
};
