// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf add: make a device and be its server, in the background or not. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>
#include "cli.h"

#define MAX_DEVICE_ID	((1U << 20) - 1)	/* minor numbers */

struct add {
	const struct ublk_bpf_target *target;
	struct ublk_bpf_args args;
	unsigned int given;	/* UBLK_BPF_OPT_* */
	bool foreground;
};

enum {
	KEY_OPS = 256,
	KEY_SERVER,
	KEY_FALLBACK,
	KEY_FOREGROUND,
	KEY_OWN = 512,		/* and the number of a target's own option */
};

static const struct argp_option add_options[] = {
	{ NULL, 'n', "ID", 0, "device number N of /dev/ublkbN; default: any free one", 1 },
	{ NULL, 'q', "QUEUES", 0, "hardware queues; default 1", 1 },
	{ NULL, 'd', "DEPTH", 0, "I/Os in flight a queue; default 128", 1 },
	{ "foreground", KEY_FOREGROUND, NULL, 0,
	  "stay; SIGTERM and SIGINT delete the device", 1 },
	{ NULL, 'f', "FILE[,start=BYTES][,length=BYTES]", 0,
	  "file or block device behind it, or a part; sizes with k, M, G, T", 2 },
	{ NULL, 'r', NULL, 0, "read only", 2 },
	{ NULL, 's', "SIZE", 0, "bytes of the device, with k, M, G, T", 2 },
	{ NULL, 'o', "FILE.bpf.o", 0, "BPF object file of the program (prog)", 3 },
	{ "ops", KEY_OPS, "NAME", 0, "which struct ublk_bpf_ops of it (prog)", 3 },
	{ "server", KEY_SERVER, NULL, 0, "no program: the server does all I/O", 3 },
	{ "fallback", KEY_FALLBACK, NULL, 0,
	  "when its program is gone, the server does all I/O", 3 },
	{}
};

/* How each UBLK_BPF_OPT_* is called on the command line. */
static const struct { unsigned int option; const char *name; } option_names[] = {
	{ UBLK_BPF_OPT_FILE | UBLK_BPF_OPT_FILES, "-f" },
	{ UBLK_BPF_OPT_READ_ONLY, "-r" },
	{ UBLK_BPF_OPT_SIZE, "-s" },
	{ UBLK_BPF_OPT_SERVER, "--server" },
	{ UBLK_BPF_OPT_OBJECT, "-o" },
	{ UBLK_BPF_OPT_FALLBACK, "--fallback" },
};

/* The options that are targets' own, by number; NULL: no more. */
static const struct ublk_bpf_option *own_option(unsigned int number)
{
	unsigned int i;

	for (i = 0; i < nr_targets; i++) {
		const struct ublk_bpf_option *option = targets[i]->own_options;

		for (; option && option->name; option++)
			if (!number--)
				return option;
	}
	return NULL;
}

static const struct ublk_bpf_option *find_own_option(const struct ublk_bpf_target *target,
						     const char *name)
{
	const struct ublk_bpf_option *option = target->own_options;

	for (; option && option->name; option++)
		if (!strcmp(option->name, name))
			return option;
	return NULL;
}

/* Which target's it is may not be known yet: see check_settings(). */
static void add_setting(struct argp_state *state, struct add *add,
			const struct ublk_bpf_option *option, const char *text)
{
	struct ublk_bpf_args *args = &add->args;
	struct ublk_bpf_setting *settings;

	settings = realloc(args->settings, (args->nr_settings + 1) * sizeof(*settings));
	if (!settings)
		argp_failure(state, EXIT_FAILURE, ENOMEM, "--%s", option->name);
	args->settings = settings;
	settings[args->nr_settings++] = (struct ublk_bpf_setting){ .option = option, .text = text };
}

static void check_settings(struct argp_state *state, struct add *add)
{
	unsigned int i;

	for (i = 0; i < add->args.nr_settings; i++) {
		struct ublk_bpf_setting *setting = &add->args.settings[i];
		const char *name = setting->option->name;

		setting->option = find_own_option(add->target, name);
		if (!setting->option)
			argp_error(state, "target %s has no option --%s", add->target->name, name);
		if (setting->option->parse(setting->text, &setting->value))
			argp_error(state, "--%s %s: %s is needed", name, setting->text,
				   setting->option->arg);
	}
}

static void add_file(struct argp_state *state, struct add *add, const char *text)
{
	struct ublk_bpf_args *args = &add->args;
	struct ublk_bpf_file *files;

	files = realloc(args->files, (args->nr_files + 1) * sizeof(*files));
	if (!files)
		argp_failure(state, EXIT_FAILURE, ENOMEM, "-f");
	args->files = files;
	if (ublk_bpf_parse_file(text, &files[args->nr_files]))
		argp_error(state, "-f %s: FILE[,start=BYTES][,length=BYTES] is needed", text);
	args->nr_files++;
}

static void check_usage(struct argp_state *state, struct add *add)
{
	unsigned int known, i;

	if (!add->target)
		argp_error(state, "which target? 'ublk-bpf --help' lists them");
	known = add->target->options;
	if (known & UBLK_BPF_OPT_FILE)
		known |= UBLK_BPF_OPT_FILES;
	for (i = 0; i < sizeof(option_names) / sizeof(option_names[0]); i++) {
		unsigned int option = option_names[i].option;

		if ((add->given & option) && !(known & option))
			argp_error(state, "target %s has no option %s", add->target->name,
				   option_names[i].name);
	}
	check_settings(state, add);
	if (add->args.ops && !(known & UBLK_BPF_OPT_OBJECT))
		argp_error(state, "target %s has no option --ops", add->target->name);
	if ((known & UBLK_BPF_OPT_FILE) && add->args.nr_files != 1)
		argp_error(state, "target %s needs one -f FILE", add->target->name);
	if ((known & UBLK_BPF_OPT_OBJECT) && !add->args.object)
		argp_error(state, "target %s needs -o FILE.bpf.o", add->target->name);
	if (add->args.server && add->args.fallback)
		argp_error(state, "--server has no program to fall back from; leave out --fallback");
}

static error_t add_parse(int key, char *arg, struct argp_state *state)
{
	struct add *add = state->input;
	struct ublk_bpf_args *args = &add->args;

	switch (key) {
	case 'n':
		args->dev_id = parse_number(arg, MAX_DEVICE_ID, "-n");
		break;
	case 'q':
		args->nr_queues = parse_number(arg, UBLK_MAX_NR_QUEUES, "-q");
		if (!args->nr_queues)
			argp_error(state, "-q: at least one queue is needed");
		break;
	case 'd':
		args->depth = parse_number(arg, UBLK_MAX_QUEUE_DEPTH, "-d");
		if (!args->depth)
			argp_error(state, "-d: a depth of at least 1 is needed");
		break;
	case 'f':
		add->given |= UBLK_BPF_OPT_FILES;
		add_file(state, add, arg);
		break;
	case 'r':
		add->given |= UBLK_BPF_OPT_READ_ONLY;
		args->read_only = true;
		break;
	case 's':
		add->given |= UBLK_BPF_OPT_SIZE;
		if (ublk_bpf_parse_size(arg, &args->size) || !args->size || args->size % 512)
			argp_error(state, "-s %s: a multiple of 512 bytes is needed, such as 1G",
				   arg);
		break;
	case 'o':
		add->given |= UBLK_BPF_OPT_OBJECT;
		args->object = arg;
		break;
	case KEY_OPS:
		args->ops = arg;
		break;
	case KEY_SERVER:
		add->given |= UBLK_BPF_OPT_SERVER;
		args->server = true;
		break;
	case KEY_FALLBACK:
		add->given |= UBLK_BPF_OPT_FALLBACK;
		args->fallback = true;
		break;
	case KEY_FOREGROUND:
		add->foreground = true;
		break;
	case ARGP_KEY_ARG:
		if (add->target)
			argp_error(state, "'%s' is one word too many", arg);
		add->target = find_target(arg);
		if (!add->target)
			argp_error(state, "no target '%s'; 'ublk-bpf --help' lists them", arg);
		break;
	case ARGP_KEY_END:
		check_usage(state, add);
		break;
	default:
		if (key < KEY_OWN || !own_option(key - KEY_OWN))
			return ARGP_ERR_UNKNOWN;
		add_setting(state, add, own_option(key - KEY_OWN), arg);
	}
	return 0;
}

/* What all targets understand, then what is one's own. Never freed. */
static struct argp_option *all_options(void)
{
	const size_t nr_common = sizeof(add_options) / sizeof(add_options[0]) - 1;
	const struct ublk_bpf_option *own;
	struct argp_option *options;
	unsigned int nr = 0, i;

	while (own_option(nr))
		nr++;
	options = calloc(nr_common + nr + 1, sizeof(*options));
	if (!options)
		abort();
	memcpy(options, add_options, nr_common * sizeof(*options));
	for (i = 0; i < nr; i++) {
		own = own_option(i);
		options[nr_common + i] = (struct argp_option){
			own->name, KEY_OWN + i, own->arg, 0, own->help, 4
		};
	}
	return options;
}

/* "loop over /img", "prog my.bpf.o over /a, /b" */
static void describe(const struct add *add, char *text, size_t size)
{
	const struct ublk_bpf_args *args = &add->args;
	size_t used;
	unsigned int i;

	used = snprintf(text, size, "%s%s%s", add->target->name, args->object ? " " : "",
			args->object ? args->object : "");
	for (i = 0; i < args->nr_files && used < size; i++)
		used += snprintf(text + used, size - used, "%s%s", i ? ", " : " over ",
				 args->files[i].path);
}

static int fail(const struct add *add, int report_fd, const char *reason, const char *detail)
{
	size_t len = strlen(detail);
	char what[1024], text[8000];

	describe(add, what, sizeof(what));
	snprintf(text, sizeof(text), "ublk-bpf: cannot add %s: %s\n%s%s", what, reason, detail,
		 len && detail[len - 1] != '\n' ? "\n" : "");
	if (report_fd >= 0)
		daemon_report_failure(report_fd, text);
	else
		fputs(text, stderr);
	return EXIT_FAILURE;
}

static void say(const struct add *add, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(const struct add *add, int priority, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (add->foreground) {
		fprintf(stderr, "ublk-bpf: ");
		vfprintf(stderr, format, args);
		fputc('\n', stderr);
	} else {
		vsyslog(priority, format, args);
	}
	va_end(args);
}

/* Be the server. Return: exit status. */
static int serve(const struct add *add, int report_fd)
{
	struct ublk_bpf_dev *dev;
	unsigned int id;
	int ret;

	ret = ublk_bpf_dev_new(add->target, &add->args, &dev);
	if (ret)
		return fail(add, report_fd, strerror(-ret), "");
	ret = ublk_bpf_dev_start(dev);
	if (ret) {
		ret = fail(add, report_fd, ublk_bpf_dev_error(dev), ublk_bpf_dev_error_detail(dev));
		goto free_dev;
	}
	id = ublk_bpf_dev_id(dev);
	ret = state_save(id, add->target, &add->args);
	if (ret) {
		ret = fail(add, report_fd, "cannot write " STATE_DIR "; is /run full?", "");
		goto free_dev;
	}
	/* No folder is to be kept busy by a server. */
	if (chdir("/"))
		say(add, LOG_WARNING, "cannot go to /: %s", strerror(errno));
	if (add->foreground) {
		wait_usable(id);
		printf("/dev/ublkb%u\n", id);
		fflush(stdout);
	} else {
		daemon_report_ready(report_fd, id);
		say(add, LOG_INFO, "/dev/ublkb%u (%s) is there", id, add->target->name);
	}

	ret = ublk_bpf_dev_wait(dev);
	if (ret < 0)
		say(add, LOG_ERR, "/dev/ublkb%u failed: %s; it is deleted", id, strerror(-ret));
	else if (!add->foreground)
		say(add, LOG_INFO, "/dev/ublkb%u ends, stopped by %s", id,
		    ret ? "a signal" : "a command");
	/*
	 * Before the device is given up: later its number may be another's.
	 * Who stopped it by a command also deletes it.
	 */
	state_remove(id);
	ublk_bpf_dev_end(dev, ret != 0);
	ret = ret < 0 ? EXIT_FAILURE : 0;
free_dev:
	ublk_bpf_dev_free(dev);
	return ret;
}

int cmd_add(int argc, char **argv)
{
	const struct argp argp = {
		.options	= all_options(),
		.parser		= add_parse,
		.args_doc	= "TARGET",
		.doc		= "Make a ublk device and print its path once it can be used.",
	};
	struct add add = { .args = { .dev_id = -1 } };
	bool is_child;
	unsigned int id;
	int report_fd, ret;

	argp_parse(&argp, argc, argv, 0, NULL, &add);
	load_module();
	signal(SIGPIPE, SIG_IGN);
	if (add.foreground)
		return serve(&add, -1);

	ret = daemon_start(&report_fd, &id, &is_child);
	if (is_child) {
		openlog("ublk-bpf", LOG_PID, LOG_DAEMON);
		exit(ret ? EXIT_FAILURE : serve(&add, report_fd));
	}
	if (ret)
		return ret;
	ret = wait_usable(id);
	if (ret)
		return complain("/dev/ublkb%u is there but cannot be opened: %s; delete it: ublk-bpf del -n %u",
				id, strerror(-ret), id);
	printf("/dev/ublkb%u\n", id);
	return 0;
}
