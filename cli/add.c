// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf add: make a device and be its server. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"

#define MAX_DEVICE_ID	((1U << 20) - 1)	/* minor numbers */

struct add {
	struct service service;
	unsigned int given;	/* UBLK_BPF_OPT_* */
};

enum {
	KEY_OPS = 256,
	KEY_SERVER,
	KEY_FALLBACK,
	KEY_RECOVER,
	KEY_BUFFERED,
	KEY_FOREGROUND,
	KEY_OWN = 512,		/* and the number of a target's own option */
};

static const struct argp_option add_options[] = {
	{ NULL, 'n', "ID", 0, "device number N of /dev/ublkbN; default: any free one", 1 },
	{ NULL, 'q', "QUEUES", 0, "hardware queues; default 1", 1 },
	{ NULL, 'd', "DEPTH", 0, "I/Os in flight a queue; default 128", 1 },
	{ "recover", KEY_RECOVER, "wait|fail", 0,
	  "live on without the server: I/O that needs it waits for ublk-bpf recover, or fails", 1 },
	{ "foreground", KEY_FOREGROUND, NULL, 0,
	  "stay; SIGTERM and SIGINT delete the device", 1 },
	{ NULL, 'f', "FILE[,start=BYTES][,length=BYTES]", 0,
	  "file or block device behind it, or a part; sizes with k, M, G, T", 2 },
	{ NULL, 'r', NULL, 0, "read only", 2 },
	{ "buffered", KEY_BUFFERED, NULL, 0,
	  "by the file's page cache, in blocks of 512 bytes; else direct I/O (loop)", 2 },
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
	{ UBLK_BPF_OPT_BUFFERED, "--buffered" },
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

/* As argp knows it: the letter of one letter, or by its number. */
static int key_of_option(unsigned int number)
{
	const char *name = own_option(number)->name;

	return name[1] ? KEY_OWN + (int)number : name[0];
}

static const struct ublk_bpf_option *option_of_key(int key)
{
	unsigned int i;

	for (i = 0; own_option(i); i++)
		if (key_of_option(i) == key)
			return own_option(i);
	return NULL;
}

/* Which target's it is may not be known yet: see check_settings(). */
static void add_setting(struct argp_state *state, struct add *add,
			const struct ublk_bpf_option *option, const char *text)
{
	struct ublk_bpf_args *args = &add->service.args;
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

	for (i = 0; i < add->service.args.nr_settings; i++) {
		struct ublk_bpf_setting *setting = &add->service.args.settings[i];
		const char *name = setting->option->name, *dashes = name[1] ? "--" : "-";

		setting->option = find_own_option(add->service.target, name);
		if (!setting->option)
			argp_error(state, "target %s has no option %s%s", add->service.target->name,
				   dashes, name);
		if (!setting->option->parse || !setting->option->parse(setting->text, &setting->value))
			continue;
		if (setting->option->needs)
			argp_error(state, "--%s %s: %s", name, setting->text,
				   setting->option->needs);
		argp_error(state, "--%s %s: %s is needed", name, setting->text,
			   setting->option->arg);
	}
}

static void add_file(struct argp_state *state, struct add *add, const char *text)
{
	struct ublk_bpf_args *args = &add->service.args;
	struct ublk_bpf_file *files;

	files = realloc(args->files, (args->nr_files + 1) * sizeof(*files));
	if (!files)
		argp_failure(state, EXIT_FAILURE, ENOMEM, "-f");
	args->files = files;
	switch (ublk_bpf_parse_file(text, &files[args->nr_files])) {
	case 0:
		args->nr_files++;
		return;
	case -EDOM:
		argp_error(state, "-f %s: length must not be 0; leave it out for all that is left",
			   text);
		return;
	case -ERANGE:
		argp_error(state, "-f %s: start and length are too large, no file goes that far",
			   text);
		return;
	default:
		argp_error(state, "-f %s: FILE[,start=BYTES][,length=BYTES] is needed", text);
	}
}

static void set_size(struct argp_state *state, struct add *add, const char *text)
{
	__u64 *size = &add->service.args.size;

	switch (ublk_bpf_parse_size(text, size)) {
	case 0:
		if (!*size || *size % 512)
			argp_error(state, "-s %s: a multiple of 512 bytes is needed, and not 0",
				   text);
		return;
	case -ERANGE:
		argp_error(state, "-s %s: too large; less than 8388608T is needed", text);
		return;
	default:
		argp_error(state, "-s %s: a size such as 1G is needed: a number, and k, M, G, T or nothing",
			   text);
	}
}

static void check_usage(struct argp_state *state, struct add *add)
{
	const struct ublk_bpf_file *file;
	unsigned int known, i;

	if (!add->service.target)
		argp_error(state, "which target? 'ublk-bpf --help' lists them");
	known = add->service.target->options;
	if (known & UBLK_BPF_OPT_FILE)
		known |= UBLK_BPF_OPT_FILES;
	for (i = 0; i < sizeof(option_names) / sizeof(option_names[0]); i++) {
		unsigned int option = option_names[i].option;

		if ((add->given & option) && !(known & option))
			argp_error(state, "target %s has no option %s", add->service.target->name,
				   option_names[i].name);
	}
	check_settings(state, add);
	if (add->service.args.ops && !(known & UBLK_BPF_OPT_OBJECT))
		argp_error(state, "target %s has no option --ops", add->service.target->name);
	if ((known & UBLK_BPF_OPT_FILE) && add->service.args.nr_files != 1)
		argp_error(state, "target %s needs one -f FILE", add->service.target->name);
	file = add->service.args.files;
	if ((known & UBLK_BPF_OPT_WHOLE) && (file->start || file->bytes))
		argp_error(state, "target %s uses %s as a whole; leave out start and length",
			   add->service.target->name, file->path);
	if ((known & UBLK_BPF_OPT_OBJECT) && !add->service.args.object)
		argp_error(state, "target %s needs -o FILE.bpf.o", add->service.target->name);
	if (add->service.args.server && add->service.args.fallback)
		argp_error(state, "--server has no program to fall back from; leave out --fallback");
}

static error_t add_parse(int key, char *arg, struct argp_state *state)
{
	struct add *add = state->input;
	struct ublk_bpf_args *args = &add->service.args;

	switch (key) {
	case 'n':
		args->dev_id = parse_number(arg, MAX_DEVICE_ID, "-n");
		break;
	case 'q':
		args->nr_queues = parse_count(arg, UBLK_MAX_NR_QUEUES, "-q");
		break;
	case 'd':
		args->depth = parse_count(arg, UBLK_MAX_QUEUE_DEPTH, "-d");
		break;
	case 'f':
		add->given |= UBLK_BPF_OPT_FILES;
		add_file(state, add, arg);
		break;
	case 'r':
		add->given |= UBLK_BPF_OPT_READ_ONLY;
		args->read_only = true;
		break;
	case KEY_BUFFERED:
		add->given |= UBLK_BPF_OPT_BUFFERED;
		args->buffered = true;
		break;
	case 's':
		add->given |= UBLK_BPF_OPT_SIZE;
		set_size(state, add, arg);
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
	case KEY_RECOVER:
		if (parse_recover(arg, &args->recover))
			argp_error(state, "--recover %s: wait or fail is needed", arg);
		break;
	case KEY_FOREGROUND:
		add->service.foreground = true;
		break;
	case ARGP_KEY_ARG:
		if (add->service.target)
			argp_error(state, "'%s' is one word too many", arg);
		add->service.target = find_target(arg);
		if (!add->service.target)
			argp_error(state, "no target '%s'; 'ublk-bpf --help' lists them", arg);
		break;
	case ARGP_KEY_END:
		check_usage(state, add);
		break;
	default:
		if (!option_of_key(key))
			return ARGP_ERR_UNKNOWN;
		add_setting(state, add, option_of_key(key), arg);
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
			own->name[1] ? own->name : NULL, key_of_option(i), own->arg, 0, own->help, 4
		};
	}
	return options;
}

int cmd_add(int argc, char **argv)
{
	const struct argp argp = {
		.options	= all_options(),
		.parser		= add_parse,
		.args_doc	= "TARGET",
		.doc		= "Make a ublk device and print its path once it can be used.",
	};
	struct add add = { .service.args.dev_id = -1 };

	argp_parse(&argp, argc, argv, 0, NULL, &add);
	load_module();
	return serve(&add.service);
}
