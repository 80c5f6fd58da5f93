// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * START_DEV in a process of its own. Linux 6.12 reads the partitions in it, so it can
 * wait for the server's I/O, and a process does not let go of what it has open while one
 * of its commands waits: a server that were killed then would wait for itself.
 *
 * The process is there before the server has anything that it could share, and is killed
 * with it: later kernels wait for commands of a server in START_DEV, and would for ever.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "internal.h"

struct order {
	unsigned int dev_id;
	int server_pid;
};

/* The process: one order, or the end of @server. Closes all else that it was born with. */
static void run(int fd, pid_t server)
{
	struct ublk_bpf_ctrl *ctrl;
	struct order order;
	int ret;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != server)
		_exit(1);
	if (dup2(fd, 0) < 0 || close_range(1, ~0U, 0))
		_exit(1);
	if (recv(0, &order, sizeof(order), 0) != sizeof(order))
		_exit(0);
	ret = ublk_bpf_ctrl_open(&ctrl);
	if (!ret)
		ret = ublk_bpf_start(ctrl, order.dev_id, order.server_pid);
	send(0, &ret, sizeof(ret), MSG_NOSIGNAL);
	_exit(0);
}

int starter_new(struct starter *starter)
{
	pid_t server = getpid();
	int fds[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -errno;
	starter->fd = fds[0];
	starter->pid = fork();
	if (!starter->pid)
		run(fds[1], server);
	err = starter->pid < 0 ? -errno : 0;
	close(fds[1]);
	return err;
}

int starter_start(struct starter *starter, unsigned int dev_id)
{
	struct order order = { .dev_id = dev_id, .server_pid = getpid() };
	ssize_t bytes;
	int ret;

	if (send(starter->fd, &order, sizeof(order), MSG_NOSIGNAL) != sizeof(order))
		return -EPIPE;
	do {
		bytes = recv(starter->fd, &ret, sizeof(ret), 0);
	} while (bytes < 0 && errno == EINTR);
	return bytes == sizeof(ret) ? ret : -EPIPE;
}

void starter_end(struct starter *starter)
{
	if (starter->fd < 0)
		return;
	close(starter->fd);
	starter->fd = -1;
	while (starter->pid > 0 && waitpid(starter->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
