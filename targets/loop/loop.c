// SPDX-License-Identifier: GPL-2.0
/* loop, server half: opens the backing; serves it only with --server. */
#include <errno.h>
#include "ublk_bpf.h"
#include "loop.h"
#include "loop.skel.h"

static int loop_reload(struct ublk_bpf_dev *dev)
{
	ublk_bpf_dev_set_size(dev, ublk_bpf_dev_backing(dev, LOOP_SLOT)->bytes);
	return 0;
}

static int loop_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	int ret = ublk_bpf_dev_open_backings(dev);

	return ret ? ret : loop_reload(dev);
}

static int loop_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	struct loop_bpf *skel = loop_bpf__open();

	if (!skel)
		return -errno;
	ublk_bpf_dev_set_priv(dev, skel);
	skel->rodata->loop_start = ublk_bpf_dev_backing(dev, LOOP_SLOT)->start;
	*obj = skel->obj;
	return 0;
}

static void loop_close_program(struct ublk_bpf_dev *dev)
{
	loop_bpf__destroy(ublk_bpf_dev_priv(dev));
	ublk_bpf_dev_set_priv(dev, NULL);
}

static int loop_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			  const struct ublksrv_io_desc *iod, void *buf)
{
	return ublk_bpf_backing_io(ublk_bpf_dev_backing(dev, LOOP_SLOT), iod, buf);
}

const struct ublk_bpf_target target_loop = {
	.name		= "loop",
	.help		= "a file or block device, or a part of one (-f)",
	.options	= UBLK_BPF_OPT_FILE | UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_SERVER |
			  UBLK_BPF_OPT_FALLBACK | UBLK_BPF_OPT_BUFFERED,
	.init		= loop_init,
	.open_program	= loop_open_program,
	.close_program	= loop_close_program,
	.handle_io	= loop_handle_io,
	.reload		= loop_reload,
};
