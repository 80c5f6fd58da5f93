// SPDX-License-Identifier: GPL-2.0
/*
 * prog: a device of anybody's program, out of any BPF object file. Backings are
 * its slots 0, 1, ... in the order they are named; what the program redirects
 * is served from backing 0, or reads zeroes and takes writes if there is none.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <bpf/libbpf.h>
#include "ublk_bpf.h"

#define PROG_DEFAULT_BYTES	(1ULL << 30)

struct prog {
	struct bpf_object *obj;
	unsigned int nr_backings;
	struct ublk_bpf_backing backings[UBLK_BPF_MAX_SLOTS];
};

static int prog_open_backings(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args,
			      struct prog *prog)
{
	unsigned int i, logical = 512, physical = 4096;
	int ret;

	for (i = 0; i < args->nr_files; i++) {
		struct ublk_bpf_backing *b = &prog->backings[i];

		/* A program's positions are the whole file's. */
		if (args->files[i].start || args->files[i].bytes)
			return ublk_bpf_dev_fail(dev, -EINVAL,
				"a program gets whole backings; leave out start and length");
		ret = ublk_bpf_backing_open(dev, i, &args->files[i], args->read_only, b);
		if (ret)
			return ret;
		prog->nr_backings++;
		/* An I/O may go to any of them: the strictest one decides. */
		if (b->logical_block > logical)
			logical = b->logical_block;
		if (b->physical_block > physical)
			physical = b->physical_block;
	}
	if (args->size % logical)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"size %llu is no multiple of the backings' block size %u; use -s %llu",
			args->size, logical, (args->size + logical - 1) / logical * logical);
	ublk_bpf_dev_set_block_size(dev, logical, physical);
	return 0;
}

static int prog_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	struct prog *prog = calloc(1, sizeof(*prog));
	__u64 bytes = args->size;
	int ret;

	if (!prog)
		return -ENOMEM;
	ublk_bpf_dev_set_priv(dev, prog);
	ret = prog_open_backings(dev, args, prog);
	if (ret)
		return ret;
	if (!bytes)
		bytes = prog->nr_backings ? prog->backings[0].bytes : PROG_DEFAULT_BYTES;
	ublk_bpf_dev_set_size(dev, bytes);
	if (prog->nr_backings)
		ublk_bpf_dev_params(dev)->basic.attrs |= UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
	return 0;
}

static int prog_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	const char *path = ublk_bpf_dev_args(dev)->object;
	struct prog *prog = ublk_bpf_dev_priv(dev);
	char reason[128];
	int err;

	prog->obj = bpf_object__open_file(path, NULL);
	if (!prog->obj) {
		err = -errno;	/* libbpf has errors of its own */
		libbpf_strerror(err, reason, sizeof(reason));
		if (err == -ENOENT && !access(path, F_OK))
			snprintf(reason, sizeof(reason), "it has no BTF (was it compiled with -g?)");
		return ublk_bpf_dev_fail(dev, err,
			"cannot open it as a BPF object: %s; compile one: clang -O2 -g -target bpf -I/usr/include/$(uname -m)-linux-gnu -c FILE.bpf.c",
			reason);
	}
	*obj = prog->obj;
	return 0;
}

static void prog_close_program(struct ublk_bpf_dev *dev)
{
	struct prog *prog = ublk_bpf_dev_priv(dev);

	if (!prog)
		return;
	bpf_object__close(prog->obj);
	prog->obj = NULL;
}

static int prog_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			  const struct ublksrv_io_desc *iod, void *buf)
{
	struct prog *prog = ublk_bpf_dev_priv(dev);
	size_t bytes = (size_t)iod->nr_sectors << 9;

	if (prog->nr_backings)
		return ublk_bpf_backing_io(&prog->backings[0], iod, buf);
	switch (ublksrv_get_op(iod)) {
	case UBLK_IO_OP_FLUSH:
		return 0;
	case UBLK_IO_OP_READ:
		memset(buf, 0, bytes);
		return bytes;
	default:
		return bytes;
	}
}

static void prog_deinit(struct ublk_bpf_dev *dev)
{
	struct prog *prog = ublk_bpf_dev_priv(dev);

	if (!prog)
		return;
	while (prog->nr_backings)
		ublk_bpf_backing_close(&prog->backings[--prog->nr_backings]);
	free(prog);
	ublk_bpf_dev_set_priv(dev, NULL);
}

const struct ublk_bpf_target target_prog = {
	.name		= "prog",
	.help		= "your own program (-o), with any number of backings (-f)",
	.options	= UBLK_BPF_OPT_OBJECT | UBLK_BPF_OPT_FILES | UBLK_BPF_OPT_SIZE |
			  UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_FALLBACK,
	.init		= prog_init,
	.open_program	= prog_open_program,
	.close_program	= prog_close_program,
	.handle_io	= prog_handle_io,
	.deinit		= prog_deinit,
};
