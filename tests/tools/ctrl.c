// SPDX-License-Identifier: GPL-2.0
/*
 * ctrl COMMAND DEVICE [FIELD=VALUE]...
 *
 * One control command, made by hand so that every field can be wrong; prints
 * "ok" and what it gave, or the errno's name.
 *
 *	attach		prog_id= flags= cookie=
 *	detach
 *	set		slot= fd=
 *	clear, get	slot=
 *	size		bytes=
 *	stats		twice=1: and again with the same buffer; print=NAME: that counter
 *	unknown		a number that nobody knows
 *	add		flags=NAME[,NAME] of bpf, zoned, need_get_data, unprivileged,
 *			user_copy, recovery, reissue, fail_io, integrity; prints what flags
 *			it got; the device is to be deleted
 *	start		pid=, the server's
 *	stop, del, start_recovery
 *
 * Of every command: len=BYTES and queue=N of the header; reserved=N (the last
 * reserved word), pad=, flags=; addr=null, addr=kernel, addr=readonly.
 * get: same=FD, is it the open file of this descriptor? "ok same", "ok other".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <liburing.h>
#include <linux/ublk_cmd.h>
#include <linux/ublk_bpf.h>
#include "compat.h"
#include "counters.h"

#define F_INTEGRITY	(1ULL << 16)	/* linux/ublk_cmd.h of 7.x */
#define CMD_UNKNOWN	_IOWR('u', 0xbf, struct ublk_bpf_detach)

union arg {
	struct ublk_bpf_attach attach;
	struct ublk_bpf_detach detach;
	struct ublk_bpf_slot slot;
	struct ublk_bpf_stats stats;
	struct ublk_bpf_size size;
	struct ublksrv_ctrl_dev_info info;
};

static const char *print;
static bool twice;

static const struct command {
	const char *name;
	__u32 op;
	size_t len;
} commands[] = {
	{ "attach",	UBLK_U_CMD_BPF_ATTACH,		sizeof(struct ublk_bpf_attach) },
	{ "detach",	UBLK_U_CMD_BPF_DETACH,		sizeof(struct ublk_bpf_detach) },
	{ "set",	UBLK_U_CMD_BPF_SET_SLOT,	sizeof(struct ublk_bpf_slot) },
	{ "clear",	UBLK_U_CMD_BPF_CLEAR_SLOT,	sizeof(struct ublk_bpf_slot) },
	{ "get",	UBLK_U_CMD_BPF_GET_SLOT,	sizeof(struct ublk_bpf_slot) },
	{ "stats",	UBLK_U_CMD_BPF_GET_STATS,	sizeof(struct ublk_bpf_stats) },
	{ "size",	UBLK_U_CMD_BPF_SET_SIZE,	sizeof(struct ublk_bpf_size) },
	{ "unknown",	CMD_UNKNOWN,			sizeof(struct ublk_bpf_detach) },
	{ "add",	UBLK_U_CMD_ADD_DEV,		sizeof(struct ublksrv_ctrl_dev_info) },
	{ "start",	UBLK_U_CMD_START_DEV,		0 },
	{ "stop",	UBLK_U_CMD_STOP_DEV,		0 },
	{ "start_recovery", UBLK_U_CMD_START_USER_RECOVERY, 0 },
	{ "del",	UBLK_U_CMD_DEL_DEV,		0 },
	{}
};

static const struct { const char *name; __u64 flag; } add_flags[] = {
	{ "bpf",		UBLK_F_BPF },
	{ "zoned",		UBLK_F_ZONED },
	{ "need_get_data",	UBLK_F_NEED_GET_DATA },
	{ "unprivileged",	UBLK_F_UNPRIVILEGED_DEV },
	{ "user_copy",		UBLK_F_USER_COPY },
	{ "recovery",		UBLK_F_USER_RECOVERY },
	{ "reissue",		UBLK_F_USER_RECOVERY_REISSUE },
	{ "fail_io",		UBLK_F_USER_RECOVERY_FAIL_IO },
	{ "integrity",		F_INTEGRITY },
	{}
};

static union arg *arg;
static struct ublksrv_ctrl_cmd header;
static int same_fd = -1;

static void usage(const char *word)
{
	fprintf(stderr, "ctrl: what is '%s'?\n", word);
	exit(2);
}

static __u64 named_flags(char *names)
{
	__u64 flags = 0;
	char *name;
	int i;

	for (name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		for (i = 0; add_flags[i].name && strcmp(add_flags[i].name, name); i++)
			;
		if (!add_flags[i].name)
			usage(name);
		flags |= add_flags[i].flag;
	}
	return flags;
}

static void set_addr(const char *which)
{
	if (!strcmp(which, "null"))
		header.addr = 0;
	else if (!strcmp(which, "kernel"))
		header.addr = 0xffff888000000000ULL;
	else if (!strcmp(which, "readonly"))
		mprotect(arg, 4096, PROT_READ);
	else
		usage(which);
}

static void set_reserved(const struct command *cmd, __u64 value)
{
	/* the last word of each structure */
	memcpy((char *)arg + cmd->len - sizeof(value), &value, sizeof(value));
}

static void set_field(const struct command *cmd, const char *name, char *value)
{
	__u64 number = strtoull(value, NULL, 0);

	if (!strcmp(name, "len"))
		header.len = number;
	else if (!strcmp(name, "queue"))
		header.queue_id = number;
	else if (!strcmp(name, "addr"))
		set_addr(value);
	else if (!strcmp(name, "reserved"))
		set_reserved(cmd, number);
	else if (!strcmp(name, "pid"))
		header.data[0] = number;
	else if (!strcmp(name, "same"))
		same_fd = number;
	else if (cmd->op == UBLK_U_CMD_ADD_DEV && !strcmp(name, "flags"))
		arg->info.flags = named_flags(value) | UBLK_F_CMD_IOCTL_ENCODE;
	else if (cmd->op == UBLK_U_CMD_BPF_ATTACH && !strcmp(name, "prog_id"))
		arg->attach.prog_id = number;
	else if (cmd->op == UBLK_U_CMD_BPF_ATTACH && !strcmp(name, "flags"))
		arg->attach.flags = number;
	else if (cmd->op == UBLK_U_CMD_BPF_ATTACH && !strcmp(name, "cookie"))
		arg->attach.cookie = number;
	else if (cmd->op == UBLK_U_CMD_BPF_GET_STATS && !strcmp(name, "twice"))
		twice = number;
	else if (cmd->op == UBLK_U_CMD_BPF_GET_STATS && !strcmp(name, "print"))
		print = value;
	else if (cmd->op == UBLK_U_CMD_BPF_SET_SIZE && !strcmp(name, "bytes"))
		arg->size.bytes = number;
	else if (!strcmp(name, "slot"))
		arg->slot.slot = number;
	else if (!strcmp(name, "fd"))
		arg->slot.fd = number;
	else if (!strcmp(name, "pad"))
		arg->slot.pad = number;
	else if (!strcmp(name, "flags"))
		arg->slot.flags = number;
	else
		usage(name);
}

static int submit(const struct command *cmd)
{
	int fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int ret;

	if (fd < 0)
		return -errno;
	ret = io_uring_queue_init(4, &ring, IORING_SETUP_SQE128);
	if (ret)
		return ret;
	sqe = io_uring_get_sqe(&ring);
	if (!sqe)
		return -EAGAIN;
	memset(sqe, 0, 128);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
	sqe->cmd_op = cmd->op;
	memcpy(sqe->cmd, &header, sizeof(header));
	ret = io_uring_submit_and_wait(&ring, 1);
	if (ret < 0)
		return ret;
	ret = io_uring_wait_cqe(&ring, &cqe);
	return ret ? ret : cqe->res;
}

static void print_counter(const struct ublk_bpf_stats *stats)
{
	unsigned int i;

	for (i = 0; i < NR_COUNTERS; i++)
		if (!strcmp(counters[i].name, print))
			printf("%llu\n", (unsigned long long)counter(stats, i));
}

/* Are they one open file? kcmp(2) is not in every kernel. */
static bool same_file(int a, int b)
{
	int flags = fcntl(a, F_GETFL), others = fcntl(b, F_GETFL);
	bool same;

	fcntl(a, F_SETFL, flags ^ O_NONBLOCK);
	same = fcntl(b, F_GETFL) == (others ^ O_NONBLOCK);
	fcntl(a, F_SETFL, flags);
	return same;
}

static void print_result(const struct command *cmd)
{
	const struct ublk_bpf_stats *s = &arg->stats;

	switch (cmd->op) {
	case UBLK_U_CMD_ADD_DEV:
		printf("ok %s\n", arg->info.flags & UBLK_F_BPF ? "bpf" : "stock");
		break;
	case UBLK_U_CMD_BPF_GET_SLOT:
		if (same_fd >= 0)
			printf("ok %s\n", same_file(arg->slot.fd, same_fd) ? "same" : "other");
		else
			printf("ok\n");
		break;
	case UBLK_U_CMD_BPF_GET_STATS:
		if (print) {
			print_counter(s);
			break;
		}
		printf("ok state=%u flags=%u prog_id=%u cookie=%llu slots=%llx\n", s->state,
		       s->flags, s->prog_id, (unsigned long long)s->cookie,
		       (unsigned long long)s->slots);
		break;
	default:
		puts("ok");
	}
}

int main(int argc, char **argv)
{
	const struct command *cmd = commands;
	int i, ret;

	if (argc < 3)
		usage("nothing");
	while (cmd->name && strcmp(cmd->name, argv[1]))
		cmd++;
	if (!cmd->name)
		usage(argv[1]);
	arg = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arg == MAP_FAILED)
		return 1;
	header.dev_id = strtoul(argv[2], NULL, 0);
	header.queue_id = -1;
	header.len = cmd->len;
	header.addr = cmd->len ? (unsigned long)arg : 0;
	if (cmd->op == UBLK_U_CMD_ADD_DEV) {
		arg->info.dev_id = header.dev_id;
		arg->info.nr_hw_queues = 1;
		arg->info.queue_depth = 8;
		arg->info.max_io_buf_bytes = 65536;
		arg->info.flags = UBLK_F_CMD_IOCTL_ENCODE;
	}
	for (i = 3; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (!value)
			usage(argv[i]);
		*value++ = '\0';
		set_field(cmd, argv[i], value);
	}
	ret = submit(cmd);
	if (ret >= 0 && twice)	/* with what the first left there */
		ret = submit(cmd);
	if (ret < 0)
		puts(strerrorname_np(-ret) ? strerrorname_np(-ret) : "unknown errno");
	else
		print_result(cmd);
	return 0;
}
