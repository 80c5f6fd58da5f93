// SPDX-License-Identifier: GPL-2.0
/* The targets that are built in: the list is TARGETS of user.mk. */
#include <string.h>
#include "cli.h"

#define TARGET(name) extern const struct ublk_bpf_target target_##name;
TARGET_LIST
#undef TARGET

const struct ublk_bpf_target *const targets[] = {
#define TARGET(name) &target_##name,
	TARGET_LIST
#undef TARGET
};

const unsigned int nr_targets = sizeof(targets) / sizeof(targets[0]);

const struct ublk_bpf_target *find_target(const char *name)
{
	unsigned int i;

	for (i = 0; i < nr_targets; i++)
		if (!strcmp(targets[i]->name, name))
			return targets[i];
	return NULL;
}

const struct ublk_bpf_option *find_own_option(const struct ublk_bpf_target *target,
					      const char *name)
{
	const struct ublk_bpf_option *option = target->own_options;

	for (; option && option->name; option++)
		if (!strcmp(option->name, name))
			return option;
	return NULL;
}
