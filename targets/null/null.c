// SPDX-License-Identifier: GPL-2.0
/* null, server half: describes the device; serves it only with --server. */
#include <errno.h>
#include <stdlib.h>
#include "ublk_bpf.h"
#include "null.h"
#include "null.skel.h"

static int null_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	ublk_bpf_dev_set_size(dev, args->size ? args->size : NULL_DEFAULT_BYTES);
	return 0;
}

static int null_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	struct null_bpf *skel = null_bpf__open();

	if (!skel)
		return -errno;
	ublk_bpf_dev_set_priv(dev, skel);
	*obj = skel->obj;
	return 0;
}

static void null_close_program(struct ublk_bpf_dev *dev)
{
	null_bpf__destroy(ublk_bpf_dev_priv(dev));
	ublk_bpf_dev_set_priv(dev, NULL);
}

static int null_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			  const struct ublksrv_io_desc *iod, void *buf)
{
	return null_result(iod->op_flags, iod->nr_sectors);
}

const struct ublk_bpf_target target_null = {
	.name		= "null",
	.help		= "throws writes away and reads zeroes or old data; the fastest there is",
	.options	= UBLK_BPF_OPT_SIZE | UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_SERVER |
			  UBLK_BPF_OPT_FALLBACK,
	.init		= null_init,
	.open_program	= null_open_program,
	.close_program	= null_close_program,
	.handle_io	= null_handle_io,
};
