/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later */
/*
 * How a callback of struct ublk_bpf_ops says what becomes of an I/O: the
 * disposition in the top four bits, the bytes it is about in the rest.
 * Shared by the driver, programs and unit tests.
 */
#ifndef UBLK_BPF_RETURN_H
#define UBLK_BPF_RETURN_H

/**
 * enum ublk_bpf_disposition - what becomes of an I/O
 * @UBLK_BPF_IO_QUEUED:		the program takes all the rest; bytes do not matter
 * @UBLK_BPF_IO_REDIRECT:	the rest goes to the server
 * @UBLK_BPF_IO_CONTINUE:	the program took so many bytes, a multiple of 512;
 *				ask again for the rest
 */
enum ublk_bpf_disposition {
	UBLK_BPF_IO_QUEUED	= 0,
	UBLK_BPF_IO_REDIRECT	= 1,
	UBLK_BPF_IO_CONTINUE	= 2,
};

/**
 * enum ublk_bpf_done - what io_done answers, beside 0 (the range's result counts as it
 * is) and a negative errno (the I/O fails with it)
 * @UBLK_BPF_DONE_RETRY:	a range was recorded that replaces this one
 * @UBLK_BPF_DONE_IGNORE:	the range counts as good
 * @UBLK_BPF_DONE_SERVER:	once all ranges are back the whole I/O goes to the server
 */
enum ublk_bpf_done {
	UBLK_BPF_DONE_RETRY	= 1,
	UBLK_BPF_DONE_IGNORE	= 2,
	UBLK_BPF_DONE_SERVER	= 3,
};

#define UBLK_BPF_DISPOSITION_BITS	4
#define UBLK_BPF_DISPOSITION_SHIFT	(64 - UBLK_BPF_DISPOSITION_BITS)

static inline unsigned long ublk_bpf_return_val(enum ublk_bpf_disposition disposition,
						unsigned int bytes)
{
	return (unsigned long)disposition << UBLK_BPF_DISPOSITION_SHIFT | bytes;
}

/* A value that is none of the enum comes from a faulty program. */
static inline unsigned int ublk_bpf_get_disposition(unsigned long ret)
{
	return ret >> UBLK_BPF_DISPOSITION_SHIFT;
}

static inline unsigned long ublk_bpf_get_return_bytes(unsigned long ret)
{
	return ret & ((1UL << UBLK_BPF_DISPOSITION_SHIFT) - 1);
}

#endif
