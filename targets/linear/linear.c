// SPDX-License-Identifier: GPL-2.0
/* linear, server half: opens the backings; serves them only with --server. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "ublk_bpf.h"
#include "linear.h"
#include "linear.skel.h"

struct linear {
	struct linear_part parts[LINEAR_MAX_PARTS];	/* by backing, which is the slot */
	struct linear_bpf *skel;
};

static int linear_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	struct linear *linear = calloc(1, sizeof(*linear));
	unsigned int i, block;
	__u64 bytes = 0;
	int ret;

	if (!linear)
		return -ENOMEM;
	ublk_bpf_dev_set_priv(dev, linear);
	if (!args->nr_files || args->nr_files > LINEAR_MAX_PARTS)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"%u files are given; name 1 to %u by -f, or put linear devices on each other",
			args->nr_files, LINEAR_MAX_PARTS);
	ret = ublk_bpf_dev_open_backings(dev);
	if (ret)
		return ret;
	block = 1U << ublk_bpf_dev_params(dev)->basic.logical_bs_shift;
	for (i = 0; i < LINEAR_MAX_PARTS; i++) {
		struct linear_part *part = &linear->parts[i];

		part->end = ~0ULL;
		if (i >= args->nr_files)
			continue;
		part->shift = ublk_bpf_dev_backing(dev, i)->start - bytes;
		bytes += ublk_bpf_dev_backing(dev, i)->bytes;
		part->end = bytes;
		if (bytes % block)
			return ublk_bpf_dev_fail(dev, -EINVAL,
				"the part of %s ends within a block of %u bytes, which others have; use lengths that are multiples of that",
				args->files[i].path, block);
	}
	ublk_bpf_dev_set_size(dev, bytes);
	return 0;
}

static int linear_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	struct linear *linear = ublk_bpf_dev_priv(dev);

	linear->skel = linear_bpf__open();
	if (!linear->skel)
		return -errno;
	memcpy((void *)linear->skel->rodata->parts, linear->parts, sizeof(linear->parts));
	linear->skel->rodata->nr_parts = ublk_bpf_dev_nr_backings(dev);
	*obj = linear->skel->obj;
	return 0;
}

static void linear_close_program(struct ublk_bpf_dev *dev)
{
	struct linear *linear = ublk_bpf_dev_priv(dev);

	if (!linear)
		return;
	linear_bpf__destroy(linear->skel);
	linear->skel = NULL;
}

static void linear_map(struct ublk_bpf_dev *dev, __u64 pos, struct ublk_bpf_piece *piece)
{
	const struct linear *linear = ublk_bpf_dev_priv(dev);
	__u32 nr = linear_find(linear->parts, pos);

	piece->backing = nr;
	piece->pos = pos + linear->parts[nr].shift - ublk_bpf_dev_backing(dev, nr)->start;
	piece->bytes = linear_bytes(&linear->parts[nr], pos, piece->bytes);
}

static int linear_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			    const struct ublksrv_io_desc *iod, void *buf)
{
	return ublk_bpf_dev_io_by_pieces(dev, iod, buf, linear_map);
}

static void linear_deinit(struct ublk_bpf_dev *dev)
{
	struct linear *linear = ublk_bpf_dev_priv(dev);

	free(linear);
	ublk_bpf_dev_set_priv(dev, NULL);
}

const struct ublk_bpf_target target_linear = {
	.name		= "linear",
	.help		= "files and block devices, or parts of them, one after the other (-f)",
	.options	= UBLK_BPF_OPT_FILES | UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_SERVER |
			  UBLK_BPF_OPT_FALLBACK,
	.init		= linear_init,
	.open_program	= linear_open_program,
	.close_program	= linear_close_program,
	.handle_io	= linear_handle_io,
	.deinit		= linear_deinit,
};
