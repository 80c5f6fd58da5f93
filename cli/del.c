// SPDX-License-Identifier: GPL-2.0
/*
 * ublk-bpf del: delete devices, server alive or not. Takes at most a minute a
 * device: SETTLE + CLAIM + STOP + KILLED + DELETE + EXIT seconds.
 */
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>
#include "cli.h"

#define SETTLE_SECONDS	5
#define CLAIM_SECONDS	5
#define STOP_SECONDS	10
#define KILLED_SECONDS	15
#define FORCE_SECONDS	60
#define DELETE_SECONDS	15
#define EXIT_SECONDS	5

struct del {
	int id;
	bool all;
	bool force;
};

static error_t del_parse(int key, char *arg, struct argp_state *state)
{
	struct del *del = state->input;

	switch (key) {
	case 'n':
		del->id = parse_number(arg, 0x7fffffff, "-n");
		return 0;
	case 'a':
		del->all = true;
		return 0;
	case 'F':
		del->force = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is one word too many; name a device by -n ID", arg);
		return 0;
	case ARGP_KEY_END:
		if (del->id >= 0 && del->all)
			argp_error(state, "-n ID and -a exclude each other: one device, or all");
		if (del->id < 0 && !del->all)
			argp_error(state, "which device? -n ID, or -a for all of ublk-bpf");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option del_options[] = {
	{ NULL, 'n', "ID", 0, "delete device number ID", 0 },
	{ NULL, 'a', NULL, 0, "delete all devices of ublk-bpf", 0 },
	{ "force", 'F', NULL, 0, "also one that is mounted, below another device, or opened exclusively", 0 },
	{}
};

static const struct argp del_argp = {
	.options = del_options,
	.parser = del_parse,
	.doc = "Delete ublk devices, whether their server lives or not.",
};

/**
 * struct claim - a disk held exclusively, so that nobody can mount it any more
 * @path:	the disk
 * @thread:	opens it: that may read partitions, and a stuck server never answers
 * @running:	@thread is to be joined
 * @fd:		what it got, or -errno
 */
struct claim {
	char path[32];
	pthread_t thread;
	bool running;
	int fd;
};

static void *claim_main(void *arg)
{
	struct claim *claim = arg;

	claim->fd = open(claim->path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	if (claim->fd < 0)
		claim->fd = -errno;
	return NULL;
}

static bool claim_wait(struct claim *claim)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CLAIM_SECONDS;
	if (claim->running && !pthread_timedjoin_np(claim->thread, NULL, &until))
		claim->running = false;
	return !claim->running;
}

static struct claim *new_claim(unsigned int id)
{
	struct claim *claim = calloc(1, sizeof(*claim));

	if (claim)
		snprintf(claim->path, sizeof(claim->path), "/dev/ublkb%u", id);
	return claim;
}

/* Return: false if somebody else holds it; true also if there is nothing to hold. */
static bool claim_disk(struct claim *claim)
{
	claim->fd = -ENOENT;
	claim->running = !pthread_create(&claim->thread, NULL, claim_main, claim);
	return !claim_wait(claim) || claim->fd != -EBUSY;
}

/*
 * As claim_disk(), false also if another device is on it. Who holds it without a name
 * may be a device that has just gone: its files are closed a moment later.
 */
static bool claim_unused_disk(struct claim *claim, unsigned int id)
{
	time_t until = time(NULL) + SETTLE_SECONDS;
	char user[512];

	while (!claim_disk(claim)) {
		if (find_user(id, user, sizeof(user)) || time(NULL) >= until)
			return false;
		usleep(100 * 1000);
	}
	return !find_upper(id, user, sizeof(user));
}

static void end_claim(struct claim *claim)
{
	if (!claim_wait(claim))
		return;		/* it is the thread's, which is stuck */
	if (claim->fd >= 0)
		close(claim->fd);
	free(claim);
}

/* Does a process hold the char device? */
static bool is_server(int pid, unsigned int id)
{
	char path[64], link[64], want[32];
	struct dirent *entry;
	bool found = false;
	ssize_t len;
	DIR *dir;

	snprintf(want, sizeof(want), "/dev/ublkc%u", id);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
		link[len > 0 ? len : 0] = '\0';
		found = !strcmp(link, want);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* To the server, and what it has forked: any may be the one that the driver waits for. */
static unsigned int signal_servers(unsigned int id, int sig)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned int nr = 0;
	int pid;

	while (dir && (entry = readdir(dir))) {
		pid = atoi(entry->d_name);
		if (pid > 0 && is_server(pid, id) && !kill(pid, sig))
			nr++;
	}
	if (dir)
		closedir(dir);
	return nr;
}

/* Sectors that were written to the disk; 0 when it is gone. */
static unsigned long long written(unsigned int id)
{
	unsigned long long sectors = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/stat", id);
	file = fopen(path, "re");
	if (file && fscanf(file, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
		sectors = 0;
	if (file)
		fclose(file);
	return sectors;
}

/*
 * What is in its page cache is written first. Return: -ETIMEDOUT when nothing has been
 * for @seconds, with @force also when it takes a minute.
 */
static int stop_within(struct ublk_bpf_ctrl *ctrl, unsigned int id, unsigned int seconds,
		       bool force)
{
	unsigned int idle = 0, all = 0;
	int ret;

	ublk_bpf_ctrl_set_timeout(ctrl, 1);
	do {
		unsigned long long before = written(id);

		ret = ublk_bpf_stop(ctrl, id);
		idle = written(id) == before ? idle + 1 : 0;
	} while (ret == -ETIMEDOUT && idle < seconds && (!force || ++all < FORCE_SECONDS));
	return ret;
}

/* Stop it; a server that stands still goes on, one that does not let go of its I/O is killed. */
static int stop(struct ublk_bpf_ctrl *ctrl, unsigned int id, bool force)
{
	struct ublksrv_ctrl_dev_info info;
	int ret;

	/* Asked first: a command that is under way blocks later ones. */
	ret = ublk_bpf_get_info(ctrl, id, &info);
	if (ret < 0)
		return ret;
	signal_servers(id, SIGCONT);
	ret = stop_within(ctrl, id, STOP_SECONDS, force);
	if (ret == -ETIMEDOUT && signal_servers(id, SIGKILL))
		ret = stop_within(ctrl, id, KILLED_SECONDS, force);
	return ret;
}

static void forget(unsigned int id)
{
	ublk_bpf_unpin(id);
	state_remove(id);
}

/*
 * The server of a device of ours, to be waited for: what is behind the device is used
 * until that has exited. Return: a pidfd, or -1.
 */
static int open_server(struct ublk_bpf_ctrl *ctrl, unsigned int id, int *pid)
{
	struct json_object *state = state_load(id);
	struct ublksrv_ctrl_dev_info info = {};
	int fd = -1;

	if (state && ublk_bpf_get_info(ctrl, id, &info) >= 0 && info.ublksrv_pid > 0 &&
	    is_server(info.ublksrv_pid, id))
		fd = pidfd_open(info.ublksrv_pid, 0);
	*pid = info.ublksrv_pid;
	json_object_put(state);
	return fd;
}

static int wait_for_server(unsigned int id, int fd, int pid)
{
	struct pollfd server = { .fd = fd, .events = POLLIN };

	if (poll(&server, 1, EXIT_SECONDS * 1000))
		return 0;
	return complain("/dev/ublkb%u is deleted, but its server, process %d, still has to write what is behind it; use that when the process has ended",
			id, pid);
}

static int stop_and_delete(struct ublk_bpf_ctrl *ctrl, unsigned int id, struct claim *claim,
			   bool force)
{
	int ret = stop(ctrl, id, force);

	/* Its number becomes free only when nobody has it open. */
	end_claim(claim);
	if (ret < 0 && ret != -ENODEV)
		return complain("cannot stop /dev/ublkb%u: %s; see dmesg", id, strerror(-ret));
	ublk_bpf_ctrl_set_timeout(ctrl, DELETE_SECONDS);
	/* The server still has it: what is pinned and noted is this device's. */
	forget(id);
	if (!ret)
		ret = ublk_bpf_delete(ctrl, id);
	/* Its server may be deleting it, too. */
	if (ret == -ETIMEDOUT)
		return complain("/dev/ublkb%u is deleted, but somebody still has it open; its number is free when that ends (see fuser /dev/ublkb%u)",
				id, id);
	if (ret < 0 && ret != -ENODEV)
		return complain("cannot delete /dev/ublkb%u: %s; see dmesg", id, strerror(-ret));
	return 0;
}

#define STATUS_BUSY	(-1)	/* it is held by somebody, and nothing was said yet */

/* Return: exit status, or with @patient STATUS_BUSY. */
static int delete(struct ublk_bpf_ctrl *ctrl, unsigned int id, bool force, bool patient)
{
	struct claim *claim = new_claim(id);
	int server, pid, status;
	char user[512];

	if (!claim)
		return complain("out of memory");
	/* readers do not hold it, but would miss it */
	if (force) {
		claim_disk(claim);
	} else if (!claim_unused_disk(claim, id)) {
		end_claim(claim);
		if (patient)
			return STATUS_BUSY;
		find_user(id, user, sizeof(user));
		return complain("/dev/ublkb%u is in use: %s; end that, or delete it all the same: ublk-bpf del -n %u --force",
				id, user, id);
	}
	server = open_server(ctrl, id, &pid);
	status = stop_and_delete(ctrl, id, claim, force);
	if (server >= 0 && !status)
		status = wait_for_server(id, server, pid);
	if (server >= 0)
		close(server);
	return status;
}

static bool is_ours(struct ublk_bpf_ctrl *ctrl, unsigned int id)
{
	struct json_object *state = state_load(id);
	struct ublksrv_ctrl_dev_info info;
	bool ours = state;

	json_object_put(state);
	if (!ours)
		ours = ublk_bpf_get_info(ctrl, id, &info) >= 0 && (info.flags & UBLK_F_BPF);
	return ours;
}

/* Each with a control ring of its own: one that is stuck must not stop the rest. */
static int delete_one(unsigned int id, const struct del *del, bool patient)
{
	struct ublk_bpf_ctrl *ctrl = open_control();
	int status = 0;

	if (!ctrl)
		return EXIT_FAILURE;
	if (!del->all || is_ours(ctrl, id))
		status = delete(ctrl, id, del->force, patient);
	ublk_bpf_ctrl_close(ctrl);
	return status;
}

static bool contains(const unsigned int *ids, int nr, unsigned int id)
{
	while (nr-- > 0)
		if (ids[nr] == id)
			return true;
	return false;
}

/*
 * Delete the devices that are wanted. They can lie on each other: what was held
 * may not be any more when others are gone. Return: exit status.
 */
static int delete_wanted(const struct del *del, const unsigned int *ids, int nr)
{
	bool *done = calloc(nr + 1, sizeof(*done));
	bool patient = del->all, progress;
	int i, ret, status = 0;

	if (!done)
		return complain("out of memory");
	for (;; patient = progress) {
		progress = false;
		for (i = nr - 1; i >= 0; i--) {
			if (done[i] || (!del->all && ids[i] != (unsigned int)del->id))
				continue;
			ret = delete_one(ids[i], del, patient);
			if (ret == STATUS_BUSY)
				continue;
			status |= ret;
			done[i] = progress = true;
		}
		if (!patient)
			break;
	}
	free(done);
	return status;
}

int cmd_del(int argc, char **argv)
{
	struct del del = { .id = -1 };
	unsigned int *ids, *noted;
	int nr, nr_noted, i, status;

	argp_parse(&del_argp, argc, argv, 0, NULL, &del);
	nr = list_devices(&ids);
	if (nr < 0)
		return complain("cannot list devices: %s", strerror(-nr));
	status = delete_wanted(&del, ids, nr);

	/* What is left of devices that are gone, after a crash for example. */
	nr_noted = list_states(&noted);
	for (i = 0; i < nr_noted; i++)
		if ((del.all || noted[i] == (unsigned int)del.id) && !contains(ids, nr, noted[i]))
			forget(noted[i]);
	if (!del.all && !contains(ids, nr, del.id) && !contains(noted, nr_noted, del.id))
		status = complain("there is no device %d; 'ublk-bpf list' shows all", del.id);
	free(ids);
	free(noted);
	return status;
}
