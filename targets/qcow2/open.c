// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2: what is behind a device is opened, let go of for a while so that others may change
 * it, and closed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>
#include "device.h"
#include "lock.h"
#include "why.h"

#define DEFAULT_CACHE	(32U << 20)
#define MAX_CACHE	(16ULL << 30)
#define MAX_CLEAR_BYTES	(1U << 30)
#define MAX_ZERO_BYTES	(16U << 20)	/* where they are written: what comes meanwhile waits */

/* The largest power of two of sectors that is within one L2 table and has few clusters. */
static unsigned int chunk_sectors(const struct qcow2_layout *layout)
{
	__u64 most = QCOW2_MAX_IO_CLUSTERS * qcow2_cluster_size(layout);
	__u64 reach = 1ULL << qcow2_l2_reach_bits(layout);

	return (most < reach ? most : reach) >> 9;
}

static int describe(struct ublk_bpf_dev *dev, struct qcow2_device *device)
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
	params->discard.max_write_zeroes_sectors =
		(qcow2_zeroes_are_data(device) ? MAX_ZERO_BYTES : MAX_CLEAR_BYTES) >> 9;
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

static int open_data(struct ublk_bpf_dev *dev, struct qcow2_device *device,
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
static int open_others(struct ublk_bpf_dev *dev, struct qcow2_device *device, const char *path)
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

/* The names in the header. NULL: @why. */
static char *read_names(struct qcow2_device *device, const struct qcow2_layout *layout,
			struct qcow2_why *why)
{
	const struct qcow2_extent *extents[] = {
		&layout->backing, &layout->backing_format, &layout->data_file
	};
	char name[QCOW2_MAX_NAME + 1], *names = NULL, *more;
	int ret = 0;

	for (unsigned int i = 0; !ret && i < sizeof(extents) / sizeof(extents[0]); i++) {
		name[0] = '\0';
		if (extents[i]->bytes)
			ret = qcow2_read_name(&device->file.blk, extents[i], name, why);
		if (!ret && asprintf(&more, "%s%s\n", names ?: "", name) < 0)
			ret = refuse(why, -ENOMEM, "there is no memory for the names in it");
		if (!ret) {
			free(names);
			names = more;
		}
	}
	if (!ret)
		return names;
	free(names);
	return NULL;
}

int qcow2_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	struct qcow2_device *device = calloc(1, sizeof(*device));
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
	if (ret)
		return ret;
	device->locked = true;
	device->names = read_names(device, &device->layout, &why);
	return device->names ? describe(dev, device) : fail_why(dev, -EIO, &why);
}

/* A flush that succeeds after one that has failed, or behind what was lost, would be a lie. */
static int check_failed(struct qcow2_device *device, struct qcow2_why *why)
{
	__u64 *failed = &device->maps.shared->failed;

	if (*failed)
		return refuse(why, -EIO,
			      "its last server has lost what was not flushed (%s); delete the device and run qemu-img check",
			      strerror(*failed));
	device->file.failed = failed;
	device->data.failed = failed;
	return 0;
}

/* What the image lies over is locked by its server only: while there is none it may change. */
static int check_below(struct qcow2_device *device, struct qcow2_why *why)
{
	__u64 *was = &device->maps.shared->below, now = qcow2_chain_identity(device->chain);

	if (*was && *was != now)
		return refuse(why, -ESTALE,
			      "what it lies over is not what it was when its server died, and may read otherwise; delete the device and add it again");
	*was = now;
	return 0;
}

/* Is the image one that the program can go on with, when it was ours to no server for a while? */
static int check_kind(struct qcow2_device *device, struct qcow2_why *why)
{
	const struct qcow2_layout *layout = &device->layout;
	struct qcow2_shared *shared = device->maps.shared;
	__u64 kind = (__u64)layout->version << 32 | layout->cluster_bits << 16 | layout->entry_bits << 8 |
		     qcow2_has_data_file(layout);

	if (shared->kind && (shared->kind != kind || layout->size < shared->size))
		return refuse(why, -ESTALE,
			      "it is not the image that it was when its server died; delete the device and add it again");
	shared->kind = kind;
	shared->size = layout->size;
	return 0;
}

/* Open the image in memory that the program sees. Its header was read. Locked, or before I/O. */
static int open_image(struct ublk_bpf_dev *dev, struct qcow2_device *device, struct qcow2_why *why)
{
	struct qcow2_image *image;
	int ret;

	if (!qcow2_maps_suffice(&device->maps, &device->layout))
		return refuse(why, -EFBIG,
			      "its disk has grown by more than a device in use has room for; delete it and add it again");
	image = calloc(1, sizeof(*image));
	if (!image)
		return -ENOMEM;
	ret = qcow2_image_open(image, &device->file.blk, device->data.bounce ? &device->data.blk : NULL,
			       qcow2_chain_blk(device->chain), &device->layout, &device->maps.memory,
			       ublk_bpf_dev_args(dev)->read_only, why);
	if (ret) {
		free(image);
		return ret;
	}
	device->before = *device->maps.shared;
	device->image = image;
	qcow2_tell_program(device);
	return 0;
}

int qcow2_prepare(struct ublk_bpf_dev *dev)
{
	struct qcow2_device *device = qcow2_device_of(dev);
	int ret = qcow2_maps_open(&device->maps, dev, &device->layout, device->cache);
	struct qcow2_why why = {};

	if (ret)
		return ret;
	device->depth = ublk_bpf_dev_depth(dev);
	device->given = calloc(ublk_bpf_dev_nr_queues(dev) * device->depth, sizeof(*device->given));
	if (!device->given)
		return -ENOMEM;
	ret = check_failed(device, &why) ?: check_kind(device, &why) ?: check_below(device, &why);
	if (!ret)
		ret = open_image(dev, device, &why);
	return ret ? fail_why(dev, ret, &why) : 0;
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

/* Has nobody gone past the locks, and changed an image that we have changed, too? -ESTALE: yes. */
static int check_ours(struct qcow2_device *device, struct qcow2_why *why)
{
	const struct qcow2_image *image = device->image;
	struct qcow2_layout now;
	int ret;

	if (!image->begun || qcow2_image_stopped(image))
		return 0;
	ret = qcow2_read_header(&device->file.blk, &now, why);
	if (ret == -EINVAL || ret == -ENOTSUP || (!ret && !is_unchanged(&image->layout, &now)))
		return refuse(why, -ESTALE,
			      "somebody else has changed it while it was in use, and what was not flushed is lost; delete the device and run qemu-img check");
	return ret;
}

/*
 * Write what is to be in the image, unless that is somebody else's by now; it is closed then. If
 * something is lost by that, no other one takes its place: who was told that it is there would
 * not hear of it.
 */
static int close_image(struct qcow2_device *device, bool stale, struct qcow2_why *why)
{
	int ret = -ESTALE;

	if (stale)
		qcow2_image_drop(device->image);
	else
		ret = qcow2_image_close(device->image);
	free(device->image);
	device->image = NULL;
	if (ret && !why->text[0])
		refuse(why, ret, "not all that was written is in it (%s); delete the device and run qemu-img check",
		       strerror(-ret));
	if (ret) {
		device->lost = *why;
		device->maps.shared->failed = -ret;
	}
	return ret;
}

/* The same while the program does I/O, which has no table then. When it fails it may still be open. */
static int let_go(struct ublk_bpf_dev *dev, struct qcow2_device *device, struct qcow2_why *why)
{
	int ret = check_ours(device, why);
	bool stale = ret == -ESTALE;

	if (ret && !stale)
		return ret;
	qcow2_wait_for_given(dev, device);
	ret = stale ? 0 : qcow2_image_flush(device->image);
	if (ret)
		return refuse(why, ret, "its writes have failed, see list; delete the device and run qemu-img check");
	ret = qcow2_tables_forget(&device->image->tables, stale);
	if (ret)
		return refuse(why, ret,
			      "I/O that uses its tables does not end; try again, or delete the device");
	return close_image(device, stale, why);
}

/* A block device's page cache is the others' only: what they read is what we wrote, and back. */
static void drop_pages(const struct qcow2_file *file)
{
	if (file->is_block && ioctl(file->fd, BLKFLSBUF, 0))
		return;		/* they go when nobody has it open */
}

static void unlock_files(struct qcow2_device *device)
{
	drop_pages(&device->file);
	qcow2_unlock(device->file.fd);
	if (device->data.bounce) {
		drop_pages(&device->data);
		qcow2_unlock(device->data.fd);
	}
	device->locked = false;
}

/* Has it been removed, such as by who has put another one in its place? */
static bool is_gone(const struct qcow2_file *file)
{
	struct stat stat;

	return !fstat(file->fd, &stat) && !stat.st_nlink;
}

static int lock_files(struct ublk_bpf_dev *dev, struct qcow2_device *device)
{
	bool read_only = ublk_bpf_dev_args(dev)->read_only;
	int ret = device->locked ? 0 : lock(dev, device->file.fd, read_only);

	if (!ret && !device->locked && device->data.bounce)
		ret = lock(dev, device->data.fd, read_only);
	if (ret) {
		unlock_files(device);
		return ret;
	}
	device->locked = true;
	drop_pages(&device->file);
	drop_pages(&device->data);
	if (is_gone(&device->file) || (device->data.bounce && is_gone(&device->data)))
		return ublk_bpf_dev_fail(dev, -ENOENT,
			"another file has been put in its place; delete the device and add it again");
	return 0;
}

/* Can a device go on with what its image has become? */
static int check_change(struct qcow2_device *device, const struct qcow2_layout *now,
			struct qcow2_why *why)
{
	__u64 kind = QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_SUBCLUSTERS;
	const struct qcow2_layout *was = &device->layout;
	char *names;
	bool same;

	if (was->version != now->version || was->cluster_bits != now->cluster_bits ||
	    was->refcount_order != now->refcount_order || (was->incompatible ^ now->incompatible) & kind ||
	    (was->autoclear ^ now->autoclear) & QCOW2_AUTOCLEAR_RAW_DATA)
		return refuse(why, -EINVAL,
			      "it has become an image of another kind; delete the device and add it again");
	if (now->size < was->size)
		return refuse(why, -EINVAL,
			      "its disk has become smaller, %llu bytes; make it larger, or delete the device and add it again",
			      now->size);
	names = read_names(device, now, why);
	if (!names)
		return -EINVAL;
	same = !strcmp(names, device->names);
	free(names);
	return same ? 0 : refuse(why, -EINVAL,
				 "it names other files than before; delete the device and add it again");
}

static int open_again(struct ublk_bpf_dev *dev, struct qcow2_device *device, struct qcow2_why *why)
{
	struct qcow2_layout was = device->layout, now;
	int ret;

	if (device->lost.text[0]) {
		*why = device->lost;
		return -EIO;
	}
	ret = qcow2_read_header(&device->file.blk, &now, why);
	if (!ret)
		ret = check_change(device, &now, why);
	if (ret)
		return ret;
	device->layout = now;
	ret = open_image(dev, device, why);
	if (ret)
		device->layout = was;
	else
		device->maps.shared->size = now.size;
	return ret;
}

/* What is behind the device is another thing by now, or nothing. Called with the lock. Return: @ret. */
static int told(struct ublk_bpf_dev *dev, struct qcow2_device *device, int ret)
{
	if (ret && !device->image)
		ublk_bpf_dev_warn(dev, "its I/O fails: %s", ublk_bpf_dev_error(dev));
	qcow2_tell_program(device);
	qcow2_tell_user(dev, device);
	return ret;
}

/* I/O that needs us waits for the lock until reload. */
int qcow2_pause(struct ublk_bpf_dev *dev)
{
	struct qcow2_device *device = qcow2_device_of(dev);
	struct qcow2_why why = device->lost;
	int ret;

	pthread_mutex_lock(&device->lock);
	ret = device->image ? let_go(dev, device, &why) : why.text[0] ? -EIO : 0;
	if (ret)
		fail_why(dev, ret, &why);
	if (told(dev, device, ret)) {
		pthread_mutex_unlock(&device->lock);
		return ret;
	}
	unlock_files(device);
	device->paused = true;
	return 0;
}

/* Of an image that is open. Return: 0 it is as its header says. */
static int reload_open(struct ublk_bpf_dev *dev, struct qcow2_device *device, struct qcow2_why *why)
{
	struct qcow2_layout now;
	int ret;

	if (qcow2_image_stopped(device->image))
		return refuse(why, -EIO, "its writes have failed, see list; delete the device and run qemu-img check");
	ret = qcow2_read_header(&device->file.blk, &now, why);
	if (!ret && is_unchanged(&device->image->layout, &now))
		return 0;
	return let_go(dev, device, why) ?: open_again(dev, device, why);
}

int qcow2_reload(struct ublk_bpf_dev *dev)
{
	struct qcow2_device *device = qcow2_device_of(dev);
	struct qcow2_why why = {};
	int ret;

	if (!device->paused)
		pthread_mutex_lock(&device->lock);
	device->paused = false;
	ret = lock_files(dev, device);
	if (!ret) {
		ret = device->image ? reload_open(dev, device, &why) : open_again(dev, device, &why);
		ret = ret ? fail_why(dev, ret, &why) : describe(dev, device);
	}
	told(dev, device, ret);
	pthread_mutex_unlock(&device->lock);
	return ret;
}

void qcow2_deinit(struct ublk_bpf_dev *dev)
{
	struct qcow2_device *device = qcow2_device_of(dev);
	struct qcow2_why why = {};
	int ret;

	if (!device)
		return;
	ret = device->image ? close_image(device, check_ours(device, &why) == -ESTALE, &why) : 0;
	if (ret)
		ublk_bpf_dev_warn(dev, "its image could not be closed: %s", why.text);
	qcow2_maps_close(&device->maps);
	free(device->given);
	free(device->names);
	qcow2_chain_close(device->chain);
	qcow2_file_free(&device->file);
	qcow2_file_free(&device->data);
	pthread_mutex_destroy(&device->lock);
	free(device);
	ublk_bpf_dev_set_priv(dev, NULL);
}
