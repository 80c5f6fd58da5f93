// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* I/O that was given back to the program: see given.h. */
#include <unistd.h>
#include "given.h"
#include "qcow2.h"

#define WAIT_US		20
#define MAX_WAITS	50000

void qcow2_wait_until_taken(bool *given, const __u32 *tags, unsigned int nr)
{
	unsigned int i, waits = 0;

	for (i = 0; i < nr; i++) {
		while (given[i] && __atomic_load_n(&tags[i], __ATOMIC_SEQ_CST) & QCOW2_GIVEN &&
		       waits++ < MAX_WAITS)
			usleep(WAIT_US);
		given[i] = false;
	}
}
