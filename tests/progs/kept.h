/* SPDX-License-Identifier: GPL-2.0 */
/* Where hold.bpf.c keeps what it holds; drop.bpf.c takes it from there. */
#ifndef TESTS_PROGS_KEPT_H
#define TESTS_PROGS_KEPT_H

struct ublk_bpf_hold {
} __attribute__((preserve_access_index));

struct kept {
	struct bpf_timer timer;
	struct ublk_bpf_hold __kptr *hold;
	__s64 res;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, struct kept);
} kept SEC(".maps");

#endif
