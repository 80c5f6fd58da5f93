// SPDX-License-Identifier: GPL-2.0
/* Who uses a device: what is mounted, what holds it, which device of ours lies on it. */
#include <dirent.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli.h"

/* Is @path the disk @name, "ublkb0", or a partition of it? */
static bool is_on(const char *path, const char *name)
{
	size_t len = strlen(name);

	if (strncmp(path, "/dev/", 5) || strncmp(path + 5, name, len))
		return false;
	path += 5 + len;
	return !*path || (*path == 'p' && path[1]);
}

static bool find_mount(const char *name, char *text, size_t size)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent *mount;
	bool found = false;

	while (mounts && !found && (mount = getmntent(mounts))) {
		found = is_on(mount->mnt_fsname, name);
		if (found)
			snprintf(text, size, "it is mounted on %s", mount->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	return found;
}

/* Of the disk or partition whose folder in sysfs is @path: a dm or md device. */
static bool find_holder(const char *path, char *text, size_t size)
{
	char folder[512];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%s/holders", path);
	dir = opendir(folder);
	while (dir && !found && (entry = readdir(dir))) {
		found = entry->d_name[0] != '.';
		if (found)
			snprintf(text, size, "/dev/%s is on it", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool find_holders(const char *name, char *text, size_t size)
{
	char path[64], part[352];
	struct dirent *entry;
	bool found;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/block/%s", name);
	found = find_holder(path, text, size);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, name, strlen(name)))
			continue;
		snprintf(part, sizeof(part), "%s/%s", path, entry->d_name);
		found = find_holder(part, text, size);
	}
	if (dir)
		closedir(dir);
	return found;
}

bool find_upper(unsigned int id, char *text, size_t size)
{
	char name[32], node[32];
	bool found = false;
	unsigned int *ids;
	int nr, i;

	snprintf(name, sizeof(name), "ublkb%u", id);
	nr = list_states(&ids);
	for (i = 0; i < nr && !found; i++) {
		struct json_object *state = state_load(ids[i]);
		struct json_object *files = json_object_object_get(state, "files");
		size_t j, nr_files = files ? json_object_array_length(files) : 0;

		for (j = 0; j < nr_files && !found; j++) {
			struct json_object *file = json_object_array_get_idx(files, j);
			const char *path = json_object_get_string(json_object_object_get(file, "path"));

			found = path && is_on(path, name);
		}
		json_object_put(state);
		snprintf(node, sizeof(node), "/dev/ublkc%u", ids[i]);
		found = found && !access(node, F_OK);
		if (found)
			snprintf(text, size, "/dev/ublkb%u is on it", ids[i]);
	}
	if (nr > 0)
		free(ids);
	return found;
}

bool find_user(unsigned int id, char *text, size_t size)
{
	char name[32];

	snprintf(name, sizeof(name), "ublkb%u", id);
	if (find_mount(name, text, size) || find_upper(id, text, size) ||
	    find_holders(name, text, size))
		return true;
	snprintf(text, size, "somebody holds it, see fuser /dev/%s", name);
	return false;
}
