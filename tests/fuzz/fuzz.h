/* SPDX-License-Identifier: GPL-2.0 */
/* What all programs share that are given anything, or choose anything. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <linux/types.h>

/* It is so, or all ends here and the input is kept. */
#define ensure(condition, ...) do {					\
	if (!(condition)) {						\
		fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
		fprintf(stderr, __VA_ARGS__);				\
		fprintf(stderr, "\n");					\
		abort();						\
	}								\
} while (0)

/* Choices: those that are given, two bytes each, then at random. */
struct choices {
	const __u8 *given;
	size_t nr;
	__u64 state;
};

static inline struct choices choices_of(__u64 seed)
{
	return (struct choices){ .state = (seed + 1) * 0x9e3779b97f4a7c15ULL };
}

static inline __u32 choose(struct choices *choices, __u32 below)
{
	__u32 value;

	if (choices->nr >= 2) {
		value = choices->given[0] | choices->given[1] << 8;
		choices->given += 2;
		choices->nr -= 2;
	} else {
		choices->state = choices->state * 6364136223846793005ULL + 1442695040888963407ULL;
		value = choices->state >> 33;
	}
	return below ? value % below : 0;
}

#endif
