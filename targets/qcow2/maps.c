// SPDX-License-Identifier: GPL-2.0
/* The memory that the program and the servers of a qcow2 device share: see maps.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include "maps.h"

/* A disk may grow while it is used, to twice its size at least; in L1 entries. */
#define FEWEST_INDEXED	65536U
#define MOST_INDEXED	(QCOW2_MAX_L1_BYTES / 8)
#define FEWEST_TABLES	64U

static const char *const names[QCOW2_NR_MAPS] = {
	[QCOW2_MAP_INDEX]  = "qcow2_index",
	[QCOW2_MAP_USERS]  = "qcow2_users",
	[QCOW2_MAP_TAGS]   = "qcow2_tags",
	[QCOW2_MAP_OWNERS] = "qcow2_owners",
	[QCOW2_MAP_WORDS]  = "qcow2_words",
	[QCOW2_MAP_SHARED] = ".data.qcow2",
};

static __u64 larger(__u64 a, __u64 b)
{
	return a > b ? a : b;
}

/* L2 tables that are kept in memory. */
static __u64 nr_tables(const struct qcow2_layout *layout, __u64 cache)
{
	__u64 nr = cache >> layout->cluster_bits;
	__u64 most = larger(layout->l1.bytes / 8 * 2, FEWEST_TABLES) + QCOW2_HIDDEN_TABLES;

	return larger(nr < most ? nr : most, QCOW2_MIN_TABLES);
}

/* Bytes of each of the maps, in whole elements. */
static size_t bytes_of(const struct ublk_bpf_dev *dev, const struct qcow2_layout *layout, __u64 cache,
		       unsigned int map)
{
	__u64 tags = (__u64)ublk_bpf_dev_nr_queues(dev) * ublk_bpf_dev_depth(dev);
	__u64 tables = nr_tables(layout, cache), l1 = larger(layout->l1.bytes / 8 * 2, FEWEST_INDEXED);

	switch (map) {
	case QCOW2_MAP_INDEX:
		return (l1 < MOST_INDEXED ? l1 : MOST_INDEXED) / 2 * sizeof(__u64);
	case QCOW2_MAP_USERS:
		return (tables + 1) / 2 * sizeof(__u64);
	case QCOW2_MAP_TAGS:
		return (tags + 1) / 2 * sizeof(__u64);
	case QCOW2_MAP_OWNERS:
		return tables * sizeof(struct qcow2_owner);
	case QCOW2_MAP_WORDS:
		return tables << layout->cluster_bits;
	default:
		return sizeof(struct qcow2_shared);
	}
}

int qcow2_maps_resize(struct bpf_object *obj, const struct ublk_bpf_dev *dev,
		      const struct qcow2_layout *layout, __u64 cache)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < QCOW2_MAP_SHARED; i++)
		ret = bpf_map__set_max_entries(bpf_object__find_map_by_name(obj, names[i]),
					       bytes_of(dev, layout, cache, i) / sizeof(__u64));
	return ret;
}

/* How large a map is. Return: 0, or a negative errno. */
static int measure(int fd, size_t *bytes)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	int ret = bpf_map_get_info_by_fd(fd, &info, &size);

	*bytes = (size_t)info.max_entries * info.value_size;
	return ret;
}

static int open_map(struct qcow2_maps *maps, struct ublk_bpf_dev *dev, unsigned int nr, size_t bytes)
{
	bool own = ublk_bpf_dev_args(dev)->server;
	int fd = own ? -1 : ublk_bpf_map_open(ublk_bpf_dev_id(dev), names[nr]);
	int ret = own ? 0 : fd < 0 ? fd : measure(fd, &bytes);
	void *at = MAP_FAILED;

	if (!ret) {
		at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  own ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
		ret = at == MAP_FAILED ? -errno : 0;
	}
	if (fd >= 0)
		close(fd);
	if (ret)
		return ublk_bpf_dev_fail(dev, ret, "its map %s cannot be had: %s", names[nr], strerror(-ret));
	maps->map[nr].at = at;
	maps->map[nr].bytes = bytes;
	return 0;
}

int qcow2_maps_open(struct qcow2_maps *maps, struct ublk_bpf_dev *dev,
		    const struct qcow2_layout *layout, __u64 cache)
{
	unsigned int i;
	int ret = 0;

	*maps = (struct qcow2_maps){};
	for (i = 0; !ret && i < QCOW2_NR_MAPS; i++)
		ret = open_map(maps, dev, i, bytes_of(dev, layout, cache, i));
	if (ret)
		return ret;
	maps->memory = (struct qcow2_memory){
		.index	= maps->map[QCOW2_MAP_INDEX].at,
		.users	= maps->map[QCOW2_MAP_USERS].at,
		.bytes	= maps->map[QCOW2_MAP_WORDS].at,
		.owners	= maps->map[QCOW2_MAP_OWNERS].at,
		.nr	= maps->map[QCOW2_MAP_WORDS].bytes >> layout->cluster_bits,
	};
	/* unless somebody has put another image there while there was no server */
	if (maps->memory.nr > maps->map[QCOW2_MAP_OWNERS].bytes / sizeof(*maps->memory.owners) ||
	    maps->memory.nr < QCOW2_MIN_TABLES)
		return ublk_bpf_dev_fail(dev, -EINVAL, "it is not the image that it was; delete the device");
	maps->tags = maps->map[QCOW2_MAP_TAGS].at;
	maps->shared = maps->map[QCOW2_MAP_SHARED].at;
	return 0;
}

void qcow2_maps_close(struct qcow2_maps *maps)
{
	unsigned int i;

	for (i = 0; i < QCOW2_NR_MAPS; i++)
		if (maps->map[i].bytes)
			munmap(maps->map[i].at, maps->map[i].bytes);
	*maps = (struct qcow2_maps){};
}

bool qcow2_maps_suffice(const struct qcow2_maps *maps, const struct qcow2_layout *layout)
{
	return layout->l1.bytes / sizeof(__u64) <=
	       maps->map[QCOW2_MAP_INDEX].bytes / sizeof(*maps->memory.index);
}

/* The only element of a map of device @dev_id. Return: 0, or a negative errno. */
static int read_map(unsigned int dev_id, const char *name, void *value)
{
	int fd = ublk_bpf_map_open(dev_id, name), ret;
	__u32 key = 0;

	if (fd < 0)
		return fd;
	ret = bpf_map_lookup_elem(fd, &key, value);
	close(fd);
	return ret;
}

int qcow2_maps_read_counts(unsigned int dev_id, struct qcow2_shared *shared, __u64 *hits)
{
	int nr = libbpf_num_possible_cpus(), ret;
	__u64 *of = calloc(nr > 0 ? nr : 1, sizeof(*of));

	ret = nr < 0 ? nr : of ? read_map(dev_id, "qcow2_hits", of) : -ENOMEM;
	for (*hits = 0; !ret && nr--;)
		*hits += of[nr];
	free(of);
	return ret ?: read_map(dev_id, names[QCOW2_MAP_SHARED], shared);
}
