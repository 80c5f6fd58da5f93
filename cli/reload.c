// SPDX-License-Identifier: GPL-2.0
/*
 * ublk-bpf reload: have the server of a device take over what has changed behind it. The
 * command asks it by one packet, {} or {"file": ...} as in the state, on a socket in
 * /run/ublk-bpf; the answer is one packet too, empty or a sentence. Before that it may ask
 * {"pause": true}: then the server lets go of what is behind the device until it hears from
 * that connection again, or nobody has it any more.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli.h"

#define MAX_PACKET	8192
#define ASK_SECONDS	5	/* a command that does not come to its question */
#define ANSWER_SECONDS	60	/* a server that does not answer */
#define PATIENT_SECONDS	5	/* until we say that it does not yet */

static void socket_address(struct sockaddr_un *address, unsigned int id)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(address->sun_path, sizeof(address->sun_path), STATE_DIR "/%u.sock", id);
}

static void set_timeout(int fd, int seconds)
{
	struct timeval time = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

int reload_listen(unsigned int id)
{
	struct sockaddr_un address;
	mode_t mask = umask(0077);
	int fd, ret = 0;

	socket_address(&address, id);
	unlink(address.sun_path);	/* a dead server's */
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 4))
		ret = -errno;
	umask(mask);
	if (!ret)
		return fd;
	if (fd >= 0)
		close(fd);
	return ret;
}

/* Do what is asked for. Return: NULL, or what is wrong. */
static const char *reload(struct ublk_bpf_dev *dev, const struct ublk_bpf_target *target,
			  struct ublk_bpf_args *args, const char *text)
{
	struct json_object *json = json_tokener_parse(text);
	struct json_object *file_json = json_object_object_get(json, "file");
	struct ublk_bpf_file file = {};
	const char *wrong = NULL;
	int ret = -EINVAL;

	if (!json || (file_json && state_file(file_json, &file)))
		wrong = "the server does not understand the question; is it of another version?";
	else
		ret = ublk_bpf_dev_reload(dev, file_json ? &file : NULL);
	if (ret && !wrong)
		wrong = ublk_bpf_dev_error(dev);
	if (ret >= 0 && file_json) {
		free(args->files[0].path);
		args->files[0] = file;
		file.path = NULL;
	}
	if (ret >= 0 && state_save(dev, target, args))
		wrong = "it is done, but " STATE_DIR " cannot be written; is /run full?";
	free(file.path);
	json_object_put(json);
	return wrong;
}

static bool wants_pause(const char *text)
{
	struct json_object *json = json_tokener_parse(text), *pause;
	bool wanted = json_object_object_get_ex(json, "pause", &pause) && json_object_get_boolean(pause);

	json_object_put(json);
	return wanted;
}

/* Return: it got there. */
static bool answer(int fd, const char *wrong)
{
	if (!wrong)
		wrong = "";
	return send(fd, wrong, strlen(wrong) + 1, MSG_NOSIGNAL) >= 0;
}

/* Until it asks again, or has gone; or the device ends. Return: as ublk_bpf_dev_wait_fd(). */
static int wait_for_client(struct ublk_bpf_dev *dev, int fd)
{
	int ret;

	do
		ret = ublk_bpf_dev_wait_fd(dev, fd);
	while (ret == 3);
	return ret;
}

int reload_answer(int listen_fd, struct ublk_bpf_dev *dev, const struct ublk_bpf_target *target,
		  struct ublk_bpf_args *args)
{
	char text[MAX_PACKET];
	ssize_t len;
	int fd, ret = 2;

	fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return ret;
	set_timeout(fd, ASK_SECONDS);
	len = recv(fd, text, sizeof(text) - 1, 0);
	text[len > 0 ? len : 0] = '\0';
	if (len > 0 && wants_pause(text)) {
		if (ublk_bpf_dev_pause(dev)) {
			answer(fd, ublk_bpf_dev_error(dev));
			len = 0;
		} else {
			if (answer(fd, NULL))
				ret = wait_for_client(dev, fd);
			/* what is left unread would be an error of the connection */
			recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
			strcpy(text, "{}");
		}
	}
	/* who asked may have gone: it is done all the same */
	if (len > 0)
		answer(fd, reload(dev, target, args, text));
	close(fd);
	return ret;
}

void reload_unlink(unsigned int id)
{
	struct sockaddr_un address;

	socket_address(&address, id);
	unlink(address.sun_path);
}

static int connect_server(unsigned int id)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ret = 0;
	struct sockaddr_un address;

	socket_address(&address, id);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		ret = -errno;
	if (ret && fd >= 0)
		close(fd);
	return ret ?: fd;
}

/* Ask the server. Return: 0 with its @answer, or a negative errno. */
static int ask(int fd, const char *question, char *answer)
{
	ssize_t len;

	set_timeout(fd, PATIENT_SECONDS);
	if (send(fd, question, strlen(question), MSG_NOSIGNAL) < 0)
		return -errno;
	len = recv(fd, answer, MAX_PACKET - 1, 0);
	if (len < 0 && errno == EAGAIN) {
		complain("its server has not answered for %u seconds; does it stand still? waiting for %u more",
			 PATIENT_SECONDS, ANSWER_SECONDS - PATIENT_SECONDS);
		set_timeout(fd, ANSWER_SECONDS - PATIENT_SECONDS);
		len = recv(fd, answer, MAX_PACKET - 1, 0);
	}
	if (len <= 0)
		return len ? -errno : -ECONNRESET;
	answer[len] = '\0';
	return 0;
}

/* What is in memory of the old file's is to be there before another one's turn. */
static int sync_disk(unsigned int id)
{
	char path[32];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/dev/ublkb%u", id);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		ret = complain("cannot write back what is in memory of %s: %s; nothing was changed",
			       path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ret;
}

struct reload {
	int id;
	const char *text;
	struct ublk_bpf_file file;
	char **command;
};

static error_t reload_parse(int key, char *arg, struct argp_state *state)
{
	struct reload *reload = state->input;

	switch (key) {
	case 'n':
		reload->id = parse_number(arg, 0x7fffffff, "-n");
		return 0;
	case 'f':
		if (reload->text)
			argp_error(state, "-f %s: one file takes the place of one", arg);
		if (ublk_bpf_parse_file(arg, &reload->file))
			argp_error(state, "-f %s: FILE[,start=BYTES][,length=BYTES] is needed", arg);
		reload->text = arg;
		return 0;
	case ARGP_KEY_ARG:
		reload->command = state->argv + state->next - 1;
		state->next = state->argc;	/* its options are not ours */
		return 0;
	case ARGP_KEY_END:
		if (reload->id < 0)
			argp_error(state, "which device? -n ID");
		if (reload->command && reload->text)
			argp_error(state, "-f FILE and a command exclude each other");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option reload_options[] = {
	{ NULL, 'n', "ID", 0, "the device", 0 },
	{ NULL, 'f', "FILE[,start=BYTES][,length=BYTES]", 0,
	  "from now on it is this file that is behind it", 0 },
	{}
};

static const struct argp reload_argp = {
	.options = reload_options,
	.parser = reload_parse,
	.args_doc = "[COMMAND [ARGUMENT...]]",
	.doc = "Have a device take over what has changed behind it: the size of its file, or "
	       "another file. I/O goes on meanwhile.\v"
	       "With COMMAND that is run first, while nothing of the device keeps it from the "
	       "file: reload -n 0 qemu-img resize disk.qcow2 +10G",
};

/* Nobody listens. Return: an exit status. */
static int complain_of_nobody(const struct reload *reload)
{
	struct ublksrv_ctrl_dev_info info;
	struct ublk_bpf_ctrl *ctrl = open_control();
	struct json_object *state;
	int ret;

	if (!ctrl)
		return EXIT_FAILURE;
	ret = ublk_bpf_get_info(ctrl, reload->id, &info);
	ublk_bpf_ctrl_close(ctrl);
	if (ret == -ENODEV)
		return complain("there is no device %d; 'ublk-bpf list' shows all", reload->id);
	if (ret < 0)
		return complain("cannot reload device %d: %s", reload->id, strerror(-ret));
	state = state_load(reload->id);
	json_object_put(state);
	if (!state)
		return complain("cannot reload device %d: it was not made by ublk-bpf add",
				reload->id);
	if (info.state == UBLK_S_DEV_LIVE)
		return complain("cannot reload device %d: its server does not listen; see the system log",
				reload->id);
	if (!(info.flags & UBLK_F_USER_RECOVERY))
		return complain("cannot reload device %d: its server is gone, and it was not added with --recover; delete it: ublk-bpf del -n %d",
				reload->id, reload->id);
	return complain("cannot reload device %d: it has no server; bring one: ublk-bpf recover -n %d",
			reload->id, reload->id);
}

/* Say why a server did not answer, or what it answered. Return: an exit status. */
static int complain_of(const struct reload *reload, int ret, const char *answer)
{
	if (ret == -ENOENT || ret == -ECONNREFUSED)
		return complain_of_nobody(reload);
	if (ret == -EACCES)
		return complain("cannot reload device %d: %s; be root", reload->id, strerror(EACCES));
	if (ret == -EAGAIN)
		return complain("cannot reload device %d: its server does not answer; see the system log",
				reload->id);
	if (ret)
		return complain("cannot reload device %d: %s", reload->id, strerror(-ret));
	if (answer[0] && reload->text)
		return complain("cannot reload device %d: %s: %s", reload->id, reload->file.path, answer);
	if (answer[0])
		return complain("cannot reload device %d: %s", reload->id, answer);
	return 0;
}

/* The child keeps the connection, so the server waits for it though we be killed. */
static int run_command(int fd, char **command)
{
	int status = 0;
	pid_t child = fork();

	if (!child) {
		fcntl(fd, F_SETFD, 0);
		execvp(command[0], command);
		complain("cannot run %s: %s", command[0], strerror(errno));
		_exit(127);
	}
	if (child < 0)
		return complain("cannot run %s: %s", command[0], strerror(errno));
	signal(SIGINT, SIG_IGN);	/* it is the child's */
	signal(SIGQUIT, SIG_IGN);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int cmd_reload(int argc, char **argv)
{
	struct reload reload = { .id = -1 };
	struct json_object *question = json_object_new_object();
	char answer[MAX_PACKET] = "";
	int fd, ret, status = 0, failed = 0;

	argp_parse(&reload_argp, argc, argv, ARGP_IN_ORDER, NULL, &reload);
	fd = connect_server(reload.id);
	if (fd >= 0 && reload.text) {
		json_object_object_add(question, "file", state_file_json(&reload.file));
		close(fd);	/* a server does not wait long for its question */
		if (sync_disk(reload.id))
			return EXIT_FAILURE;
		fd = connect_server(reload.id);
	}
	if (fd < 0)
		return complain_of(&reload, fd, answer);
	if (reload.command) {
		/* a server that does not know the word does not take the file either */
		status = complain_of(&reload, ask(fd, "{\"pause\": true, \"file\": {}}", answer), answer);
		if (status)
			return status;
		failed = run_command(fd, reload.command);
	}
	ret = ask(fd, json_object_to_json_string(question), answer);
	json_object_put(question);
	close(fd);
	status = complain_of(&reload, ret, answer);
	if (failed && failed != 127 && !status)
		complain("%s has failed; the device has what is behind it again", reload.command[0]);
	return status || failed ? EXIT_FAILURE : 0;
}
