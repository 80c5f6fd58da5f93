/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/* How a reason is kept. */
#ifndef TARGET_QCOW2_WHY_H
#define TARGET_QCOW2_WHY_H

#include <stdarg.h>
#include <stdio.h>
#include "format.h"

/* Keep a reason. Return: @err. */
static inline int __attribute__((format(printf, 3, 4)))
refuse(struct qcow2_why *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return err;
}

#endif
