// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Programs: find the ops table in a BPF object, give it a free id, load it,
 * register it and pin the registration so that it outlives this process.
 *
 * Everything about the ops table is found by the object's own BTF: an object
 * may carry its own definition of struct ublk_bpf_ops and know nothing of our
 * headers.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/magic.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include "internal.h"

#define OPS_STRUCT	"ublk_bpf_ops"
#define BPFFS		"/sys/fs/bpf"
#define MAX_ID_TRIES	16
#define LOG_BYTES	(1U << 20)
#define DETAIL_LINES	30	/* 7.3 puts context and advice after the reason */

/* libbpf's print function is global and takes no context. */
static char libbpf_said[sizeof(((struct ublk_bpf_dev *)0)->detail)];

/* Keep the end of what libbpf warns about. */
static int keep_warning(enum libbpf_print_level level, const char *format, va_list args)
{
	size_t room = sizeof(libbpf_said), used = strlen(libbpf_said);
	char line[1024];
	int len;

	if (level != LIBBPF_WARN)
		return 0;
	len = vsnprintf(line, sizeof(line), format, args);
	if (len < 0)
		return 0;
	if (strlen(line) + used >= room) {
		size_t drop = strlen(line) + used - room + 1;

		memmove(libbpf_said, libbpf_said + drop, used - drop + 1);
		used -= drop;
	}
	strcpy(libbpf_said + used, line);
	return 0;
}

static const char *last_lines(const char *text, unsigned int nr)
{
	const char *p = text + strlen(text);

	while (p > text && p[-1] == '\n')
		p--;
	for (; p > text; p--)
		if (p[-1] == '\n' && !--nr)
			break;
	return p;
}

/* What follows ___ is libbpf's flavour: the author's own declaration of the struct. */
static bool is_ops(const struct bpf_object *obj, const struct bpf_map *map)
{
	const struct btf *btf = bpf_object__btf(obj);
	size_t length = strlen(OPS_STRUCT);
	const struct btf_type *t;
	const char *name;

	if (bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS || !btf)
		return false;
	t = btf__type_by_id(btf, bpf_map__btf_value_type_id(map));
	if (!t || !btf_is_struct(t))
		return false;
	name = btf__name_by_offset(btf, t->name_off);
	return !strncmp(name, OPS_STRUCT, length) &&
	       (!name[length] || !strncmp(name + length, "___", 3));
}

/* The ops table to use; all others of the object are not to be loaded. */
static int find_ops(struct ublk_bpf_dev *dev, struct bpf_object *obj, struct bpf_map **ops)
{
	const char *wanted = dev->args->ops;
	struct bpf_map *map, *found = NULL;
	unsigned int nr = 0;
	char names[256] = "";

	bpf_object__for_each_map(map, obj) {
		if (!is_ops(obj, map)) {
			/* sched_ext's or a congestion control: not for us */
			if (bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS)
				bpf_map__set_autocreate(map, false);
			continue;
		}
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			 nr++ ? ", " : "", bpf_map__name(map));
		if (!wanted || !strcmp(bpf_map__name(map), wanted))
			found = map;
	}
	if (!nr)
		return ublk_bpf_dev_fail(dev, -ENOENT,
			"no struct ublk_bpf_ops in it; define one in section .struct_ops.link");
	if (nr > 1 && !wanted)
		return ublk_bpf_dev_fail(dev, -EINVAL,
			"several struct ublk_bpf_ops in it; pick one by --ops: %s", names);
	if (!found)
		return ublk_bpf_dev_fail(dev, -ENOENT,
			"no struct ublk_bpf_ops '%s' in it; it has: %s", wanted, names);
	bpf_object__for_each_map(map, obj)
		if (is_ops(obj, map))
			bpf_map__set_autocreate(map, map == found);
	/* Section .struct_ops gives none: but only a link can be pinned and updated. */
	bpf_map__set_map_flags(found, bpf_map__map_flags(found) | BPF_F_LINK);
	*ops = found;
	return 0;
}

/* Write @id into the member of that name before the object is loaded. */
static int set_id(struct ublk_bpf_dev *dev, struct bpf_object *obj, struct bpf_map *ops, __u32 id)
{
	const struct btf *btf = bpf_object__btf(obj);
	const struct btf_type *t = btf__type_by_id(btf, bpf_map__btf_value_type_id(ops));
	const struct btf_member *m = btf_members(t);
	char *value;
	size_t size;
	int i;

	value = bpf_map__initial_value(ops, &size);
	for (i = 0; value && i < btf_vlen(t); i++, m++) {
		unsigned int offset = btf_member_bit_offset(t, i) / 8;

		if (strcmp(btf__name_by_offset(btf, m->name_off), "id"))
			continue;
		if (btf__resolve_size(btf, m->type) != sizeof(id) || offset + sizeof(id) > size)
			break;
		memcpy(value + offset, &id, sizeof(id));
		return 0;
	}
	return ublk_bpf_dev_fail(dev, -EINVAL,
		"its struct ublk_bpf_ops has no 32-bit member 'id'; use ublk_bpf.bpf.h");
}

/*
 * One log buffer a program: what libbpf tells of a failure names neither the
 * callback nor keeps the verifier's words apart from its own.
 */
static int add_logs(struct bpf_object *obj)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, obj) {
		char *log = calloc(1, LOG_BYTES);

		if (!log)
			return -ENOMEM;
		bpf_program__set_log_buf(prog, log, LOG_BYTES);
	}
	return 0;
}

static void free_logs(struct bpf_object *obj)
{
	struct bpf_program *prog;
	size_t size;

	bpf_object__for_each_program(prog, obj) {
		char *log = (char *)bpf_program__log_buf(prog, &size);

		bpf_program__set_log_buf(prog, NULL, 0);
		free(log);
	}
}

static int explain_load(struct ublk_bpf_dev *dev, struct bpf_object *obj, int err)
{
	struct bpf_program *prog;
	char reason[128];
	size_t size;

	/* Of the log, that is: a long one hides the verifier's own error. */
	if (err == -ENOSPC)
		snprintf(reason, sizeof(reason), "why is at the end of a long log");
	else if (err == -ENOMEM)
		snprintf(reason, sizeof(reason),
			 "its maps do not fit into memory, choose a smaller size");
	else
		libbpf_strerror(err, reason, sizeof(reason));	/* it has errors of its own */
	/* Only the program that was refused has anything in its log. */
	bpf_object__for_each_program(prog, obj) {
		const char *log = bpf_program__log_buf(prog, &size);

		if (!log || !*log)
			continue;
		snprintf(dev->detail, sizeof(dev->detail), "%s", last_lines(log, DETAIL_LINES));
		return ublk_bpf_dev_fail(dev, err,
			"the BPF verifier refuses callback %s (%s): %s; its last lines follow",
			bpf_program__name(prog), bpf_program__section_name(prog), reason);
	}
	snprintf(dev->detail, sizeof(dev->detail), "%s", last_lines(libbpf_said, DETAIL_LINES));
	return ublk_bpf_dev_fail(dev, err, "the program does not load: %s; what libbpf says follows",
				 reason);
}

static int load_object(struct ublk_bpf_dev *dev, struct bpf_object *obj)
{
	libbpf_print_fn_t old;
	int ret = add_logs(obj);

	if (!ret) {
		libbpf_said[0] = '\0';
		old = libbpf_set_print(keep_warning);
		ret = bpf_object__load(obj);
		libbpf_set_print(old);
		if (ret)
			explain_load(dev, obj, ret);
	}
	free_logs(obj);
	return ret;
}

static int mount_bpffs(void)
{
	struct statfs fs;

	if (!statfs(BPFFS, &fs) && fs.f_type == BPF_FS_MAGIC)
		return 0;
	return mount("bpf", BPFFS, "bpf", 0, "mode=0700") ? -errno : 0;
}

static void pin_path(char *path, size_t size, unsigned int dev_id, const char *name)
{
	snprintf(path, size, UBLK_BPF_PIN_DIR "/%u%s", dev_id, name);
}

/* Remove a folder of pins and all that is in it. 0 also if there was none. */
static int remove_pins(const char *path)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	int ret = 0;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (!ret && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && unlinkat(dirfd(dir), entry->d_name, 0))
			ret = -errno;
	closedir(dir);
	if (!ret && rmdir(path) && errno != ENOENT)
		ret = -errno;
	return ret;
}

int ublk_bpf_unpin(unsigned int dev_id)
{
	char path[64];
	int ret;

	pin_path(path, sizeof(path), dev_id, "/maps");
	ret = remove_pins(path);
	if (ret)
		return ret;
	pin_path(path, sizeof(path), dev_id, "");
	return remove_pins(path);
}

/* Where a map is pinned: by its name, where a '.' cannot stand. */
static void map_path(char *path, size_t size, unsigned int dev_id, const char *name)
{
	char *c;

	snprintf(path, size, UBLK_BPF_PIN_DIR "/%u/maps/%s", dev_id, name);
	for (c = path + sizeof(UBLK_BPF_PIN_DIR); *c; c++)
		if (*c == '.')
			*c = '_';
}

int ublk_bpf_map_open(unsigned int dev_id, const char *name)
{
	char path[PATH_MAX];
	int fd;

	map_path(path, sizeof(path), dev_id, name);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

/*
 * Not by libbpf, which knows of one pin of a map, and the object may have asked for
 * that. Their timers live as long as they are pinned.
 */
static int pin_maps(unsigned int dev_id, struct bpf_object *obj)
{
	struct bpf_map *map;
	char path[PATH_MAX];
	int ret;

	pin_path(path, sizeof(path), dev_id, "/maps");
	if (mkdir(path, 0700))
		return -errno;
	bpf_object__for_each_map(map, obj) {
		if (!bpf_map__autocreate(map))
			continue;
		map_path(path, sizeof(path), dev_id, bpf_map__name(map));
		ret = bpf_obj_pin(bpf_map__fd(map), path);
		if (ret)
			return ret;
	}
	return 0;
}

static int pin(struct ublk_bpf_dev *dev, struct bpf_object *obj)
{
	unsigned int dev_id = dev->info.dev_id;
	char path[64];
	int ret = mount_bpffs();

	if (ret)
		goto fail;
	ret = ublk_bpf_unpin(dev_id);	/* of a device that is gone */
	if (ret)
		goto fail;
	pin_path(path, sizeof(path), dev_id, "");
	if ((mkdir(UBLK_BPF_PIN_DIR, 0700) && errno != EEXIST) || mkdir(path, 0700)) {
		ret = -errno;
		goto fail;
	}
	pin_path(path, sizeof(path), dev_id, "/link");
	ret = bpf_link__pin(dev->link, path);
	if (!ret)
		ret = pin_maps(dev_id, obj);
	if (!ret)
		return 0;
fail:
	return ublk_bpf_dev_fail(dev, ret,
		"cannot pin the program in " UBLK_BPF_PIN_DIR ": %s; check that " BPFFS
		" is a bpf file system", strerror(-ret));
}

/* Any number but 0; taken ones are found out by registering. */
static int random_id(__u32 *id)
{
	do {
		if (getrandom(id, sizeof(*id), 0) != sizeof(*id))
			return -errno;
	} while (!*id);
	return 0;
}

/* Return: -EBUSY the id is taken, try again with a newly opened object. */
static int load_once(struct ublk_bpf_dev *dev, struct bpf_object **result)
{
	libbpf_print_fn_t old;
	struct bpf_object *obj;
	struct bpf_map *ops;
	int ret;

	ret = dev->target->open_program(dev, &obj);
	if (ret)
		return ret;
	*result = obj;
	ret = find_ops(dev, obj, &ops);
	if (ret)
		return ret;
	ret = random_id(&dev->prog_id);
	if (ret)
		return ret;
	ret = set_id(dev, obj, ops, dev->prog_id);
	if (ret)
		return ret;
	ret = load_object(dev, obj);
	if (ret)
		return ret == -EBUSY ? -EINVAL : ret;

	libbpf_said[0] = '\0';
	old = libbpf_set_print(keep_warning);
	dev->link = bpf_map__attach_struct_ops(ops);
	ret = dev->link ? 0 : -errno;
	libbpf_set_print(old);
	if (ret)
		ublk_bpf_dev_fail(dev, ret,
			"the driver refuses to register the program: %s; see dmesg",
			strerror(-ret));
	return ret;
}

int prog_load(struct ublk_bpf_dev *dev)
{
	struct bpf_object *obj;
	int tries, ret;

	for (tries = 0; tries < MAX_ID_TRIES; tries++) {
		ret = load_once(dev, &obj);
		if (ret != -EBUSY)
			break;
		dev->target->close_program(dev);
	}
	return ret ? ret : pin(dev, obj);
}

/* The program of a device that is served again, unless it has lost it. */
int prog_find(struct ublk_bpf_dev *dev)
{
	char path[64];

	if (!(dev->info.flags & UBLK_F_BPF))
		return 0;
	pin_path(path, sizeof(path), dev->info.dev_id, "/link");
	dev->link = bpf_link__open(path);
	if (!dev->link && errno != ENOENT)
		return ublk_bpf_dev_fail(dev, -errno, "cannot open %s: %s; be root", path,
					 strerror(errno));
	return 0;
}

void prog_close(struct ublk_bpf_dev *dev)
{
	if (dev->link)
		bpf_link__destroy(dev->link);
	dev->link = NULL;
	if (dev->target->close_program)
		dev->target->close_program(dev);
}
