/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * The locks by which QEMU and we keep out of each other's way: bytes of the file, one for
 * each thing that somebody does to it, and one for each that others are not to do. They are
 * the open file's, not the process's.
 */
#ifndef TARGET_QCOW2_LOCK_H
#define TARGET_QCOW2_LOCK_H

#include <stdbool.h>

/*
 * Lock the image open at @fd, to read it, which others may do too, or to @write it. Return: 0,
 * -EAGAIN somebody does what does not go together, or as fcntl(2).
 */
int qcow2_lock(int fd, bool write);
void qcow2_unlock(int fd);

#endif
