// SPDX-License-Identifier: GPL-2.0
/* The server of a device, in the background or not: what add and recover share. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include "cli.h"

/* "loop over /img", "prog my.bpf.o over /a, /b" */
static void describe(const struct service *service, char *text, size_t size)
{
	const struct ublk_bpf_args *args = &service->args;
	size_t used;
	unsigned int i;

	used = snprintf(text, size, "%s%s%s", service->target->name, args->object ? " " : "",
			args->object ? args->object : "");
	for (i = 0; i < args->nr_files && used < size; i++)
		used += snprintf(text + used, size - used, "%s%s", i ? ", " : " over ",
				 args->files[i].path);
}

static int fail(const struct service *service, int report_fd, const char *reason,
		const char *detail)
{
	size_t len = strlen(detail);
	char what[1024], text[8000];

	describe(service, what, sizeof(what));
	snprintf(text, sizeof(text), "ublk-bpf: cannot %s %s: %s\n%s%s",
		 service->recover ? "recover" : "add", what, reason, detail,
		 len && detail[len - 1] != '\n' ? "\n" : "");
	daemon_report_failure(report_fd, text);
	return EXIT_FAILURE;
}

static void say(const struct service *service, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(const struct service *service, int priority, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (service->foreground) {
		fprintf(stderr, "ublk-bpf: ");
		vfprintf(stderr, format, args);
		fputc('\n', stderr);
	} else {
		vsyslog(priority, format, args);
	}
	va_end(args);
}

/* Be the server, in this process. Return: exit status. */
static int run(struct service *service, int report_fd)
{
	struct ublk_bpf_dev *dev;
	unsigned int id;
	int reload_fd, ret;

	ret = ublk_bpf_dev_new(service->target, &service->args, &dev);
	if (ret)
		return fail(service, report_fd, strerror(-ret), "");
	ret = service->recover ? ublk_bpf_dev_recover(dev) : ublk_bpf_dev_start(dev);
	if (ret) {
		ret = fail(service, report_fd, ublk_bpf_dev_error(dev), ublk_bpf_dev_error_detail(dev));
		goto free_dev;
	}
	id = ublk_bpf_dev_id(dev);
	ret = state_save(dev, service->target, &service->args);
	if (ret && service->recover) {	/* all but the server's number is there */
		say(service, LOG_WARNING, "cannot write " STATE_DIR ": %s", strerror(-ret));
	} else if (ret) {
		ret = fail(service, report_fd, "cannot write " STATE_DIR "; is /run full?", "");
		goto free_dev;
	}
	reload_fd = reload_listen(id);
	if (reload_fd < 0)
		say(service, LOG_WARNING, "/dev/ublkb%u cannot be reloaded: %s", id,
		    strerror(-reload_fd));
	/* No folder is to be kept busy by a server. */
	if (chdir("/"))
		say(service, LOG_WARNING, "cannot go to /: %s", strerror(errno));
	daemon_report_ready(report_fd, id);
	if (!service->foreground)
		say(service, LOG_INFO, "/dev/ublkb%u (%s) is %s", id, service->target->name,
		    service->recover ? "served again" : "there");

	while ((ret = ublk_bpf_dev_wait_fd(dev, reload_fd)) >= 2) {
		if (ret == 2) {
			ret = reload_answer(reload_fd, dev, service->target, &service->args);
			if (ret < 2)
				break;
			continue;
		}
		/* a reload may have ended it */
		if (ublk_bpf_dev_trouble(dev))
			say(service, LOG_ERR, "/dev/ublkb%u: %s", id, ublk_bpf_dev_trouble(dev));
		state_save(dev, service->target, &service->args);	/* for list */
	}
	if (ret < 0 && service->args.recover) {
		say(service, LOG_ERR, "/dev/ublkb%u: its server ends: %s; start another one: ublk-bpf recover -n %u",
		    id, strerror(-ret), id);
		_exit(EXIT_FAILURE);	/* as if killed: the device lives on */
	}
	if (ret < 0)
		say(service, LOG_ERR, "/dev/ublkb%u failed: %s; it is deleted", id, strerror(-ret));
	else if (!service->foreground)
		say(service, LOG_INFO, "/dev/ublkb%u ends, stopped by %s", id,
		    ret ? "a signal" : "a command");
	/*
	 * Before the device is given up: later its number may be another's.
	 * Who stopped it by a command also deletes it.
	 */
	state_remove(id);
	if (reload_fd >= 0)
		close(reload_fd);
	ublk_bpf_dev_end(dev, ret != 0);
	ret = ret < 0 ? EXIT_FAILURE : 0;
	if (ublk_bpf_dev_trouble(dev)) {
		say(service, LOG_ERR, "/dev/ublkb%u has ended: %s", id, ublk_bpf_dev_trouble(dev));
		ret = EXIT_FAILURE;
	}
free_dev:
	ublk_bpf_dev_free(dev);
	return ret;
}

/* Once it can be used. Never in the server: that would wait for itself. */
static int print_path(unsigned int id, unsigned int nr_queues)
{
	int ret = wait_usable(id);

	if (ret)
		return complain("/dev/ublkb%u is there but cannot be opened: %s; delete it: ublk-bpf del -n %u",
				id, strerror(-ret), id);
	tell_fewer_queues(id, nr_queues);
	printf("/dev/ublkb%u\n", id);
	fflush(stdout);
	return 0;
}

int serve(struct service *service)
{
	bool is_server;
	unsigned int id;
	int report_fd, ret;

	signal(SIGPIPE, SIG_IGN);
	ret = daemon_start(service->foreground, &report_fd, &id, &is_server);
	if (is_server) {
		if (!service->foreground)
			openlog("ublk-bpf", LOG_PID, LOG_DAEMON);
		exit(ret ? EXIT_FAILURE : run(service, report_fd));
	}
	return ret ? ret : print_path(id, service->args.nr_queues);
}
