// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The life of a device, from its server's side: describe, add, backings,
 * program, queues, disk; and back in reverse order.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "internal.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define CHAR_TRIES	200	/* of 10 ms: udev may set the node's owner first */
#define GONE_TRIES	1000	/* of 10 ms: until the driver is done with a dead server */
#define ALIVE_TRIES	300	/* likewise: one that is still there after that lives */

int ublk_bpf_dev_fail(struct ublk_bpf_dev *dev, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(dev->error, sizeof(dev->error), format, args);
	va_end(args);
	return err;
}

const char *ublk_bpf_dev_error(const struct ublk_bpf_dev *dev)
{
	return dev->error;
}

const char *ublk_bpf_dev_error_detail(const struct ublk_bpf_dev *dev)
{
	return dev->detail;
}

unsigned int ublk_bpf_dev_id(const struct ublk_bpf_dev *dev)
{
	return dev->info.dev_id;
}

__u64 ublk_bpf_args_get(const struct ublk_bpf_args *args, const char *name, __u64 otherwise)
{
	unsigned int i;

	for (i = 0; i < args->nr_settings; i++)
		if (!strcmp(args->settings[i].option->name, name))
			return args->settings[i].value;
	return otherwise;
}

const char *ublk_bpf_args_text(const struct ublk_bpf_args *args, const char *name,
			       unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < args->nr_settings; i++)
		if (!strcmp(args->settings[i].option->name, name) && !nr--)
			return args->settings[i].text;
	return NULL;
}

unsigned int ublk_bpf_dev_nr_queues(const struct ublk_bpf_dev *dev)
{
	return dev->info.nr_hw_queues;
}

unsigned int ublk_bpf_dev_depth(const struct ublk_bpf_dev *dev)
{
	return dev->info.queue_depth;
}

const struct ublk_bpf_args *ublk_bpf_dev_args(const struct ublk_bpf_dev *dev)
{
	return dev->args;
}

void *ublk_bpf_dev_priv(const struct ublk_bpf_dev *dev)
{
	return dev->priv;
}

void ublk_bpf_dev_set_priv(struct ublk_bpf_dev *dev, void *priv)
{
	dev->priv = priv;
}

struct ublk_params *ublk_bpf_dev_params(struct ublk_bpf_dev *dev)
{
	return &dev->params;
}

void ublk_bpf_dev_set_size(struct ublk_bpf_dev *dev, __u64 bytes)
{
	dev->params.basic.dev_sectors = bytes >> 9;
}

void ublk_bpf_dev_set_block_size(struct ublk_bpf_dev *dev, unsigned int logical,
				 unsigned int physical)
{
	struct ublk_param_basic *basic = &dev->params.basic;

	if (physical < logical)
		physical = logical;
	basic->logical_bs_shift = __builtin_ctz(logical);
	basic->physical_bs_shift = __builtin_ctz(physical);
	basic->io_min_shift = basic->physical_bs_shift;
	basic->io_opt_shift = basic->physical_bs_shift;
}

int ublk_bpf_dev_new(const struct ublk_bpf_target *target, const struct ublk_bpf_args *args,
		     struct ublk_bpf_dev **result)
{
	struct ublk_bpf_dev *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->target = target;
	dev->args = args;
	dev->char_fd = -1;
	dev->ended_fd = -1;
	dev->trouble_fd = -1;

	dev->info.dev_id = args->dev_id;
	dev->info.nr_hw_queues = args->nr_queues ? args->nr_queues : UBLK_BPF_DEFAULT_QUEUES;
	dev->info.queue_depth = args->depth ? args->depth : UBLK_BPF_DEFAULT_DEPTH;
	dev->info.max_io_buf_bytes = UBLK_BPF_DEFAULT_IO_BYTES;
	dev->info.flags = UBLK_F_CMD_IOCTL_ENCODE;
	if (!args->server)
		dev->info.flags |= UBLK_F_BPF;
	if (args->recover == UBLK_BPF_RECOVER_WAIT)
		dev->info.flags |= UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
	if (args->recover == UBLK_BPF_RECOVER_FAIL)
		dev->info.flags |= UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO;

	dev->params.types = UBLK_PARAM_TYPE_BASIC;
	dev->params.basic.max_sectors = UBLK_BPF_DEFAULT_IO_BYTES >> 9;
	if (args->read_only)
		dev->params.basic.attrs = UBLK_ATTR_READ_ONLY;
	ublk_bpf_dev_set_block_size(dev, 512, 4096);
	*result = dev;
	return 0;
}

static int dev_open_ctrl(struct ublk_bpf_dev *dev)
{
	int ret = ublk_bpf_ctrl_open(&dev->ctrl);

	if (ret == -ENOENT)
		return ublk_bpf_dev_fail(dev, ret,
			"/dev/ublk-control is missing; load the module: modprobe ublk_drv");
	if (ret)
		return ublk_bpf_dev_fail(dev, ret, "cannot open /dev/ublk-control: %s; be root",
					 strerror(-ret));
	return 0;
}

/* The char device, which the queues talk to. */
static int dev_open_char(struct ublk_bpf_dev *dev)
{
	char path[32];
	int tries;

	snprintf(path, sizeof(path), "/dev/ublkc%u", dev->info.dev_id);
	for (tries = 0; tries < CHAR_TRIES; tries++) {
		dev->char_fd = open(path, O_RDWR | O_CLOEXEC);
		if (dev->char_fd >= 0 || (errno != ENOENT && errno != EACCES && errno != EBUSY))
			break;
		usleep(10000);
	}
	if (dev->char_fd < 0)
		return ublk_bpf_dev_fail(dev, -errno, "cannot open %s: %s; is /dev a devtmpfs?",
					 path, strerror(errno));
	return 0;
}

static int dev_add(struct ublk_bpf_dev *dev)
{
	__u64 asked = dev->info.flags;
	int ret = dev_open_ctrl(dev);

	if (ret)
		return ret;
	ret = ublk_bpf_add(dev->ctrl, &dev->info);
	if (ret == -EEXIST)
		return ublk_bpf_dev_fail(dev, ret,
			"device number %d is taken; choose another one or leave out -n",
			dev->args->dev_id);
	if (ret < 0)
		return ublk_bpf_dev_fail(dev, ret, "the driver refuses the device: %s; see dmesg",
					 strerror(-ret));
	dev->added = true;
	if ((asked & UBLK_F_BPF) && !(dev->info.flags & UBLK_F_BPF))
		return ublk_bpf_dev_fail(dev, -EOPNOTSUPP,
			"the stock ublk_drv module is loaded, it runs no programs; install ours, delete all ublk devices and: rmmod ublk_drv && modprobe ublk_drv");
	if (asked & ~dev->info.flags & UBLK_F_USER_RECOVERY_FAIL_IO)
		return ublk_bpf_dev_fail(dev, -EOPNOTSUPP,
			"this kernel's ublk cannot fail I/O until a new server comes; use --recover wait, or a program");
	return dev_open_char(dev);
}

static int dev_describe(struct ublk_bpf_dev *dev)
{
	unsigned int id = dev->info.dev_id, slot;
	int ret;

	if (dev->params.basic.max_sectors > dev->info.max_io_buf_bytes >> 9)
		dev->params.basic.max_sectors = dev->info.max_io_buf_bytes >> 9;
	ret = ublk_bpf_set_params(dev->ctrl, id, &dev->params);
	if (ret < 0)
		return ublk_bpf_dev_fail(dev, ret, "the driver refuses its parameters: %s; see dmesg",
					 strerror(-ret));
	if (!(dev->info.flags & UBLK_F_BPF))
		return 0;
	for (slot = 0; slot < dev->nr_backings; slot++) {
		ret = ublk_bpf_set_slot(dev->ctrl, id, slot, dev->backings[slot].fd,
					dev->args->buffered ? UBLK_BPF_SLOT_BUFFERED : 0);
		if (ret == -ELOOP)
			return ublk_bpf_dev_fail(dev, ret,
				"backing %u leads back to this device, or is a stack of more than 16 devices",
				slot);
		if (ret < 0)
			return ublk_bpf_dev_fail(dev, ret,
				"the driver refuses backing %u: %s; it must be a block device or a file that allows direct I/O",
				slot, strerror(-ret));
	}
	return 0;
}

static int dev_attach(struct ublk_bpf_dev *dev)
{
	__u32 flags = dev->args->fallback ? UBLK_BPF_ATTACH_FALLBACK : 0;
	int ret;

	if (!(dev->info.flags & UBLK_F_BPF) || !dev->target->open_program)
		return 0;
	ret = prog_load(dev);
	if (ret)
		return ret;
	dev->error[0] = '\0';	/* of ids that were taken */
	ret = ublk_bpf_attach(dev->ctrl, dev->info.dev_id, dev->prog_id, flags, 0);
	if (ret < 0)
		return ublk_bpf_dev_fail(dev, ret,
			"the program cannot be attached: %s; its attach_dev may have refused",
			strerror(-ret));
	return 0;
}

/*
 * What the server runs and needs must stay in memory, and what it allocates all
 * the same must not wait for I/O: the I/O could be its own device's.
 */
static int dev_lock_memory(struct ublk_bpf_dev *dev)
{
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		return ublk_bpf_dev_fail(dev, -errno,
			"cannot become an I/O flusher: %s; CAP_SYS_RESOURCE is needed",
			strerror(errno));
	if (mlockall(MCL_CURRENT) || mlockall(MCL_FUTURE | MCL_ONFAULT))
		return ublk_bpf_dev_fail(dev, -errno,
			"cannot lock memory: %s; raise ulimit -l or be root", strerror(errno));
	return 0;
}

static void dev_block_signals(struct ublk_bpf_dev *dev, sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	if (!dev->masked)
		pthread_sigmask(SIG_BLOCK, set, &dev->old_mask);
	dev->masked = true;
}

static int dev_run_queues(struct ublk_bpf_dev *dev)
{
	unsigned int i;
	int ret;

	dev->ended_fd = eventfd(0, EFD_CLOEXEC);
	dev->trouble_fd = eventfd(0, EFD_CLOEXEC);
	if (dev->ended_fd < 0 || dev->trouble_fd < 0)
		return ublk_bpf_dev_fail(dev, -errno, "no descriptor is left: %s", strerror(errno));
	ret = dev->target->prepare ? dev->target->prepare(dev) : 0;
	if (ret)
		return ret;
	dev->nr_queues = dev->info.nr_hw_queues;	/* at most one a CPU */
	dev->queues = calloc(dev->nr_queues, sizeof(*dev->queues));
	if (!dev->queues)
		return ublk_bpf_dev_fail(dev, -ENOMEM, "out of memory");
	for (i = 0; i < dev->nr_queues; i++) {
		ret = queue_start(dev, i);
		if (ret)
			return ublk_bpf_dev_fail(dev, ret,
				"queue %u does not start: %s; try a smaller -d", i, strerror(-ret));
	}
	return 0;
}

/* What the thread of a queue failed with, or 0. */
static int dev_queue_error(const struct ublk_bpf_dev *dev)
{
	int ret = 0;

	for (unsigned int i = 0; !ret && i < dev->nr_queues; i++)
		ret = dev->queues[i].error;
	return ret;
}

int ublk_bpf_dev_start(struct ublk_bpf_dev *dev)
{
	struct starter starter = { .fd = -1 };
	sigset_t set;
	int ret;

	/* A signal while starting waits, so that no half-made device is left. */
	dev_block_signals(dev, &set);
	ret = starter_new(&starter);
	if (ret)
		goto fail;
	dev->inited = true;
	ret = dev->target->init(dev, dev->args);
	if (ret)
		goto fail;
	ret = dev_add(dev);
	if (ret)
		goto fail;
	ret = dev_describe(dev);
	if (ret)
		goto fail;
	ret = dev_attach(dev);
	if (ret)
		goto fail;
	ret = dev_lock_memory(dev);
	if (ret)
		goto fail;
	ret = dev_run_queues(dev);
	if (ret)
		goto fail;
	ret = starter_start(&starter, dev->info.dev_id);
	if (ret < 0 && dev_queue_error(dev)) {
		ret = dev_queue_error(dev);
	} else if (ret == -EBUSY) {
		dev->taken_away = true;
		ublk_bpf_dev_fail(dev, ret, "it was stopped or deleted while it started; add it again");
		goto fail;
	}
	if (ret < 0) {
		ublk_bpf_dev_fail(dev, ret, "the driver does not start the device: %s; see dmesg",
				  strerror(-ret));
		goto fail;
	}
	starter_end(&starter);
	return 0;

fail:
	if (!dev->error[0])
		ublk_bpf_dev_fail(dev, ret, "%s", strerror(-ret));
	starter_end(&starter);
	ublk_bpf_dev_end(dev, true);
	return ret;
}

/* Which device it is, and that it can be served again. */
static int dev_find(struct ublk_bpf_dev *dev)
{
	unsigned int id = dev->args->dev_id;
	int ret = dev_open_ctrl(dev);

	if (ret)
		return ret;
	ret = ublk_bpf_get_info(dev->ctrl, id, &dev->info);
	if (ret < 0)
		return ublk_bpf_dev_fail(dev, ret, "there is no device %u; add it", id);
	if (!(dev->info.flags & UBLK_F_USER_RECOVERY))
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"it was not made to live without its server; delete it, and add it with --recover");
	if (dev->info.state == UBLK_S_DEV_DEAD)
		return ublk_bpf_dev_fail(dev, -EINVAL, "it was stopped; delete it and add it again");
	if (!(dev->info.flags & UBLK_F_BPF) != dev->args->server)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"it is another device than the one that was added by this number; delete it");
	return 0;
}

/* The driver may still be busy with the end of the old server. */
static int dev_start_recovery(struct ublk_bpf_dev *dev)
{
	unsigned int id = dev->info.dev_id;
	int tries, ret;

	for (tries = 0; tries < GONE_TRIES; tries++) {
		ret = ublk_bpf_start_recovery(dev->ctrl, id);
		if (ret != -EBUSY)
			break;
		ret = ublk_bpf_get_info(dev->ctrl, id, &dev->info);
		if (ret < 0)
			break;
		ret = -EBUSY;
		if (dev->info.state == UBLK_S_DEV_LIVE && tries >= ALIVE_TRIES &&
		    !kill(dev->info.ublksrv_pid, 0))
			return ublk_bpf_dev_fail(dev, ret,
				"its server is alive (process %d); nothing is to be done",
				dev->info.ublksrv_pid);
		usleep(10000);
	}
	if (ret < 0)
		return ublk_bpf_dev_fail(dev, ret, "the driver does not take a new server: %s; see dmesg",
					 strerror(-ret));
	return 0;
}

int ublk_bpf_dev_recover(struct ublk_bpf_dev *dev)
{
	sigset_t set;
	int ret;

	dev_block_signals(dev, &set);
	dev->recovering = true;
	ret = dev_find(dev);
	if (ret)
		goto fail;
	ret = prog_find(dev);
	if (ret)
		goto fail;
	ret = dev_lock_memory(dev);
	if (ret)
		goto fail;
	ret = dev_start_recovery(dev);
	if (ret)
		goto fail;
	/* exclusive: from here on no other server has it */
	ret = dev_open_char(dev);
	if (ret)
		goto fail;
	dev->inited = true;
	ret = dev->target->init(dev, dev->args);
	if (ret)
		goto fail;
	ret = dev_run_queues(dev);
	if (ret)
		goto fail;
	ret = ublk_bpf_end_recovery(dev->ctrl, dev->info.dev_id, getpid());
	if (ret < 0) {
		ublk_bpf_dev_fail(dev, ret, "the driver does not take the new server: %s; see dmesg",
				  strerror(-ret));
		goto fail;
	}
	dev->recovering = false;
	dev->added = true;
	return 0;

fail:
	if (!dev->error[0])
		ublk_bpf_dev_fail(dev, ret, "%s", strerror(-ret));
	/* What queues have fetched only their process's end takes back. */
	dev->stuck = dev->queues;
	ublk_bpf_dev_end(dev, false);
	return ret;
}

int ublk_bpf_dev_wait(struct ublk_bpf_dev *dev)
{
	int ret;

	do {
		ret = ublk_bpf_dev_wait_fd(dev, -1);
	} while (ret == 3);
	return ret;
}

void ublk_bpf_dev_warn(struct ublk_bpf_dev *dev, const char *format, ...)
{
	__u64 one = 1;
	va_list args;

	if (__atomic_exchange_n(&dev->troubled, true, __ATOMIC_SEQ_CST))
		return;
	va_start(args, format);
	vsnprintf(dev->trouble, sizeof(dev->trouble), format, args);
	va_end(args);
	__atomic_store_n(&dev->trouble_told, true, __ATOMIC_SEQ_CST);
	/* an eventfd takes it */
	if (write(dev->trouble_fd, &one, sizeof(one)) < 0)
		return;
}

const char *ublk_bpf_dev_trouble(const struct ublk_bpf_dev *dev)
{
	return __atomic_load_n(&dev->trouble_told, __ATOMIC_SEQ_CST) ? dev->trouble : NULL;
}

/* Context: as ublk_bpf_dev_reload(). */
void forget_trouble(struct ublk_bpf_dev *dev)
{
	__atomic_store_n(&dev->trouble_told, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&dev->troubled, false, __ATOMIC_SEQ_CST);
}

int ublk_bpf_dev_wait_fd(struct ublk_bpf_dev *dev, int fd)
{
	struct pollfd fds[4] = { { .events = POLLIN }, { .events = POLLIN }, { .events = POLLIN },
				 { .events = POLLIN } };
	struct signalfd_siginfo info;
	sigset_t set;
	int ret = 0;
	__u64 nr;

	dev_block_signals(dev, &set);
	fds[0].fd = dev->ended_fd;
	fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fds[1].fd < 0)
		return -errno;
	fds[2].fd = fd;		/* none if negative */
	fds[3].fd = dev->trouble_fd;
	while (poll(fds, 4, -1) < 0 && errno == EINTR)
		;
	if (!fds[0].revents && !fds[1].revents) {
		ret = 2;
		if (fds[3].revents && read(dev->trouble_fd, &nr, sizeof(nr)) == sizeof(nr))
			ret = 3;
	} else if (fds[1].revents & POLLIN) {
		if (read(fds[1].fd, &info, sizeof(info)) < 0)
			ret = -errno;
		else
			ret = 1;
	}
	close(fds[1].fd);
	/* A thread that failed must not leave a disk that answers half of the I/O. */
	return ret ? ret : dev_queue_error(dev);
}

void ublk_bpf_dev_end(struct ublk_bpf_dev *dev, bool remove)
{
	unsigned int i;

	/*
	 * Ends what the queues have at the driver. On a device that was never
	 * started too: then their threads wait for ever. Harmless when somebody
	 * else stopped it or deletes it.
	 */
	if (dev->added && ublk_bpf_stop(dev->ctrl, dev->info.dev_id) == -ETIMEDOUT)
		dev->stuck = true;
	if (dev->stuck)
		return;
	for (i = 0; dev->queues && i < dev->nr_queues; i++)
		queue_join(&dev->queues[i]);
	free(dev->queues);
	dev->queues = NULL;

	/*
	 * The number cannot be used again before the char device is closed: so
	 * the pins are still this device's. Afterwards it can, when somebody else
	 * has deleted the device.
	 */
	prog_close(dev);
	if (dev->added && (dev->info.flags & UBLK_F_BPF))
		ublk_bpf_unpin(dev->info.dev_id);
	if (dev->added && remove && dev->taken_away)
		ublk_bpf_delete_open(dev->ctrl, dev->info.dev_id);
	if (dev->char_fd >= 0)
		close(dev->char_fd);
	dev->char_fd = -1;
	if (dev->added && remove && !dev->taken_away)
		ublk_bpf_delete(dev->ctrl, dev->info.dev_id);
	dev->added = false;
	if (dev->ended_fd >= 0)
		close(dev->ended_fd);
	dev->ended_fd = -1;
	if (dev->trouble_fd >= 0)
		close(dev->trouble_fd);
	dev->trouble_fd = -1;
	ublk_bpf_ctrl_close(dev->ctrl);
	dev->ctrl = NULL;
	if (dev->inited && dev->target->deinit)
		dev->target->deinit(dev);
	dev->inited = false;
	backings_close(dev);
	if (dev->masked)
		pthread_sigmask(SIG_SETMASK, &dev->old_mask, NULL);
	dev->masked = false;
}

void ublk_bpf_dev_free(struct ublk_bpf_dev *dev)
{
	if (!dev)
		return;
	ublk_bpf_dev_end(dev, true);
	if (!dev->stuck)	/* else its threads still use it */
		free(dev);
}
