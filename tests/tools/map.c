// SPDX-License-Identifier: GPL-2.0
/*
 * map NAME KEY [FIRST [COUNT]]
 *
 * The 64-bit words of value KEY of the newest array map NAME of the machine, or
 * COUNT (1) of them from word FIRST, on one line. (bpftool takes seconds for
 * that where there is no KVM.)
 */
#include <stdio.h>
#include <stdlib.h>
#include "map.h"

#define MAX_WORDS	64

int main(int argc, char **argv)
{
	unsigned int words, first, count, i;
	__s64 value[MAX_WORDS];
	__u32 key;
	int fd;

	if (argc < 3) {
		fprintf(stderr, "map NAME KEY [FIRST [COUNT]]\n");
		return 2;
	}
	fd = map_find(argv[1], &words);
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
