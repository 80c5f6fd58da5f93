// SPDX-License-Identifier: GPL-2.0
/*
 * The server and who speaks for it: a process that waits for one message of the
 * server, '+' and the device's number, or '-' and what to say; no message at all means
 * that the server died. In the background the server is the child, else the parent.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli.h"

#define REPORT_FD	3
#define MESSAGE_BYTES	8192

static size_t read_message(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n;

	while (used < size - 1) {
		n = read(fd, buf + used, size - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += n;
	}
	buf[used] = '\0';
	return used;
}

/* @pid: of the server, if it is a child. */
static int speaker(int fd, pid_t pid, unsigned int *id)
{
	static char buf[MESSAGE_BYTES];
	int status;

	read_message(fd, buf, sizeof(buf));
	close(fd);
	switch (buf[0]) {
	case '+':
		*id = strtoul(buf + 1, NULL, 10);
		return 0;
	case '-':
		fprintf(stderr, "%s", buf + 1);
		if (pid)
			waitpid(pid, &status, 0);
		return EXIT_FAILURE;
	}
	if (!pid)
		return EXIT_FAILURE;	/* who started it sees how it ended */
	if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
		return complain("the server was killed (%s) before the device was there; see dmesg",
				strsignal(WTERMSIG(status)));
	return complain("the server ended before the device was there; see the system log");
}

/*
 * Keep nothing of the caller's: an open descriptor of a pipe would make
 * $(ublk-bpf add ...) or a test runner wait for the server's end.
 */
static int server(int fd)
{
	int null, i;

	setsid();
	if (fd != REPORT_FD) {
		if (dup2(fd, REPORT_FD) < 0)
			return -errno;
	}
	close_range(REPORT_FD + 1, ~0U, 0);
	fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
	null = open("/dev/null", O_RDWR);
	for (i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	if (null > REPORT_FD)
		close(null);
	return 0;
}

int daemon_start(bool foreground, int *report_fd, unsigned int *id, bool *is_server)
{
	int fds[2];
	pid_t pid;

	*is_server = foreground;
	if (pipe2(fds, O_CLOEXEC))
		return complain("cannot make a pipe: %s", strerror(errno));
	if (foreground)
		signal(SIGCHLD, SIG_IGN);	/* nobody waits for the speaker */
	pid = fork();
	if (pid < 0)
		return complain("cannot start a server: %s", strerror(errno));
	*is_server = foreground == !!pid;
	if (!*is_server) {
		close(fds[1]);
		return speaker(fds[0], pid, id);
	}
	close(fds[0]);
	if (foreground) {
		*report_fd = fds[1];
		return 0;
	}
	*report_fd = REPORT_FD;
	return server(fds[1]);
}

static void report(int fd, char kind, const char *text)
{
	static char buf[MESSAGE_BYTES];
	int len = snprintf(buf, sizeof(buf), "%c%s", kind, text);

	if (len >= (int)sizeof(buf))
		len = sizeof(buf) - 1;
	/* The parent may have been killed: then nobody wants to know. */
	while (write(fd, buf, len) < 0 && errno == EINTR)
		;
	close(fd);
}

void daemon_report_ready(int report_fd, unsigned int id)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", id);
	report(report_fd, '+', text);
}

void daemon_report_failure(int report_fd, const char *text)
{
	report(report_fd, '-', text);
}
