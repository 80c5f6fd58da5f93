/* SPDX-License-Identifier: GPL-2.0 */
/* The newest array map of a name, of all that the machine has. */
#ifndef TESTS_TOOLS_MAP_H
#define TESTS_TOOLS_MAP_H

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <linux/types.h>

/* Return: a descriptor, or a negative errno. */
static inline int map_find(const char *name, unsigned int *words)
{
	int fd, found = -ENOENT;
	__u32 id = 0;

	while (!bpf_map_get_next_id(id, &id)) {
		struct bpf_map_info info = {};
		__u32 len = sizeof(info);

		fd = bpf_map_get_fd_by_id(id);
		if (fd < 0)
			continue;
		if (bpf_map_get_info_by_fd(fd, &info, &len) || strcmp(info.name, name) ||
		    info.type != BPF_MAP_TYPE_ARRAY) {
			close(fd);
			continue;
		}
		if (found >= 0)
			close(found);
		found = fd;
		*words = info.value_size / sizeof(__s64);
	}
	return found;
}

#endif
