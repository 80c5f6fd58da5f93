// SPDX-License-Identifier: GPL-2.0
/*
 * batch ID PROG_ID [FILE]
 *
 * A server in 7.x's batch mode for device ID of 64 MiB, attached to the program
 * PROG_ID; "ready" once the disk is there. Commits all it is given as done, but
 * [40 MiB, 41 MiB), where nobody looks for a signature, once with -EAGAIN. With a
 * FILE, which is in slot 0 too, it reads and writes that. Runs until the device is
 * stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "ublk_bpf.h"

#define DEPTH		32
#define BYTES		(64ULL << 20)
#define F_USER_COPY	(1ULL << 7)
#define F_BATCH_IO	(1ULL << 15)

/* linux/ublk_cmd.h of 7.x */
struct batch_io {
	__u16 q_id;
	__u16 flags;
	__u16 nr_elem;
	__u8 elem_bytes;
	__u8 reserved;
	__u64 reserved2;
};

struct batch_elem {
	__u16 tag;
	__u16 buf_index;
	__s32 result;
};

#define IO_PREP		_IOWR('u', 0x25, struct batch_io)
#define IO_COMMIT	_IOWR('u', 0x26, struct batch_io)
#define IO_FETCH	_IOWR('u', 0x27, struct batch_io)
#define CMD_MULTISHOT	(1U << 1)

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static __u16 tags[4][DEPTH];	/* the ring's buffers */
static struct batch_elem elems[DEPTH];
static bool again[DEPTH];
static const struct ublksrv_io_desc *descs;
static int file = -1;

static void die(const char *what, int err)
{
	printf("%s: %s\n", what, strerror(-err));
	exit(1);
}

static void check(const char *what, int ret)
{
	if (ret < 0)
		die(what, ret);
}

static struct io_uring_sqe *command(int fd, unsigned int op, unsigned int nr, unsigned int bytes)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	struct batch_io *io;

	if (!sqe)
		die("submission queue", -EBUSY);
	io = (struct batch_io *)sqe->cmd;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = op;
	sqe->addr = (unsigned long)elems;
	sqe->user_data = op;
	io->nr_elem = nr;
	io->elem_bytes = bytes;
	return sqe;
}

static void fetch(int fd)
{
	struct io_uring_sqe *sqe = command(fd, IO_FETCH, 0, sizeof(__u16));

	sqe->addr = 0;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = 0;
	sqe->uring_cmd_flags = CMD_MULTISHOT;
}

static void give_buffer(unsigned int id)
{
	io_uring_buf_ring_add(buffers, tags[id], sizeof(tags[id]), id, io_uring_buf_ring_mask(4), 0);
	io_uring_buf_ring_advance(buffers, 1);
}

/* Do an I/O of the file, whose data comes and goes by the char device. */
static int do_io(int fd, unsigned int tag)
{
	static char data[512 << 10];
	const struct ublksrv_io_desc *iod = &descs[tag];
	off_t at = UBLKSRV_IO_BUF_OFFSET + ((off_t)tag << UBLK_TAG_OFF);
	ssize_t bytes = iod->nr_sectors << 9;
	off_t pos = iod->start_sector << 9;

	switch (ublksrv_get_op(iod)) {
	case UBLK_IO_OP_READ:
		if (pread(file, data, bytes, pos) != bytes || pwrite(fd, data, bytes, at) != bytes)
			return -EIO;
		return bytes;
	case UBLK_IO_OP_WRITE:
		if (pread(fd, data, bytes, at) != bytes || pwrite(file, data, bytes, pos) != bytes)
			return -EIO;
		return bytes;
	}
	return -EOPNOTSUPP;
}

static int result(int fd, unsigned int tag)
{
	const struct ublksrv_io_desc *iod = &descs[tag];

	if (file >= 0)
		return do_io(fd, tag);
	again[tag] = !again[tag] && iod->start_sector >> (20 - 9) == 40;
	return again[tag] ? -EAGAIN : (int)(iod->nr_sectors << 9);
}

static void commit(int fd, unsigned int id, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		elems[i] = (struct batch_elem){ .tag = tags[id][i], .result = result(fd, tags[id][i]) };
	command(fd, IO_COMMIT, nr, sizeof(elems[0]));
	/* it reads elems while it is submitted */
	check("commit", io_uring_submit(&ring));
	give_buffer(id);
}

static void serve(int fd)
{
	struct io_uring_cqe *cqe;

	while (true) {
		unsigned long op;
		unsigned int flags;
		int res;

		check("wait", io_uring_submit_and_wait(&ring, 1));
		check("peek", io_uring_peek_cqe(&ring, &cqe));
		op = cqe->user_data;
		flags = cqe->flags;
		res = cqe->res;
		io_uring_cqe_seen(&ring, cqe);

		if (op == IO_COMMIT) {
			check("commit", res);
			continue;
		}
		if (res == -ENODEV)
			return;
		if (res < 0 && res != -ENOBUFS)
			die("fetch", res);
		if (res > 0)
			commit(fd, flags >> IORING_CQE_BUFFER_SHIFT, res / sizeof(__u16));
		if (!(flags & IORING_CQE_F_MORE))
			fetch(fd);
	}
}

int main(int argc, char **argv)
{
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = 1,
		.queue_depth = DEPTH,
		.max_io_buf_bytes = 512 << 10,
		.flags = UBLK_F_BPF | F_BATCH_IO | F_USER_COPY,
	};
	struct ublk_params params = {
		.len = sizeof(params),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = {
			.logical_bs_shift = 9,
			.physical_bs_shift = 12,
			.io_opt_shift = 12,
			.io_min_shift = 9,
			.max_sectors = 1024,
			.dev_sectors = BYTES >> 9,
		},
	};
	struct ublk_bpf_ctrl *ctrl;
	struct io_uring_cqe *cqe;
	char path[32];
	int fd, ret;

	if (argc < 3)
		return 2;
	info.dev_id = atoi(argv[1]);
	check("control", ublk_bpf_ctrl_open(&ctrl));
	check("add", ublk_bpf_add(ctrl, &info));
	if ((info.flags & (UBLK_F_BPF | F_BATCH_IO)) != (UBLK_F_BPF | F_BATCH_IO))
		die("add", -EOPNOTSUPP);
	check("params", ublk_bpf_set_params(ctrl, info.dev_id, &params));
	if (argc > 3) {
		file = open(argv[3], O_RDWR);
		if (file < 0)
			die(argv[3], -errno);
		check("slot", ublk_bpf_set_slot(ctrl, info.dev_id, 0, file, 0));
	}
	check("attach", ublk_bpf_attach(ctrl, info.dev_id, strtoul(argv[2], NULL, 0), 0, 0));

	snprintf(path, sizeof(path), "/dev/ublkc%d", info.dev_id);
	for (int i = 0; (fd = open(path, O_RDWR)) < 0 && i < 100; i++)
		usleep(50000);
	if (fd < 0)
		die(path, -errno);
	descs = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (descs == MAP_FAILED)
		die("mmap", -errno);

	check("ring", io_uring_queue_init(64, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN));
	buffers = io_uring_setup_buf_ring(&ring, 4, 0, 0, &ret);
	if (!buffers)
		die("buffers", ret);
	for (unsigned int id = 0; id < 4; id++)
		give_buffer(id);

	for (unsigned int tag = 0; tag < DEPTH; tag++)
		elems[tag].tag = tag;
	command(fd, IO_PREP, DEPTH, sizeof(elems[0]));
	check("prep", io_uring_submit_and_wait(&ring, 1));
	check("prep", io_uring_wait_cqe(&ring, &cqe));
	check("prep", cqe->res);
	io_uring_cqe_seen(&ring, cqe);
	fetch(fd);
	check("fetch", io_uring_submit(&ring));

	check("start", ublk_bpf_start(ctrl, info.dev_id, getpid()));
	puts("ready");
	fflush(stdout);
	serve(fd);
	ublk_bpf_ctrl_close(ctrl);
	return 0;
}
