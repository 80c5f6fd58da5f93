// SPDX-License-Identifier: GPL-2.0
/* loop, server half: opens the backing; serves it only with --server. */
#include <errno.h>
#include <stdlib.h>
#include "ublk_bpf.h"
#include "loop.h"
#include "loop.skel.h"

struct loop {
	struct ublk_bpf_backing backing;
	struct loop_bpf *skel;
};

static int loop_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	struct ublk_bpf_backing *b;
	int ret;

	if (!loop)
		return -ENOMEM;
	ublk_bpf_dev_set_priv(dev, loop);
	b = &loop->backing;
	ret = ublk_bpf_backing_open(dev, LOOP_SLOT, &args->files[0], args->read_only, b);
	if (ret)
		return ret;
	/* The backing may have a cache: a flush has to reach it. */
	ublk_bpf_dev_params(dev)->basic.attrs |= UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
	ublk_bpf_dev_set_block_size(dev, b->logical_block, b->physical_block);
	ublk_bpf_dev_set_size(dev, b->bytes);
	return 0;
}

static int loop_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	struct loop *loop = ublk_bpf_dev_priv(dev);

	loop->skel = loop_bpf__open();
	if (!loop->skel)
		return -errno;
	loop->skel->rodata->loop_start = loop->backing.start;
	*obj = loop->skel->obj;
	return 0;
}

static void loop_close_program(struct ublk_bpf_dev *dev)
{
	struct loop *loop = ublk_bpf_dev_priv(dev);

	if (!loop)
		return;
	loop_bpf__destroy(loop->skel);
	loop->skel = NULL;
}

static int loop_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			  const struct ublksrv_io_desc *iod, void *buf)
{
	struct loop *loop = ublk_bpf_dev_priv(dev);

	return ublk_bpf_backing_io(&loop->backing, iod, buf);
}

static void loop_deinit(struct ublk_bpf_dev *dev)
{
	struct loop *loop = ublk_bpf_dev_priv(dev);

	if (!loop)
		return;
	ublk_bpf_backing_close(&loop->backing);
	free(loop);
	ublk_bpf_dev_set_priv(dev, NULL);
}

const struct ublk_bpf_target target_loop = {
	.name		= "loop",
	.help		= "a file or block device, or a part of one (-f)",
	.options	= UBLK_BPF_OPT_FILE | UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_SERVER |
			  UBLK_BPF_OPT_FALLBACK,
	.init		= loop_init,
	.open_program	= loop_open_program,
	.close_program	= loop_close_program,
	.handle_io	= loop_handle_io,
	.deinit		= loop_deinit,
};
