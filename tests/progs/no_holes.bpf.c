// SPDX-License-Identifier: GPL-2.0
/* No regular file can have a hole made: vfs_fallocate() is told so when it asks for permission. */
#include <linux/bpf.h>
#include <linux/falloc.h>
#include <linux/stat.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define EOPNOTSUPP	95

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inode {
	__u16 i_mode;
};

struct file {
	struct inode *f_inode;
};

#pragma clang attribute pop

__u64 task;	/* which is about to make one */

SEC("fentry/vfs_fallocate")
int BPF_PROG(asks, struct file *file, int mode)
{
	if (mode & FALLOC_FL_PUNCH_HOLE && S_ISREG(file->f_inode->i_mode))
		task = bpf_get_current_pid_tgid();
	return 0;
}

SEC("fmod_ret/security_file_permission")
int BPF_PROG(refuses, struct file *file, int mask, int ret)
{
	if (ret || !task || task != bpf_get_current_pid_tgid())
		return ret;
	task = 0;
	return -EOPNOTSUPP;
}

char _license[] SEC("license") = "GPL";
