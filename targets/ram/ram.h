/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
#ifndef TARGET_RAM_H
#define TARGET_RAM_H

#define RAM_PAGE		4096		/* a value of the map */
#define RAM_DEFAULT_BYTES	(64ULL << 20)
#define RAM_MAX_BYTES		(1ULL << 43)	/* 2^31 values */
#define RAM_MAX_CLEAR		(4U << 20)	/* bytes of a discard */

#endif
