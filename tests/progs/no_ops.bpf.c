// SPDX-License-Identifier: GPL-2.0
/* A good object without an ops table. */
#include "abi.h"

SEC("tp_btf/block_rq_issue")
int BPF_PROG(nothing, void *rq)
{
	return 0;
}
