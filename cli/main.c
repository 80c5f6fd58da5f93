// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf: add, list, recover, reload and delete ublk devices whose I/O a BPF program does. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/libbpf.h>
#include "cli.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

static const struct command commands[] = {
	{ "add",	cmd_add,	"make a device, print its path" },
	{ "list",	cmd_list,	"show devices, who serves them and what they did" },
	{ "stats",	cmd_stats,	"show what devices do by the second, and which way" },
	{ "recover",	cmd_recover,	"serve a device again whose server died" },
	{ "reload",	cmd_reload,	"take over what has changed behind a device" },
	{ "del",	cmd_del,	"delete a device, its server alive or not" },
	{ "check",	cmd_check,	"say whether this machine can run it, and what to do" },
	{ "features",	cmd_features,	"show what the loaded driver can do" },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *f)
{
	unsigned int i;

	fprintf(f, "Usage: ublk-bpf COMMAND [OPTION...]\n\nCommands:\n");
	for (i = 0; i < NR_COMMANDS; i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	fprintf(f, "\nTargets of add:\n");
	for (i = 0; i < nr_targets; i++)
		fprintf(f, "  %-10s %s\n", targets[i]->name, targets[i]->help);
	fprintf(f, "\n'ublk-bpf COMMAND --help' says more; so does ublk-bpf(8).\n");
}

static int run(int argc, char **argv)
{
	unsigned int i;

	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("ublk-bpf " UBLK_BPF_VERSION "\n");
		return 0;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help") || !strcmp(argv[1], "-h")) {
		usage(stdout);
		return 0;
	}
	for (i = 0; i < NR_COMMANDS; i++) {
		char name[32];

		if (strcmp(argv[1], commands[i].name))
			continue;
		/* argp names the program by argv[0] */
		snprintf(name, sizeof(name), "ublk-bpf %s", argv[1]);
		argv[1] = name;
		return commands[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "ublk-bpf: no command '%s'; try 'ublk-bpf --help'\n", argv[1]);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	int status;

	argp_err_exit_status = EXIT_USAGE;
	libbpf_set_print(NULL);		/* what matters of it is in our own sentence */
	status = run(argc, argv);
	if (fflush(stdout) || ferror(stdout))
		return complain("cannot write to standard output: %s", strerror(errno));
	return status;
}
