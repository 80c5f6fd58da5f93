// SPDX-License-Identifier: GPL-2.0
/* ram, server half: describes the device. All data is in the program's map. */
#include <errno.h>
#include <bpf/libbpf.h>
#include "ublk_bpf.h"
#include "ram.h"
#include "ram.skel.h"

static int ram_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	__u64 bytes = args->size ? args->size : RAM_DEFAULT_BYTES;
	struct ublk_params *params = ublk_bpf_dev_params(dev);

	if (bytes > RAM_MAX_BYTES)
		return ublk_bpf_dev_fail(dev, -EINVAL, "%llu bytes are too many; at most 8T can be had",
					 bytes);
	params->types |= UBLK_PARAM_TYPE_DISCARD;
	params->discard.discard_granularity = RAM_PAGE;
	params->discard.max_discard_sectors = RAM_MAX_CLEAR >> 9;
	params->discard.max_write_zeroes_sectors = RAM_MAX_CLEAR >> 9;
	params->discard.max_discard_segments = 1;
	ublk_bpf_dev_set_size(dev, bytes);
	return 0;
}

static int ram_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	__u64 bytes = ublk_bpf_dev_params(dev)->basic.dev_sectors << 9;
	struct ram_bpf *skel = ram_bpf__open();

	if (!skel)
		return -errno;
	ublk_bpf_dev_set_priv(dev, skel);
	*obj = skel->obj;
	return bpf_map__set_max_entries(skel->maps.pages, (bytes + RAM_PAGE - 1) / RAM_PAGE);
}

static void ram_close_program(struct ublk_bpf_dev *dev)
{
	ram_bpf__destroy(ublk_bpf_dev_priv(dev));
	ublk_bpf_dev_set_priv(dev, NULL);
}

/* The program redirects nothing. */
static int ram_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			 const struct ublksrv_io_desc *iod, void *buf)
{
	return -EIO;
}

const struct ublk_bpf_target target_ram = {
	.name		= "ram",
	.help		= "a disk in memory, gone with the device",
	.options	= UBLK_BPF_OPT_SIZE | UBLK_BPF_OPT_READ_ONLY,
	.init		= ram_init,
	.open_program	= ram_open_program,
	.close_program	= ram_close_program,
	.handle_io	= ram_handle_io,
};
