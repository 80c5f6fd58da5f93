/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* I/O that the server gave back to the program, see qcow2.h, until that has taken it. */
#ifndef TARGET_QCOW2_GIVEN_H
#define TARGET_QCOW2_GIVEN_H

#include <stdbool.h>
#include <linux/types.h>

/**
 * qcow2_wait_until_taken() - wait until the program has taken what was given back to it
 * @given:	by tag: it was given, and is not known to be taken; none is when this returns
 * @tags:	by tag: see QCOW2_GIVEN
 * @nr:		tags
 *
 * Not for ever: what is not taken in a second of waiting will not be. Its program is gone, and it
 * has failed or is the server's, which needs no table for it.
 */
void qcow2_wait_until_taken(bool *given, const __u32 *tags, unsigned int nr);

#endif
