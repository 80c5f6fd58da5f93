/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What done.bpf.c says of a range that is back: the MiB of the device that its I/O starts
 * in, as in behave.h. Each I/O is forwarded in one range, to slot 0 at its own position.
 */
#ifndef TESTS_PROGS_DONE_H
#define TESTS_PROGS_DONE_H

enum done {
	DONE_AS_IT_IS		= 16,	/* v[0..3]: slot, off, bytes, res */
	DONE_ERROR		= 17,	/* -ENOSPC */
	DONE_IGNORE		= 18,	/* of what slot 2 says */
	DONE_RETRY		= 19,	/* of what slot 2 says, to slot 1 */
	DONE_RETRY_NOTHING	= 20,
	DONE_RETRY_EVER		= 21,	/* to slot 2; v[0]: how often */
	DONE_RANGE_AND_0	= 22,	/* to slot 1, and then 0 */
	DONE_WRONG_RANGES	= 23,	/* v[0..3]: what forward says */
	DONE_SERVER		= 24,	/* the first time */
	DONE_SERVER_EVER	= 25,
	DONE_UNKNOWN		= 26,	/* 7 */
	DONE_COMPLETE		= 27,
	DONE_HOLD		= 28,	/* v[0]: was it one? */
	DONE_FILL		= 29,	/* 0x5a in the first 512 bytes of a read; v[0] */
	DONE_LOOK		= 30,	/* v[0]: the first 8 bytes; v[1..3]: other directions */
	DONE_TWO_RANGES		= 31,	/* v[0]: how many were told of */
	DONE_SCRATCH		= 32,	/* v[0]: of queue_io_cmd, found; v[1]: of 65 bytes;
					 * v[2], v[3]: how often it had been used already,
					 * and was another's in the end
					 */
	DONE_EARLY		= 33,	/* v[0..1]: payload read, written in queue_io_cmd */
	DONE_RELEASE		= 34,	/* v[0]: payload read in release_io_cmd */
	DONE_RETRY_SAME		= 35,	/* what fails goes there again */
};

#endif
