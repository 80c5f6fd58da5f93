// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf recover: a new server for a device whose server died. */
#include <argp.h>
#include <stdlib.h>
#include "cli.h"

struct recover {
	struct service service;
	int id;
};

enum { KEY_FOREGROUND = 256 };

static error_t recover_parse(int key, char *arg, struct argp_state *state)
{
	struct recover *recover = state->input;

	switch (key) {
	case 'n':
		recover->id = parse_number(arg, 0x7fffffff, "-n");
		return 0;
	case KEY_FOREGROUND:
		recover->service.foreground = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is one word too many; name a device by -n ID", arg);
		return 0;
	case ARGP_KEY_END:
		if (recover->id < 0)
			argp_error(state, "which device? -n ID");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option recover_options[] = {
	{ NULL, 'n', "ID", 0, "the device", 0 },
	{ "foreground", KEY_FOREGROUND, NULL, 0, "stay; SIGTERM and SIGINT delete the device", 0 },
	{}
};

static const struct argp recover_argp = {
	.options = recover_options,
	.parser = recover_parse,
	.doc = "Serve a device again whose server died, made with add --recover; print its path. "
	       "What waited for a server goes on.",
};

int cmd_recover(int argc, char **argv)
{
	struct recover recover = { .id = -1, .service.recover = true };

	argp_parse(&recover_argp, argc, argv, 0, NULL, &recover);
	if (state_args(recover.id, &recover.service.target, &recover.service.args))
		return EXIT_FAILURE;
	return serve(&recover.service);
}
