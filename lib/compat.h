/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What linux/ublk_cmd.h of a kernel newer than 6.12 has and 6.12's lacks. */
#ifndef UBLK_BPF_COMPAT_H
#define UBLK_BPF_COMPAT_H

#include <linux/ublk_cmd.h>

#ifndef UBLK_S_DEV_FAIL_IO	/* 6.13 */
#define UBLK_S_DEV_FAIL_IO 3
#endif

#ifndef UBLK_F_USER_RECOVERY_FAIL_IO	/* 6.13; ours also has it on 6.12 */
#define UBLK_F_USER_RECOVERY_FAIL_IO (1ULL << 9)
#endif

#endif
