/* SPDX-License-Identifier: GPL-2.0 */
/* The server's half of a qcow2 device: what of it open.c opens, and qcow2.c does I/O with. */
#ifndef TARGET_QCOW2_DEVICE_H
#define TARGET_QCOW2_DEVICE_H

#include <pthread.h>
#include "ublk_bpf.h"
#include "chain.h"
#include "file.h"
#include "image.h"
#include "maps.h"
#include "qcow2.h"

/**
 * struct qcow2_device - a device
 * @skel:	its program, until that is attached
 * @file:	the image
 * @data:	its data file; no bounce buffer: it has none
 * @chain:	what the image lies over; NULL: nothing
 * @layout:	what its header said when it was opened last
 * @names:	the names in it, which stay as they are
 * @cache:	bytes of tables that are wanted
 * @limit:	where whole clusters end on a block device
 * @maps:	the memory that the program sees
 * @geometry:	what that knows for ever
 * @given:	by tag: given back by this server, and not known to be taken
 * @depth:	tags of a queue
 * @lock:	of all below, and of the maps; held from pause to reload
 * @image:	NULL: it is not open, and I/O that comes here waits or fails
 * @lost:	why it is not opened again; empty: nothing was lost
 * @before:	what was counted before it was opened
 * @paused:	who reloads it has @lock
 * @locked:	QEMU is kept out of the files
 */
struct qcow2_device {
	struct qcow2_bpf *skel;
	struct qcow2_file file, data;
	struct qcow2_chain *chain;
	struct qcow2_layout layout;
	char *names;
	__u64 cache;
	__u64 limit;
	struct qcow2_maps maps;
	struct qcow2_geometry geometry;
	bool *given;
	unsigned int depth;
	pthread_mutex_t lock;
	struct qcow2_image *image;
	struct qcow2_why lost;
	struct qcow2_shared before;
	bool paused;
	bool locked;
};

static inline struct qcow2_device *qcow2_device_of(const struct ublk_bpf_dev *dev)
{
	return ublk_bpf_dev_priv(dev);
}

/* Zeroes have to be written, as data: see qcow2_image_zero(). */
static inline bool qcow2_zeroes_are_data(const struct qcow2_device *device)
{
	return (device->layout.version == 2 && device->chain) ||
	       device->layout.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
}

/* open.c: callbacks of the target */
int qcow2_init(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args);
int qcow2_prepare(struct ublk_bpf_dev *dev);
int qcow2_pause(struct ublk_bpf_dev *dev);
int qcow2_reload(struct ublk_bpf_dev *dev);
void qcow2_deinit(struct ublk_bpf_dev *dev);

/* qcow2.c: what the program may know of the image, after something was done to it; locked. */
void qcow2_tell_program(struct qcow2_device *device);

/* What an image that is open has ceased to do, and why; locked. */
void qcow2_tell_user(struct ublk_bpf_dev *dev, const struct qcow2_device *device);

/*
 * Wait until the program has taken what was given back to it: that needs the tables as they
 * are. Their threads do no more than tell the driver, so it is not long. Called with the lock,
 * so that nothing more is given. Those of a server that died may stay, but what comes of them
 * has not been the server's since; and if the program is gone, so will all.
 */
void qcow2_wait_for_given(struct ublk_bpf_dev *dev, struct qcow2_device *device);

#endif
