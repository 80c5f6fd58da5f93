// SPDX-License-Identifier: GPL-2.0
/* The driver's kfuncs are for its own programs: not for tracing... */
#include "abi.h"

SEC("tp_btf/block_rq_issue")
int BPF_PROG(tracing, void *rq)
{
	ublk_bpf_complete_io(rq, 0);
	return 0;
}
