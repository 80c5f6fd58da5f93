/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * Which file a name that is written in an image stands for. Whoever made the image chose the
 * name, so it opens nothing but what lies beside the image, or what the user has named.
 */
#ifndef TARGET_QCOW2_NAMES_H
#define TARGET_QCOW2_NAMES_H

#include <sys/stat.h>
#include "blk.h"
#include "format.h"

/**
 * struct qcow2_trust - what the user has named
 * @files:	files that images may use
 * @nr_files:	how many
 * @folders:	images may use what is in there, or below
 * @nr_folders:	how many
 */
struct qcow2_trust {
	const char **files;
	unsigned int nr_files;
	const char **folders;
	unsigned int nr_folders;
};

/**
 * qcow2_read_name() - a name in the header of an image
 * @blk:	the image
 * @extent:	where it is
 * @name:	the result, a string
 * @why:	what is wrong
 *
 * Return: 0, -EINVAL, or as the blk.
 */
int qcow2_read_name(struct qcow2_blk *blk, const struct qcow2_extent *extent,
		    char name[QCOW2_MAX_NAME + 1], struct qcow2_why *why);

/**
 * qcow2_find_named() - the file that a name in an image stands for
 * @trust:	what the user has named
 * @image:	a path of the image, by which it can be found now
 * @name:	the name; one that is not absolute is one in the image's folder
 * @what:	what it is of the image, such as "backing file"
 * @why:	why not, and what the user can do about it
 *
 * What the name leads to is what is looked at, by whatever symbolic links. Beside an image
 * that is a block device nothing is trusted.
 *
 * Return: a descriptor (O_PATH) to be opened by way of /proc/self/fd; -EPERM it is not
 * trusted, -EINVAL it is no name of a file, or of something else than a regular file or block
 * device; or as open(2).
 */
int qcow2_find_named(const struct qcow2_trust *trust, const char *image, const char *name,
		     const char *what, struct qcow2_why *why);

/* Are they one file, or nodes of one block device? */
bool qcow2_is_same_file(const struct stat *one, const struct stat *other);

#endif
