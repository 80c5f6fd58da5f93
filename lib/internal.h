/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files of libublk-bpf, seen by nobody else. */
#ifndef UBLK_BPF_INTERNAL_H
#define UBLK_BPF_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/stat.h>
#include <liburing.h>
#include <bpf/libbpf.h>
#include "ublk_bpf.h"
#include "compat.h"

/**
 * struct queue - a hardware queue and the thread that serves it
 * @dev:	its device
 * @id:		its number
 * @thread:	runs queue_main()
 * @started:	@thread exists
 * @ring:	the thread's own
 * @descs:	what the driver tells of each tag's I/O, read only
 * @descs_bytes: size of that mapping
 * @bufs:	one buffer of the largest I/O a tag
 * @bufs_bytes:	size of that mapping
 * @in_flight:	commands the driver holds
 * @handling:	taken while the thread is in the target's handle_io
 * @ready:	posted once everything was fetched, or with @error set
 * @error:	why the thread gave up
 */
struct queue {
	struct ublk_bpf_dev *dev;
	unsigned int id;
	pthread_t thread;
	bool started;
	struct io_uring ring;
	const struct ublksrv_io_desc *descs;
	size_t descs_bytes;
	char *bufs;
	size_t bufs_bytes;
	unsigned int in_flight;
	pthread_mutex_t handling;
	sem_t ready;
	int error;
};

/* A process that will start a device; @fd -1: none. */
struct starter {
	pid_t pid;
	int fd;
};

struct ublk_bpf_dev {
	const struct ublk_bpf_target *target;
	const struct ublk_bpf_args *args;
	void *priv;

	struct ublk_bpf_ctrl *ctrl;
	struct ublksrv_ctrl_dev_info info;
	struct ublk_params params;
	struct ublk_bpf_backing backings[UBLK_BPF_MAX_SLOTS];	/* by slot */
	unsigned int nr_backings;
	bool inited, added, masked;
	bool recovering;		/* another's device, until it is served */
	bool taken_away;		/* somebody else has stopped or deleted it */
	bool stuck;			/* it cannot be ended: only exit helps */
	sigset_t old_mask;

	int char_fd;
	struct queue *queues;
	unsigned int nr_queues;
	int ended_fd;			/* eventfd: a queue's thread has ended */
	int trouble_fd;			/* eventfd: there is a reason */
	bool troubled;			/* somebody writes it, or has */
	bool trouble_told;		/* it can be read */
	char trouble[512];

	struct bpf_link *link;
	__u32 prog_id;

	char error[512];
	char detail[4096];
};

#define CTRL_SECONDS	30	/* that a control command may take, unless something else is said */

/* backing.c: keep a sentence about what fails */
int backing_claim(struct ublk_bpf_dev *dev, const char *path, bool read_only, struct stat *st);
int backing_measure(struct ublk_bpf_dev *dev, const struct ublk_bpf_file *file,
		    const struct stat *st, struct ublk_bpf_backing *b);
void backings_close(struct ublk_bpf_dev *dev);

/* dev.c: what ublk_bpf_dev_warn() said is not true any more. */
void forget_trouble(struct ublk_bpf_dev *dev);

/*
 * ctrl.c: DEL_DEV_ASYNC, of a device that the caller has open: its number is its own
 * until it closes that.
 */
int ublk_bpf_delete_open(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id);

/* starter.c */
int starter_new(struct starter *starter);
int starter_start(struct starter *starter, unsigned int dev_id);
void starter_end(struct starter *starter);

/* queue.c */
int queue_start(struct ublk_bpf_dev *dev, unsigned int id);
void queue_join(struct queue *q);
void queues_pause(struct ublk_bpf_dev *dev);
void queues_resume(struct ublk_bpf_dev *dev);

/* prog.c */
int prog_load(struct ublk_bpf_dev *dev);
int prog_find(struct ublk_bpf_dev *dev);
void prog_close(struct ublk_bpf_dev *dev);

#endif
