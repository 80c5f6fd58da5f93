// SPDX-License-Identifier: GPL-2.0
/* null, server half: describes the device; serves it only with --server. */
#include <errno.h>
#include <stdlib.h>
#include "ublk_bpf.h"
#include "null.h"
#include "null.skel.h"

static int null_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	if (args->server && args->nr_settings)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"--delay and --error-rate are the program's; leave out --server");
	if (ublk_bpf_args_get(args, "delay", 0) > NULL_MAX_DELAY)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"--delay is at most 20s: I/O that is held for longer times out");
	ublk_bpf_dev_set_size(dev, args->size ? args->size : NULL_DEFAULT_BYTES);
	return 0;
}

static int null_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	const struct ublk_bpf_args *args = ublk_bpf_dev_args(dev);
	struct null_bpf *skel = null_bpf__open();
	int ret = 0;

	if (!skel)
		return -errno;
	ublk_bpf_dev_set_priv(dev, skel);
	skel->rodata->delay = ublk_bpf_args_get(args, "delay", 0);
	skel->rodata->error_rate = ublk_bpf_args_get(args, "error-rate", 0);
	skel->rodata->depth = ublk_bpf_dev_depth(dev);
	if (skel->rodata->delay)
		ret = bpf_map__set_max_entries(skel->maps.delayed, ublk_bpf_dev_depth(dev) *
					       ublk_bpf_dev_nr_queues(dev));
	*obj = skel->obj;
	return ret;
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

static const struct ublk_bpf_option null_options[] = {
	{ "delay", "TIME", "hold each I/O that long, such as 10ms (null)", ublk_bpf_parse_time,
	  "a time such as 10ms is needed: a number and ns, us, ms or s" },
	{ "error-rate", "SHARE", "that many I/Os fail, such as 0.1% (null)", ublk_bpf_parse_share,
	  "a share such as 0.1% is needed: 0% to 100%, with at most 9 decimals" },
	{}
};

const struct ublk_bpf_target target_null = {
	.name		= "null",
	.help		= "throws writes away and reads zeroes or old data; the fastest there is",
	.options	= UBLK_BPF_OPT_SIZE | UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_SERVER |
			  UBLK_BPF_OPT_FALLBACK,
	.own_options	= null_options,
	.init		= null_init,
	.open_program	= null_open_program,
	.close_program	= null_close_program,
	.handle_io	= null_handle_io,
};
