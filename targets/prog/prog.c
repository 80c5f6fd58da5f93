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

static int prog_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	__u64 bytes = args->size;
	unsigned int i, block;
	int ret;

	for (i = 0; i < args->nr_files; i++)	/* a program's positions are the whole file's */
		if (args->files[i].start || args->files[i].bytes)
			return ublk_bpf_dev_fail(dev, -EINVAL,
				"a program gets whole backings; leave out start and length");
	ret = ublk_bpf_dev_open_backings(dev);
	if (ret)
		return ret;
	block = 1U << ublk_bpf_dev_params(dev)->basic.logical_bs_shift;
	if (bytes % block)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"size %llu is no multiple of the backings' block size %u; use -s %llu",
			bytes, block, (bytes + block - 1) / block * block);
	if (!bytes)
		bytes = args->nr_files ? ublk_bpf_dev_backing(dev, 0)->bytes : PROG_DEFAULT_BYTES;
	ublk_bpf_dev_set_size(dev, bytes);
	return 0;
}

static int prog_open_program(struct ublk_bpf_dev *dev, struct bpf_object **obj)
{
	const char *path = ublk_bpf_dev_args(dev)->object;
	struct bpf_object *program = bpf_object__open_file(path, NULL);
	char reason[128];
	int err;

	if (!program) {
		err = -errno;	/* libbpf has errors of its own */
		libbpf_strerror(err, reason, sizeof(reason));
		if (err == -ENOENT && !access(path, F_OK))
			snprintf(reason, sizeof(reason), "it has no BTF (was it compiled with -g?)");
		return ublk_bpf_dev_fail(dev, err,
			"cannot open it as a BPF object: %s; compile one: clang -O2 -g -target bpf -I/usr/include/$(uname -m)-linux-gnu -c FILE.bpf.c",
			reason);
	}
	ublk_bpf_dev_set_priv(dev, program);
	*obj = program;
	return 0;
}

static void prog_close_program(struct ublk_bpf_dev *dev)
{
	bpf_object__close(ublk_bpf_dev_priv(dev));
	ublk_bpf_dev_set_priv(dev, NULL);
}

static int prog_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			  const struct ublksrv_io_desc *iod, void *buf)
{
	size_t bytes = (size_t)iod->nr_sectors << 9;

	if (ublk_bpf_dev_nr_backings(dev))
		return ublk_bpf_backing_io(ublk_bpf_dev_backing(dev, 0), iod, buf);
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

const struct ublk_bpf_target target_prog = {
	.name		= "prog",
	.help		= "your own program (-o), with any number of backings (-f)",
	.options	= UBLK_BPF_OPT_OBJECT | UBLK_BPF_OPT_FILES | UBLK_BPF_OPT_SIZE |
			  UBLK_BPF_OPT_READ_ONLY | UBLK_BPF_OPT_FALLBACK,
	.init		= prog_init,
	.open_program	= prog_open_program,
	.close_program	= prog_close_program,
	.handle_io	= prog_handle_io,
};
