// SPDX-License-Identifier: GPL-2.0
/* stripe, server half: opens the backings; serves them only with --server. */
#include <errno.h>
#include <stdlib.h>
#include "ublk_bpf.h"
#include "stripe.h"
#include "stripe.skel.h"

#define STRIPE_DEFAULT_CHUNK	(64ULL << 10)
#define STRIPE_MAX_CHUNK	(512ULL << 20)

struct stripe {
	struct stripe_shape shape;
	struct stripe_bpf *skel;
};

/* As many whole chunks of each as the smallest has. Return: 0: not one. */
static __u64 usable_bytes(const struct ublk_bpf_dev *dev, const struct stripe_shape *shape)
{
	__u64 least = ~0ULL;
	unsigned int i;

	for (i = 0; i < shape->nr; i++)
		if (ublk_bpf_dev_backing(dev, i)->bytes < least)
			least = ublk_bpf_dev_backing(dev, i)->bytes;
	return (least >> shape->chunk_shift << shape->chunk_shift) * shape->nr;
}

static int stripe_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	__u64 chunk = ublk_bpf_args_get(args, "chunk", STRIPE_DEFAULT_CHUNK);
	struct stripe *stripe = calloc(1, sizeof(*stripe));
	struct ublk_param_basic *basic;
	__u64 bytes;
	int ret;

	if (!stripe)
		return -ENOMEM;
	ublk_bpf_dev_set_priv(dev, stripe);
	if (args->nr_files < 2 || args->nr_files > STRIPE_MAX_BACKINGS)
		return ublk_bpf_dev_fail(dev, -EINVAL, "%u files are given; name 2 to %u by -f",
					 args->nr_files, STRIPE_MAX_BACKINGS);
	if (chunk < 4096 || chunk > STRIPE_MAX_CHUNK || chunk & (chunk - 1))
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"a chunk is a power of two from 4k to 512M; use --chunk 64k");
	stripe->shape.nr = args->nr_files;
	stripe->shape.chunk_shift = __builtin_ctzll(chunk);
	ret = ublk_bpf_dev_open_backings(dev);
	if (ret)
		return ret;
	bytes = usable_bytes(dev, &stripe->shape);
	if (!bytes)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"a file is smaller than a chunk of %llu bytes; use a smaller --chunk", chunk);
	basic = &ublk_bpf_dev_params(dev)->basic;
	basic->chunk_sectors = chunk >> 9;
	basic->io_opt_shift = stripe->shape.chunk_shift;
	ublk_bpf_dev_set_size(dev, bytes);
	return 0;
}

static int stripe_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	struct stripe *stripe = ublk_bpf_dev_priv(dev);
	unsigned int i;

	stripe->skel = stripe_bpf__open();
	if (!stripe->skel)
		return -errno;
	stripe->skel->rodata->shape = stripe->shape;
	for (i = 0; i < stripe->shape.nr; i++)
		stripe->skel->rodata->starts[i] = ublk_bpf_dev_backing(dev, i)->start;
	*obj = stripe->skel->obj;
	return 0;
}

static void stripe_close_program(struct ublk_bpf_dev *dev)
{
	struct stripe *stripe = ublk_bpf_dev_priv(dev);

	if (!stripe)
		return;
	stripe_bpf__destroy(stripe->skel);
	stripe->skel = NULL;
}

static void stripe_map(struct ublk_bpf_dev *dev, __u64 pos, struct ublk_bpf_piece *piece)
{
	const struct stripe *stripe = ublk_bpf_dev_priv(dev);

	piece->backing = stripe_find(&stripe->shape, pos, &piece->pos);
	piece->bytes = stripe_bytes(&stripe->shape, pos, piece->bytes);
}

static int stripe_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			    const struct ublksrv_io_desc *iod, void *buf)
{
	return ublk_bpf_dev_io_by_pieces(dev, iod, buf, stripe_map);
}

static void stripe_deinit(struct ublk_bpf_dev *dev)
{
	struct stripe *stripe = ublk_bpf_dev_priv(dev);

	free(stripe);
	ublk_bpf_dev_set_priv(dev, NULL);
}

static const struct ublk_bpf_option stripe_options[] = {
	{ "chunk", "SIZE", "bytes before it is the next one's turn; default 64k (stripe)",
	  ublk_bpf_parse_size, "a size such as 64k is needed" },
	{}
};

const struct ublk_bpf_target target_stripe = {
	.name		= "stripe",
	.help		= "RAID 0 over 2 to 16 files and block devices (-f)",
	.options	= UBLK_BPF_OPT_FILES | UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_SERVER |
			  UBLK_BPF_OPT_FALLBACK,
	.own_options	= stripe_options,
	.init		= stripe_init,
	.open_program	= stripe_open_program,
	.close_program	= stripe_close_program,
	.handle_io	= stripe_handle_io,
	.deinit		= stripe_deinit,
};
