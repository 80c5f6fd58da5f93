// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Control commands: one io_uring command each on /dev/ublk-control.
 *
 * The kernel runs a command in a worker that shares our memory, so one that
 * does not answer in time may still write to its buffer later. Buffers
 * therefore live in struct ublk_bpf_ctrl, which is not freed then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <liburing.h>
#include "internal.h"

#define CTRL_PATH	"/dev/ublk-control"
#define NO_QUEUE	((__u16)-1)


struct ublk_bpf_ctrl {
	int fd;
	struct io_uring ring;
	unsigned int timeout;
	bool pending;
	union {
		struct ublksrv_ctrl_dev_info info;
		struct ublk_params params;
		struct ublk_bpf_attach attach;
		struct ublk_bpf_detach detach;
		struct ublk_bpf_slot slot;
		struct ublk_bpf_stats stats;
		struct ublk_bpf_size size;
		__u64 features;
		char bytes[4096];	/* a newer kernel's params are larger */
	} buf;
};

int ublk_bpf_ctrl_open(struct ublk_bpf_ctrl **result)
{
	struct ublk_bpf_ctrl *ctrl = calloc(1, sizeof(*ctrl));
	int ret;

	if (!ctrl)
		return -ENOMEM;
	ctrl->timeout = CTRL_SECONDS;
	ctrl->fd = open(CTRL_PATH, O_RDWR | O_CLOEXEC);
	if (ctrl->fd < 0) {
		ret = -errno;
		goto free_ctrl;
	}
	ret = io_uring_queue_init(4, &ctrl->ring, IORING_SETUP_SQE128);
	if (ret)
		goto close_fd;
	*result = ctrl;
	return 0;

close_fd:
	close(ctrl->fd);
free_ctrl:
	free(ctrl);
	return ret;
}

void ublk_bpf_ctrl_close(struct ublk_bpf_ctrl *ctrl)
{
	if (!ctrl)
		return;
	io_uring_queue_exit(&ctrl->ring);
	close(ctrl->fd);
	if (!ctrl->pending)
		free(ctrl);
}

void ublk_bpf_ctrl_set_timeout(struct ublk_bpf_ctrl *ctrl, unsigned int seconds)
{
	ctrl->timeout = seconds;
}

/* Wait for the command under way. Return: its result, or -ETIMEDOUT. */
static int ctrl_wait(struct ublk_bpf_ctrl *ctrl)
{
	struct __kernel_timespec ts = { .tv_sec = ctrl->timeout };
	struct io_uring_cqe *cqe;
	int ret;

	do {
		ret = io_uring_wait_cqe_timeout(&ctrl->ring, &cqe, ctrl->timeout ? &ts : NULL);
	} while (ret == -EINTR);
	if (ret == -ETIME)
		return -ETIMEDOUT;
	if (ret < 0)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&ctrl->ring, cqe);
	ctrl->pending = false;
	return ret;
}

/* The buffer for the next command, zeroed; waits for one that is under way. */
static int ctrl_begin(struct ublk_bpf_ctrl *ctrl)
{
	if (ctrl->pending) {
		int ret = ctrl_wait(ctrl);

		if (ctrl->pending)
			return ret;
	}
	memset(&ctrl->buf, 0, sizeof(ctrl->buf));
	return 0;
}

static int ctrl_cmd(struct ublk_bpf_ctrl *ctrl, __u32 op, unsigned int dev_id, size_t len,
		    __u64 data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ctrl->ring);
	struct ublksrv_ctrl_cmd cmd = {
		.dev_id = dev_id,
		.queue_id = NO_QUEUE,
		.len = len,
		.addr = len ? (unsigned long)&ctrl->buf : 0,
		.data = { data },
	};
	int ret;

	if (!sqe)
		return -EAGAIN;
	memset(sqe, 0, 128);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, ctrl->fd, NULL, 0, 0);
	sqe->cmd_op = op;	/* shares a union with what prep_rw set to 0 */
	memcpy(sqe->cmd, &cmd, sizeof(cmd));

	do {
		ret = io_uring_submit(&ctrl->ring);
	} while (ret == -EINTR);
	if (ret < 0)
		return ret;
	ctrl->pending = true;
	return ctrl_wait(ctrl);
}

/* A command without a buffer. */
static int ctrl_plain(struct ublk_bpf_ctrl *ctrl, __u32 op, unsigned int dev_id, __u64 data)
{
	int ret = ctrl_begin(ctrl);

	return ret ? ret : ctrl_cmd(ctrl, op, dev_id, 0, data);
}

int ublk_bpf_get_features(struct ublk_bpf_ctrl *ctrl, __u64 *features)
{
	int ret = ctrl_begin(ctrl);

	if (!ret)
		ret = ctrl_cmd(ctrl, UBLK_U_CMD_GET_FEATURES, -1, UBLK_FEATURES_LEN, 0);
	if (ret >= 0)
		*features = ctrl->buf.features;
	return ret;
}

int ublk_bpf_get_info(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
		      struct ublksrv_ctrl_dev_info *info)
{
	int ret = ctrl_begin(ctrl);

	if (!ret)
		ret = ctrl_cmd(ctrl, UBLK_U_CMD_GET_DEV_INFO, dev_id, sizeof(*info), 0);
	if (ret >= 0)
		*info = ctrl->buf.info;
	return ret;
}

int ublk_bpf_get_params(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
			struct ublk_params *params)
{
	int ret = ctrl_begin(ctrl);

	if (ret)
		return ret;
	ctrl->buf.params.len = sizeof(*params);
	ret = ctrl_cmd(ctrl, UBLK_U_CMD_GET_PARAMS, dev_id, sizeof(*params), 0);
	if (ret >= 0)
		*params = ctrl->buf.params;
	return ret;
}

int ublk_bpf_get_stats(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
		       struct ublk_bpf_stats *stats)
{
	int ret = ctrl_begin(ctrl);

	if (!ret)
		ret = ctrl_cmd(ctrl, UBLK_U_CMD_BPF_GET_STATS, dev_id, sizeof(*stats), 0);
	if (ret >= 0)
		*stats = ctrl->buf.stats;
	return ret;
}

int ublk_bpf_add(struct ublk_bpf_ctrl *ctrl, struct ublksrv_ctrl_dev_info *info)
{
	int ret = ctrl_begin(ctrl);

	if (ret)
		return ret;
	ctrl->buf.info = *info;
	ret = ctrl_cmd(ctrl, UBLK_U_CMD_ADD_DEV, info->dev_id, sizeof(*info), 0);
	if (ret >= 0)
		*info = ctrl->buf.info;
	return ret;
}

int ublk_bpf_set_params(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
			struct ublk_params *params)
{
	int ret = ctrl_begin(ctrl);

	if (ret)
		return ret;
	params->len = sizeof(*params);
	ctrl->buf.params = *params;
	return ctrl_cmd(ctrl, UBLK_U_CMD_SET_PARAMS, dev_id, sizeof(*params), 0);
}

int ublk_bpf_start(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, int server_pid)
{
	return ctrl_plain(ctrl, UBLK_U_CMD_START_DEV, dev_id, server_pid);
}

int ublk_bpf_start_recovery(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id)
{
	return ctrl_plain(ctrl, UBLK_U_CMD_START_USER_RECOVERY, dev_id, 0);
}

int ublk_bpf_end_recovery(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, int server_pid)
{
	return ctrl_plain(ctrl, UBLK_U_CMD_END_USER_RECOVERY, dev_id, server_pid);
}

int ublk_bpf_stop(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id)
{
	return ctrl_plain(ctrl, UBLK_U_CMD_STOP_DEV, dev_id, 0);
}

int ublk_bpf_delete(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id)
{
	return ctrl_plain(ctrl, UBLK_U_CMD_DEL_DEV, dev_id, 0);
}

int ublk_bpf_delete_open(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id)
{
	return ctrl_plain(ctrl, UBLK_U_CMD_DEL_DEV_ASYNC, dev_id, 0);
}

int ublk_bpf_attach(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, __u32 prog_id,
		    __u32 flags, __u64 cookie)
{
	int ret = ctrl_begin(ctrl);

	if (ret)
		return ret;
	ctrl->buf.attach.prog_id = prog_id;
	ctrl->buf.attach.flags = flags;
	ctrl->buf.attach.cookie = cookie;
	return ctrl_cmd(ctrl, UBLK_U_CMD_BPF_ATTACH, dev_id, sizeof(ctrl->buf.attach), 0);
}

int ublk_bpf_detach(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id)
{
	int ret = ctrl_begin(ctrl);

	if (ret)
		return ret;
	return ctrl_cmd(ctrl, UBLK_U_CMD_BPF_DETACH, dev_id, sizeof(ctrl->buf.detach), 0);
}

static int ctrl_slot(struct ublk_bpf_ctrl *ctrl, __u32 op, unsigned int dev_id,
		     unsigned int slot, int fd, __u32 flags)
{
	int ret = ctrl_begin(ctrl);

	if (ret)
		return ret;
	ctrl->buf.slot.slot = slot;
	ctrl->buf.slot.fd = fd;
	ctrl->buf.slot.flags = flags;
	return ctrl_cmd(ctrl, op, dev_id, sizeof(ctrl->buf.slot), 0);
}

int ublk_bpf_set_slot(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, unsigned int slot,
		      int fd, __u32 flags)
{
	return ctrl_slot(ctrl, UBLK_U_CMD_BPF_SET_SLOT, dev_id, slot, fd, flags);
}

int ublk_bpf_clear_slot(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, unsigned int slot)
{
	return ctrl_slot(ctrl, UBLK_U_CMD_BPF_CLEAR_SLOT, dev_id, slot, 0, 0);
}

int ublk_bpf_set_disk_size(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, __u64 bytes)
{
	int ret = ctrl_begin(ctrl);

	if (ret)
		return ret;
	ctrl->buf.size.bytes = bytes;
	return ctrl_cmd(ctrl, UBLK_U_CMD_BPF_SET_SIZE, dev_id, sizeof(ctrl->buf.size), 0);
}

int ublk_bpf_get_slot(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, unsigned int slot)
{
	int ret = ctrl_slot(ctrl, UBLK_U_CMD_BPF_GET_SLOT, dev_id, slot, 0, 0);

	return ret < 0 ? ret : ctrl->buf.slot.fd;
}
