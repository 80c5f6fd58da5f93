// SPDX-License-Identifier: GPL-2.0
/*
 * map NAME KEY [FIRST [COUNT]]
 *
 * The 64-bit words of value KEY of the newest array map NAME of the machine, or of
 * map NAME of the program of device N if it is N/NAME; or COUNT (1) of them from word
 * FIRST, on one line. (bpftool takes seconds for that where there is no KVM.)
 */
#include <stdio.h>
#include <stdlib.h>
#include "map.h"
#include "ublk_bpf.h"

#define MAX_WORDS	64

static int map_of_device(const char *name, unsigned int *words)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	int fd;

	fd = ublk_bpf_map_open(strtoul(name, NULL, 0), strchr(name, '/') + 1);
	if (fd >= 0 && !bpf_map_get_info_by_fd(fd, &info, &len))
		*words = info.value_size / sizeof(__s64);
	return fd;
}

int main(int argc, char **argv)
{
	unsigned int words = 0, first, count, i;
	__s64 value[MAX_WORDS];
	__u32 key;
	int fd;

	if (argc < 3) {
		fprintf(stderr, "map NAME KEY [FIRST [COUNT]]\n");
		return 2;
	}
	fd = strchr(argv[1], '/') ? map_of_device(argv[1], &words) : map_find(argv[1], &words);
	key = strtoul(argv[2], NULL, 0);
	if (fd < 0 || words > MAX_WORDS || bpf_map_lookup_elem(fd, &key, value)) {
		fprintf(stderr, "map: no %s[%u]\n", argv[1], key);
		return 1;
	}
	first = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
	count = argc > 4 ? strtoul(argv[4], NULL, 0) : argc > 3 ? 1 : words;
	for (i = first; i < first + count && i < words; i++)
		printf("%s%lld", i > first ? " " : "", (long long)value[i]);
	putchar('\n');
	return 0;
}
