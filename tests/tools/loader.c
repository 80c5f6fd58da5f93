// SPDX-License-Identifier: GPL-2.0
/*
 * loader OBJECT ID [OPS]
 *
 * Load the struct_ops map OPS (the first one) of OBJECT with the id ID, register
 * it, say "ready" and keep it until killed. Else "load ERRNO" or
 * "register ERRNO", with what libbpf and the verifier say on stderr.
 */
#include <errno.h>
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

int main(int argc, char **argv)
{
	struct bpf_map *map, *ops = NULL;
	struct bpf_object *obj;
	unsigned int id;
	void *value;
	size_t size;

	if (argc < 3) {
		fprintf(stderr, "loader OBJECT ID [OPS]\n");
		return 2;
	}
	id = strtoul(argv[2], NULL, 0);
	obj = bpf_object__open_file(argv[1], NULL);
	if (!obj)
		return failed("open");
	bpf_object__for_each_map(map, obj) {
		if (bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS)
			continue;
		if (!ops && (argc < 4 || !strcmp(bpf_map__name(map), argv[3])))
			ops = map;
		else
			bpf_map__set_autocreate(map, false);
	}
	if (!ops) {
		printf("no ops\n");
		return 1;
	}
	/* ours have their id first, others' are left as they are */
	value = bpf_map__initial_value(ops, &size);
	if (id && value)
		memcpy(value, &id, sizeof(id));
	if (bpf_object__load(obj))
		return failed("load");
	if (!bpf_map__attach_struct_ops(ops))
		return failed("register");
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
