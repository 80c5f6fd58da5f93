// SPDX-License-Identifier: GPL-2.0
/*
 * loader OBJECT ID [OPS [NEXT_ID [NEXT_OPS]]]
 *
 * Load the struct_ops map OPS (the first one) of OBJECT with the id ID, register
 * it, say "ready" and keep it until killed. Else "load ERRNO" or
 * "register ERRNO", with what libbpf and the verifier say on stderr.
 *
 * SIGUSR1: load it again, NEXT_OPS with NEXT_ID, and let that take over by an update of
 * the link; say "updated" or "update ERRNO".
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <bpf/libbpf.h>

static int failed(const char *what)
{
	const char *name = strerrorname_np(errno);

	if (name)
		printf("%s %s\n", what, name);
	else
		printf("%s %d\n", what, errno);
	return 1;
}

struct program {
	struct bpf_object *obj;
	struct bpf_map *ops;
};

static int load(struct program *program, const char *path, unsigned int id, const char *ops)
{
	struct bpf_map *map;
	void *value;
	size_t size;

	program->ops = NULL;
	program->obj = bpf_object__open_file(path, NULL);
	if (!program->obj)
		return failed("open");
	bpf_object__for_each_map(map, program->obj) {
		if (bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS)
			continue;
		if (!program->ops && (!ops || !strcmp(bpf_map__name(map), ops)))
			program->ops = map;
		else
			bpf_map__set_autocreate(map, false);
	}
	if (!program->ops) {
		printf("no ops\n");
		return 1;
	}
	/* ours have their id first, others' are left as they are */
	value = bpf_map__initial_value(program->ops, &size);
	if (id && value)
		memcpy(value, &id, sizeof(id));
	if (bpf_object__load(program->obj))
		return failed("load");
	return 0;
}

/*
 * The old one's maps live until the next time, as those that are pinned do: what is held
 * in there is not to be waited for.
 */
static void update(struct bpf_link *link, struct program *program, const char *path,
		   unsigned int id, const char *ops)
{
	static struct bpf_object *old;
	struct program new;

	if (load(&new, path, id, ops))
		return;
	if (bpf_link__update_map(link, new.ops)) {
		int err = errno;

		bpf_object__close(new.obj);
		errno = err;
		failed("update");
		return;
	}
	bpf_object__close(old);
	old = program->obj;
	*program = new;
	puts("updated");
}

int main(int argc, char **argv)
{
	struct program program;
	struct bpf_link *link;
	const char *ops = argc > 3 ? argv[3] : NULL;
	unsigned int id;
	sigset_t set;
	int sig;

	if (argc < 3) {
		fprintf(stderr, "loader OBJECT ID [OPS [NEXT_ID [NEXT_OPS]]]\n");
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	id = strtoul(argv[2], NULL, 0);
	if (load(&program, argv[1], id, ops))
		return 1;
	link = bpf_map__attach_struct_ops(program.ops);
	if (!link)
		return failed("register");
	puts("ready");
	fflush(stdout);
	if (argc > 4)
		id = strtoul(argv[4], NULL, 0);
	if (argc > 5)
		ops = argv[5];
	while (!sigwait(&set, &sig)) {
		update(link, &program, argv[1], id, ops);
		fflush(stdout);
	}
	return 1;
}
