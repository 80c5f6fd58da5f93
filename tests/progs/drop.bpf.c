// SPDX-License-Identifier: GPL-2.0
/*
 * Moves a hold from hold.bpf.c's map to one of this object's own, to be let go when
 * that map is freed. (What becomes of a hold when only its element is deleted is the
 * kernel's business: 7.3 keeps it until the element's memory is freed.)
 */
#include "abi.h"
#include "hold.h"
#include "kept.h"

#define ENOENT	2

extern void ublk_bpf_hold_release(struct ublk_bpf_hold *h) __ksym;

struct dropped {
	struct ublk_bpf_hold __kptr *hold;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dropped);
} dropped SEC(".maps");

SEC("syscall")
int drop(struct act_args *args)
{
	__u32 zero = 0, key = args->key;
	struct kept *k = bpf_map_lookup_elem(&kept, &key);
	struct dropped *d = bpf_map_lookup_elem(&dropped, &zero);
	struct ublk_bpf_hold *h;

	if (!k || !d)
		return -ENOENT;
	h = bpf_kptr_xchg(&k->hold, NULL);
	if (!h)
		return -ENOENT;
	h = bpf_kptr_xchg(&d->hold, h);
	if (h)
		ublk_bpf_hold_release(h);
	return 0;
}
