// SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later
/* Which file a name in an image stands for: see names.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "names.h"
#include "why.h"

int qcow2_read_name(struct qcow2_blk *blk, const struct qcow2_extent *extent,
		    char name[QCOW2_MAX_NAME + 1], struct qcow2_why *why)
{
	int ret = blk->read(blk, name, extent->offset, extent->bytes);

	if (ret)
		return ret;
	name[extent->bytes] = '\0';
	if (strlen(name) != extent->bytes)
		return refuse(why, -EINVAL, "a name in its header is no string");
	return 0;
}

/* What "nbd://host" and "json:{...}" have, and no name of a file has but behind a slash. */
static bool has_protocol(const char *name)
{
	const char *colon = strchr(name, ':'), *slash = strchr(name, '/');

	return colon && (!slash || colon < slash);
}

/* The one way by which an open descriptor can be reached. */
static int real_path(int fd, char path[PATH_MAX])
{
	char link[32];
	ssize_t nr;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	nr = readlink(link, path, PATH_MAX - 1);
	if (nr < 0)
		return -errno;
	path[nr] = '\0';
	return 0;
}

bool qcow2_is_same_file(const struct stat *one, const struct stat *other)
{
	if (S_ISBLK(one->st_mode) && S_ISBLK(other->st_mode))
		return one->st_rdev == other->st_rdev;
	return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* Is @path in @folder, a real path both; or, if @below, further below? */
static bool is_in(const char *path, const char *folder, bool below)
{
	size_t nr = strlen(folder);

	if (nr == 1)
		nr = 0;		/* the root */
	return !strncmp(path, folder, nr) && path[nr] == '/' &&
	       (below || !strchr(path + nr + 1, '/'));
}

/* @folder: of the image; NULL: it is one of devices, which do not belong together. */
static bool is_trusted(const struct qcow2_trust *trust, const char *folder, const char *path,
		       const struct stat *stat_of_it)
{
	char allowed[PATH_MAX];
	struct stat named;
	unsigned int i;

	if (folder && is_in(path, folder, false))
		return true;
	for (i = 0; i < trust->nr_files; i++)
		if (!stat(trust->files[i], &named) && qcow2_is_same_file(&named, stat_of_it))
			return true;
	for (i = 0; i < trust->nr_folders; i++)
		if (realpath(trust->folders[i], allowed) && is_in(path, allowed, true))
			return true;
	return false;
}

/* The folder that the image is in, its name cut off; it may be a block device. */
static int folder_of(const char *image, char folder[PATH_MAX], bool *is_device)
{
	struct stat its;
	char *slash;

	if (!realpath(image, folder) || stat(image, &its))
		return -errno;
	*is_device = !S_ISREG(its.st_mode);
	slash = strrchr(folder, '/');
	slash[slash == folder] = '\0';
	return 0;
}

int qcow2_find_named(const struct qcow2_trust *trust, const char *image, const char *name,
		     const char *what, struct qcow2_why *why)
{
	char folder[PATH_MAX], path[PATH_MAX];
	struct stat stat;
	bool is_device = false;
	int fd, ret;

	if (has_protocol(name))
		return refuse(why, -EINVAL,
			      "its %s '%.100s' is no name of a file; qemu-img rebase -u can change it", what, name);
	ret = folder_of(image, folder, &is_device);
	if (ret)
		return refuse(why, ret, "the folder that it is in cannot be found: %s", strerror(-ret));
	if (snprintf(path, sizeof(path), "%s/%s", name[0] == '/' ? "" : folder, name) >= PATH_MAX)
		return refuse(why, -ENAMETOOLONG, "the name of its %s is too long", what);
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return refuse(why, -errno, "its %s '%.100s' cannot be found: %s", what, name,
			      strerror(errno));
	ret = real_path(fd, path);
	if (!ret && fstat(fd, &stat))
		ret = -errno;
	if (ret)
		refuse(why, ret, "its %s '%.100s' cannot be found: %s", what, name, strerror(-ret));
	else if (!is_trusted(trust, is_device ? NULL : folder, path, &stat))
		ret = refuse(why, -EPERM,
			     "its %s '%.100s' is elsewhere, which the image alone does not decide; allow it by -b FILE or --allow DIR",
			     what, name);
	else if (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode))
		ret = refuse(why, -EINVAL, "its %s '%.100s' is neither a regular file nor a block device",
			     what, name);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}
