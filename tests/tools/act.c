// SPDX-License-Identifier: GPL-2.0
/*
 * act complete KEY RES | release KEY | drop KEY
 * act forward|forward-keep|forward-complete KEY OFF BYTES SLOT POS [RES]
 *
 * Have the SYSCALL program "act" (tests/progs/hold.bpf.c) do that with the hold
 * KEY; drop: "drop" (tests/progs/drop.bpf.c), whose map is freed when this ends.
 * Prints "ok" or the errno's name.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "../progs/hold.h"
#include "map.h"

static const struct { const char *name; enum act act; } names[] = {
	{ "complete",		ACT_COMPLETE },
	{ "release",		ACT_RELEASE },
	{ "forward",		ACT_FORWARD },
	{ "forward-keep",	ACT_FORWARD_KEEP },
	{ "forward-complete",	ACT_FORWARD_COMPLETE },
};

/* The newest program of that name. */
static int find_program(const char *name)
{
	__u32 id = 0;
	int found = -1;

	while (!bpf_prog_get_next_id(id, &id)) {
		struct bpf_prog_info info = {};
		__u32 len = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(id);

		if (fd < 0)
			continue;
		if (!bpf_prog_get_info_by_fd(fd, &info, &len) && !strcmp(info.name, name)) {
			if (found >= 0)
				close(found);
			found = fd;
		} else {
			close(fd);
		}
	}
	return found;
}

/* It lives until the process ends. */
static int load_drop(void)
{
	struct bpf_object *obj = bpf_object__open_file("build/tests-progs/drop.bpf.o", NULL);
	struct bpf_program *prog;
	unsigned int words;
	struct bpf_map *map;

	if (!obj)
		return -1;
	map = bpf_object__find_map_by_name(obj, "kept");
	if (!map || bpf_map__reuse_fd(map, map_find("kept", &words)) || bpf_object__load(obj))
		return -1;
	prog = bpf_object__find_program_by_name(obj, "drop");
	return prog ? bpf_program__fd(prog) : -1;
}

static long long word(int argc, char **argv, int i)
{
	return argc > i ? strtoll(argv[i], NULL, 0) : 0;
}

int main(int argc, char **argv)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct act_args args = { .act = -1 };
	unsigned int i;
	int fd, ret;
	bool drop;

	for (i = 0; argc > 2 && i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(names[i].name, argv[1]))
			args.act = names[i].act;
	drop = argc > 2 && !strcmp(argv[1], "drop");
	if (args.act < 0 && !drop) {
		fprintf(stderr, "act: see the top of tests/tools/act.c\n");
		return 2;
	}
	args.key = word(argc, argv, 2);
	if (args.act < ACT_FORWARD) {
		args.res = word(argc, argv, 3);
	} else {
		args.off = word(argc, argv, 3);
		args.bytes = word(argc, argv, 4);
		args.slot = word(argc, argv, 5);
		args.pos = word(argc, argv, 6);
		args.res = word(argc, argv, 7);
	}
	fd = drop ? load_drop() : find_program("act");
	if (fd < 0) {
		fprintf(stderr, "act: no such program\n");
		return 1;
	}
	opts.ctx_in = &args;
	opts.ctx_size_in = sizeof(args);
	ret = bpf_prog_test_run_opts(fd, &opts);
	if (ret)
		printf("run %s\n", strerrorname_np(-ret));
	else if ((int)opts.retval < 0)
		printf("%s\n", strerrorname_np(-(int)opts.retval));
	else
		puts("ok");
	return 0;
}
