/* SPDX-License-Identifier: GPL-2.0 */
/* The memory that the program and the servers of a qcow2 device share: maps, see qcow2.bpf.c. */
#ifndef TARGET_QCOW2_MAPS_H
#define TARGET_QCOW2_MAPS_H

#include <bpf/libbpf.h>
#include "ublk_bpf.h"
#include "qcow2.h"
#include "tables.h"

enum {
	QCOW2_MAP_INDEX,
	QCOW2_MAP_USERS,
	QCOW2_MAP_TAGS,
	QCOW2_MAP_OWNERS,
	QCOW2_MAP_WORDS,
	QCOW2_MAP_SHARED,
	QCOW2_NR_MAPS
};

/**
 * struct qcow2_maps - the maps in memory
 * @map:	each of them; no bytes: it is not there
 * @memory:	the tables in them
 * @tags:	which table an I/O uses, by queue and tag
 * @shared:	the rest
 */
struct qcow2_maps {
	struct {
		void *at;
		size_t bytes;
	} map[QCOW2_NR_MAPS];
	struct qcow2_memory memory;
	__u32 *tags;
	struct qcow2_shared *shared;
};

/*
 * Make the maps of a program that is not loaded yet as large as @layout, with room to grow,
 * and @cache bytes of tables need. Return: 0, or a negative errno.
 */
int qcow2_maps_resize(struct bpf_object *obj, const struct ublk_bpf_dev *dev,
		      const struct qcow2_layout *layout, __u64 cache);

/*
 * Have the maps of the device's program in our memory, as large as they are; or memory of our
 * own, for a device without. Return: 0, or a negative errno, which ublk_bpf_dev_fail() explains.
 */
int qcow2_maps_open(struct qcow2_maps *maps, struct ublk_bpf_dev *dev,
		    const struct qcow2_layout *layout, __u64 cache);
void qcow2_maps_close(struct qcow2_maps *maps);

/* Has the index room for the L1 table of @layout? */
bool qcow2_maps_suffice(const struct qcow2_maps *maps, const struct qcow2_layout *layout);

/* What is counted of device @dev_id, and its hits. Return: 0, or a negative errno. */
int qcow2_maps_read_counts(unsigned int dev_id, struct qcow2_shared *shared, __u64 *hits);

#endif
