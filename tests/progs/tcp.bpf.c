// SPDX-License-Identifier: GPL-2.0
/* ...nor for programs of somebody else's ops, here a congestion control. */
#include "abi.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock {
	int dummy_of_this_test;
};

struct tcp_congestion_ops {
	void (*init)(struct sock *sk);
	char name[16];
};

#pragma clang attribute pop

SEC("struct_ops/tcp_init")
void BPF_PROG(tcp_init, struct sock *sk)
{
	ublk_bpf_complete_io((void *)sk, 0);
}

SEC(".struct_ops")
struct tcp_congestion_ops tcp_ops = {
	.init	= (void *)tcp_init,
	.name	= "ublk_bpf_test",
};
