// SPDX-License-Identifier: GPL-2.0
/* What several commands need. */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli.h"

#define CHAR_CLASS	"/sys/class/ublk-char"
#define USABLE_TRIES	1000	/* of 10 ms */

extern char **environ;

int complain(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "ublk-bpf: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_FAILURE;
}

static error_t parse_json_key(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;

	switch (key) {
	case 'j':
		*json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is one word too many", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

bool parse_json_only(int argc, char **argv, const char *doc)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "print JSON", 0 },
		{}
	};
	const struct argp argp = { .options = options, .parser = parse_json_key, .doc = doc };
	bool json = false;

	argp_parse(&argp, argc, argv, 0, NULL, &json);
	return json;
}

static unsigned int parse_range(const char *text, unsigned int min, unsigned int max,
				const char *option)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || value < min || value > max) {
		complain("%s %s: a number from %u to %u is needed", option, text, min, max);
		exit(EXIT_USAGE);
	}
	return value;
}

unsigned int parse_number(const char *text, unsigned int max, const char *option)
{
	return parse_range(text, 0, max, option);
}

unsigned int parse_count(const char *text, unsigned int max, const char *option)
{
	return parse_range(text, 1, max, option);
}

struct ublk_bpf_ctrl *open_control(void)
{
	struct ublk_bpf_ctrl *ctrl;
	int ret = ublk_bpf_ctrl_open(&ctrl);

	if (!ret)
		return ctrl;
	if (ret == -ENOENT)
		complain("/dev/ublk-control is missing; load the module: modprobe ublk_drv");
	else if ((ret == -EACCES || ret == -EPERM) && geteuid())
		complain("cannot open /dev/ublk-control: %s; be root", strerror(-ret));
	else
		complain("cannot open /dev/ublk-control: %s; see 'ublk-bpf check'",
			 strerror(-ret));
	return NULL;
}

/* Run a program, deaf and mute. Return: its exit status, or -1. */
static int run_quiet(char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int ret, status, fd;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	for (fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	ret = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret)
		return -1;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void load_module(void)
{
	char *const modprobe[] = { "modprobe", "ublk_drv", NULL };
	int tries;

	if (!access("/dev/ublk-control", F_OK) || run_quiet(modprobe))
		return;
	for (tries = 0; tries < 100 && access("/dev/ublk-control", F_OK); tries++)
		usleep(10000);
}

int wait_usable(unsigned int id)
{
	char *const settle[] = { "udevadm", "settle", "--timeout=10", NULL };
	char path[32];
	int tries, fd = -1;

	snprintf(path, sizeof(path), "/dev/ublkb%u", id);
	for (tries = 0; tries < USABLE_TRIES && fd < 0; tries++) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			usleep(10000);
	}
	if (fd < 0)
		return -errno;
	close(fd);
	if (!access("/run/udev/control", F_OK))
		run_quiet(settle);
	return 0;
}

void tell_fewer_queues(unsigned int id, unsigned int asked)
{
	struct ublksrv_ctrl_dev_info info;
	struct ublk_bpf_ctrl *ctrl;

	if (ublk_bpf_ctrl_open(&ctrl))
		return;
	if (ublk_bpf_get_info(ctrl, id, &info) >= 0 && info.nr_hw_queues < asked)
		complain("%u queues instead of %u: the driver gives at most one a CPU",
			 info.nr_hw_queues, asked);
	ublk_bpf_ctrl_close(ctrl);
}

void print_json(struct json_object *json)
{
	printf("%s\n", json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY |
						      JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(json);
}

static int compare_ids(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return (x > y) - (x < y);
}

/* Numbers in the names of a folder that match "@format%n", which stores two. */
static int list_numbers(const char *folder, const char *format, unsigned int **ids)
{
	unsigned int *list = NULL, id;
	struct dirent *entry;
	int nr = 0, len;
	DIR *dir;

	*ids = NULL;
	dir = opendir(folder);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		unsigned int *more;

		len = 0;
		if (sscanf(entry->d_name, format, &id, &len) != 1 ||
		    !len || entry->d_name[len])
			continue;
		more = realloc(list, (nr + 1) * sizeof(*list));
		if (!more)
			break;
		list = more;
		list[nr++] = id;
	}
	closedir(dir);
	if (nr)
		qsort(list, nr, sizeof(*list), compare_ids);
	*ids = list;
	return nr;
}

int list_devices(unsigned int **ids)
{
	return list_numbers(CHAR_CLASS, "ublkc%u%n", ids);
}

int list_states(unsigned int **ids)
{
	return list_numbers(STATE_DIR, "%u.json%n", ids);
}
