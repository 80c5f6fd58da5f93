// SPDX-License-Identifier: LGPL-2.1-or-later
/* What has changed behind a device that is used: another size, another file. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "internal.h"

static int set_slot(struct ublk_bpf_dev *dev, int fd, __u32 flags)
{
	int ret;

	if (dev->args->buffered)
		flags |= UBLK_BPF_SLOT_BUFFERED;
	/* half of it is worse than a wait for the old one's I/O */
	ublk_bpf_ctrl_set_timeout(dev->ctrl, 0);
	ret = ublk_bpf_set_slot(dev->ctrl, dev->info.dev_id, 0, fd, flags);
	ublk_bpf_ctrl_set_timeout(dev->ctrl, CTRL_SECONDS);
	return ret;
}

/* The driver has a new one: from now on the queues have, too, by the old one's descriptor. */
static int switch_descriptor(struct ublk_bpf_dev *dev, int to, int from)
{
	int ret = 0;

	queues_pause(dev);
	if (dup3(to, from, O_CLOEXEC) < 0)
		ret = ublk_bpf_dev_fail(dev, -errno, "cannot change the descriptor: %s",
					strerror(errno));
	queues_resume(dev);
	return ret;
}

/* What was read from the old one, by a queue until it had the new one, too. */
static int drop_cache(struct ublk_bpf_dev *dev)
{
	int ret = set_slot(dev, dev->backings[0].fd, UBLK_BPF_SLOT_DROP_CACHE);

	if (ret)
		ublk_bpf_dev_fail(dev, ret,
			"it is done, but what was read before may be in memory: %s; do it once more",
			strerror(-ret));
	return ret;
}

/* Let another file be the only backing. @block: what the disk's size is a multiple of. */
static int replace_backing(struct ublk_bpf_dev *dev, const struct ublk_bpf_file *file,
			   unsigned int block)
{
	struct ublk_bpf_backing *old = &dev->backings[0], b = {};
	struct stat st;
	int ret;

	if (!(dev->info.flags & UBLK_F_BPF))
		return ublk_bpf_dev_fail(dev, -EOPNOTSUPP,
			"it has no program, only those can change their file; delete it and add it again");
	if (dev->nr_backings != 1)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"it has %u files, only the one of one can be changed", dev->nr_backings);
	b.fd = backing_claim(dev, file->path, dev->args->read_only, &st);
	if (b.fd < 0)
		return b.fd;
	ret = backing_measure(dev, file, &st, &b);
	if (!ret && b.start != old->start)
		ret = ublk_bpf_dev_fail(dev, -EINVAL,
			"it would start at byte %llu, its program knows of %llu; use start=%llu",
			b.start, old->start, old->start);
	if (!ret && b.bytes % block)
		ret = ublk_bpf_dev_fail(dev, -EINVAL,
			"its %llu bytes are no multiple of the device's block size %u; use length=%llu",
			b.bytes, block, b.bytes / block * block);
	if (!ret) {
		ret = set_slot(dev, b.fd, 0);
		if (ret == -EINVAL)
			ublk_bpf_dev_fail(dev, ret,
				"it cannot take all that the device lets in (smaller blocks, flushes, discards); delete the device and add it again");
		else if (ret == -ELOOP)
			ublk_bpf_dev_fail(dev, ret,
				"it leads back to this device, or is a stack of more than 16 devices");
		else if (ret)
			ublk_bpf_dev_fail(dev, ret, "the driver does not take it: %s",
					  strerror(-ret));
	}
	if (!ret)
		ret = switch_descriptor(dev, b.fd, old->fd);
	close(b.fd);
	if (ret)
		return ret;
	b.fd = old->fd;
	*old = b;
	return 0;
}

/* Their size may be another one. */
static int measure_again(struct ublk_bpf_dev *dev)
{
	unsigned int i;

	for (i = 0; i < dev->nr_backings; i++) {
		struct ublk_bpf_backing b = dev->backings[i];
		struct stat st;
		int ret;

		if (fstat(b.fd, &st))
			return ublk_bpf_dev_fail(dev, -errno, "cannot stat %s: %s",
						 dev->args->files[i].path, strerror(errno));
		ret = backing_measure(dev, &dev->args->files[i], &st, &b);
		if (ret)
			return ret;
		dev->backings[i].bytes = b.bytes;
	}
	return 0;
}

static int tell_size(struct ublk_bpf_dev *dev)
{
	__u64 bytes = dev->params.basic.dev_sectors << 9;
	int ret = ublk_bpf_set_disk_size(dev->ctrl, dev->info.dev_id, bytes);

	if (ret == -EOPNOTSUPP)
		return ublk_bpf_dev_fail(dev, ret,
			"it has no program, only those can change their size; delete it and add it again");
	if (ret)
		return ublk_bpf_dev_fail(dev, ret,
			"the driver does not take the new size of %llu bytes: %s",
			bytes, strerror(-ret));
	return 0;
}

static int get_params(struct ublk_bpf_dev *dev, struct ublk_params *params)
{
	int ret = ublk_bpf_get_params(dev->ctrl, dev->info.dev_id, params);

	return ret < 0 ? ublk_bpf_dev_fail(dev, ret, "the driver does not tell its size: %s",
					   strerror(-ret)) : 0;
}

static int check_target(struct ublk_bpf_dev *dev)
{
	if (dev->target->reload)
		return 0;
	return ublk_bpf_dev_fail(dev, -EOPNOTSUPP,
		"a %s device has nothing to reload; delete it and add it again", dev->target->name);
}

int ublk_bpf_dev_pause(struct ublk_bpf_dev *dev)
{
	int ret = check_target(dev);

	return ret || !dev->target->pause ? ret : dev->target->pause(dev);
}

int ublk_bpf_dev_reload(struct ublk_bpf_dev *dev, const struct ublk_bpf_file *file)
{
	struct ublk_params now;
	int ret = check_target(dev);

	if (ret)
		return ret;
	if (file && dev->target->options & UBLK_BPF_OPT_WHOLE)
		return ublk_bpf_dev_fail(dev, -EOPNOTSUPP,
			"a %s device keeps its file; delete it and add it again", dev->target->name);
	/* a file that was recovered may have smaller blocks than the disk */
	if (file)
		ret = get_params(dev, &now) ?: replace_backing(dev, file, 1U << now.basic.logical_bs_shift);
	else
		ret = dev->target->options & UBLK_BPF_OPT_WHOLE ? 0 : measure_again(dev);
	if (ret)
		return ret;
	/* if it was paused this comes before all that may wait for its I/O */
	ret = dev->target->reload(dev);
	if (!ret) {
		forget_trouble(dev);
		ret = get_params(dev, &now);
	}
	if (!ret && dev->params.basic.dev_sectors != now.basic.dev_sectors)
		ret = tell_size(dev);
	if (!ret && file)
		ret = drop_cache(dev);
	return ret && file ? 1 : ret;
}
