// SPDX-License-Identifier: GPL-2.0
/*
 * An image is any bytes, and so is what is done to its disk: see qcow2_trial.h.
 *
 * The last bytes of an input choose operations, the rest is the image.
 */
#include <stdint.h>
#include "qcow2_mutate.h"
#include "qcow2_trial.h"

#define CHOICES		64

size_t LLVMFuzzerMutate(uint8_t *data, size_t nr, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t nr, size_t most, unsigned int seed);

/* Any bytes, or a field of the metadata. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t nr, size_t most, unsigned int seed)
{
	struct choices choices = choices_of(seed);
	__u64 size;

	if (nr <= CHOICES || choose(&choices, 2))
		return LLVMFuzzerMutate(data, nr, most);
	size = qcow2_mutate(data, nr - CHOICES, &choices);
	memmove(data + size, data + nr - CHOICES, CHOICES);
	return size + CHOICES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nr)
{
	static struct trial trial;
	struct choices choices = choices_of(0);

	if (!trial.file.bytes)
		trial_init(&trial);
	if (nr <= CHOICES)
		return -1;
	choices.given = data + nr - CHOICES;
	choices.nr = CHOICES;
	mem_set(&trial.file, data, nr - CHOICES);
	mem_set(&trial.data, NULL, 0);
	trial.read_only = !(choose(&choices, 256) & 7);
	trial_run(&trial, &choices);
	return 0;
}
