// SPDX-License-Identifier: GPL-2.0
/*
 * server ID SERVE|AGAIN|ONCE|EIO|NEVER [FILE]...
 * server ID BELOW
 *
 * A device of 128 MiB that can take a program but brings none, with the files
 * as its slots 0, 1, ..., and discard and write zeroes of any size; "ready" once
 * it is there. What is redirected at 16 MiB and above, below 120 MiB, gets: SERVE,
 * file 0 (zeroes without); AGAIN: always -EAGAIN; ONCE: -EAGAIN the first time
 * that the position is asked for; EIO: that; NEVER: no answer. The rest, which udev
 * reads, is always served. BELOW: SERVE, with a second device for its file, ID + 1 of
 * this process, which has depth 2 and does NEVER. SIGUSR1 has it fork a child that holds all its descriptors and does
 * nothing, SIGUSR2 exec sleep(1).
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ublk_bpf.h"

#define MIB		(1ULL << 20)
#define BYTES		(128 * MIB)
#define FIRST		(16 * MIB)
#define LAST		(120 * MIB)
#define MAX_FILES	4

static bool asked[BYTES / 512];

static int server_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args)
{
	struct ublk_params *params = ublk_bpf_dev_params(dev);
	int ret = ublk_bpf_dev_open_backings(dev);

	if (ret)
		return ret;
	params->types |= UBLK_PARAM_TYPE_DISCARD;
	params->basic.attrs |= UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
	params->discard.discard_granularity = 4096;
	params->discard.max_discard_sectors = UINT_MAX / 512 * 512;
	params->discard.max_write_zeroes_sectors = UINT_MAX / 512 * 512;
	params->discard.max_discard_segments = 1;
	ublk_bpf_dev_set_size(dev, BYTES);
	return 0;
}

static int serve(struct ublk_bpf_dev *dev, const struct ublksrv_io_desc *iod, void *buf)
{
	size_t bytes = (size_t)iod->nr_sectors << 9;

	if (ublk_bpf_dev_args(dev)->nr_files)
		return ublk_bpf_backing_io(ublk_bpf_dev_backing(dev, 0), iod, buf);
	if (ublksrv_get_op(iod) == UBLK_IO_OP_FLUSH)
		return 0;
	if (ublksrv_get_op(iod) == UBLK_IO_OP_READ)
		memset(buf, 0, bytes);
	return bytes;
}

static int server_handle_io(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			    const struct ublksrv_io_desc *iod, void *buf)
{
	const char *policy = ublk_bpf_dev_priv(dev);
	__u64 pos = iod->start_sector << 9;

	if (ublksrv_get_op(iod) == UBLK_IO_OP_FLUSH || pos < FIRST || pos >= LAST)
		return serve(dev, iod, buf);
	if (!strcmp(policy, "AGAIN"))
		return -EAGAIN;
	if (!strcmp(policy, "ONCE") && !asked[iod->start_sector]) {
		asked[iod->start_sector] = true;
		return -EAGAIN;
	}
	if (!strcmp(policy, "EIO"))
		return -EIO;
	while (!strcmp(policy, "NEVER"))
		sleep(1);
	return serve(dev, iod, buf);
}

static void fork_or_exec(int signal)
{
	if (signal == SIGUSR2)
		execl("/bin/sleep", "sleep", "600", NULL);
	if (!fork())
		sleep(600);
}

static const struct ublk_bpf_target server_target = {
	.name		= "server",
	.init		= server_init,
	.handle_io	= server_handle_io,
};

static struct ublk_bpf_dev *start(const struct ublk_bpf_args *args, char *policy)
{
	struct ublk_bpf_dev *dev;

	if (ublk_bpf_dev_new(&server_target, args, &dev))
		exit(1);
	ublk_bpf_dev_set_priv(dev, policy);
	if (ublk_bpf_dev_start(dev)) {
		fprintf(stderr, "server: %s\n", ublk_bpf_dev_error(dev));
		exit(1);
	}
	return dev;
}

int main(int argc, char **argv)
{
	static struct ublk_bpf_file files[MAX_FILES];
	struct ublk_bpf_args args = { .files = files };
	struct ublk_bpf_args below = { .depth = 2 };
	struct ublk_bpf_dev *dev;
	char disk[32], *policy;
	int i, ret;

	if (argc < 3 || argc > 3 + MAX_FILES) {
		fprintf(stderr, "server ID SERVE|AGAIN|ONCE|EIO|NEVER|BELOW [FILE]...\n");
		return 2;
	}
	args.dev_id = atoi(argv[1]);
	policy = argv[2];
	for (i = 3; i < argc; i++)
		files[args.nr_files++].path = argv[i];
	if (!strcmp(policy, "BELOW")) {
		policy = "SERVE";
		below.dev_id = args.dev_id + 1;
		start(&below, "NEVER");
		snprintf(disk, sizeof(disk), "/dev/ublkb%d", below.dev_id);
		files[args.nr_files++].path = disk;
	}
	dev = start(&args, policy);
	signal(SIGUSR1, fork_or_exec);
	signal(SIGUSR2, fork_or_exec);
	puts("ready");
	fflush(stdout);
	ret = ublk_bpf_dev_wait(dev);
	ublk_bpf_dev_end(dev, ret != 0);
	ublk_bpf_dev_free(dev);
	return ret < 0;
}
