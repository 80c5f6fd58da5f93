/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What behave.bpf.c does with an I/O: the MiB of the device that it starts in.
 * Below and above these it completes everything, so that udev's probing is
 * served. The tests find the numbers here by name.
 */
#ifndef TESTS_PROGS_BEHAVE_H
#define TESTS_PROGS_BEHAVE_H

enum behave {
	/* complete */
	COMPLETE		= 16,
	COMPLETE_HALF		= 17,	/* of what is more than 4096 bytes */
	COMPLETE_ZERO		= 18,
	COMPLETE_MORE		= 19,
	COMPLETE_EIO		= 20,
	COMPLETE_ENOSPC		= 21,
	COMPLETE_LOWEST		= 22,	/* INT_MIN */
	COMPLETE_TWICE		= 23,
	COMPLETE_REDIRECT	= 24,
	COMPLETE_FORWARD	= 25,	/* v[0]: what forward says */
	COMPLETE_ODD		= 26,	/* 1000 bytes, of what is more than 512 */
	COMPLETE_EAGAIN		= 27,
	/* return values */
	NEVER			= 28,
	CONTINUE_0		= 29,
	CONTINUE_513		= 30,
	CONTINUE_MORE		= 31,
	CONTINUE_64BIT		= 32,
	CONTINUE_512		= 33,	/* to the end, and never finished */
	UNKNOWN			= 34,
	REDIRECT_ALL		= 35,
	COMPLETE_CONTINUE_0	= 36,
	NEGATIVE		= 37,	/* -EIO, as if the I/O's result were returned */
	/* forward */
	FORWARD			= 40,	/* v[0]: operation and flags */
	FORWARD_MIRROR		= 41,	/* both slots, the same range */
	FORWARD_STEPS		= 42,	/* 512 bytes a call */
	FORWARD_PIECES		= 43,	/* 512 bytes a range; v[0]: what the 17th says */
	FORWARD_ODD		= 44,	/* 1536, 6144, the rest; v[0]: largest I/O */
	FORWARD_COMPLETE	= 45,
	FORWARD_REDIRECT	= 46,	/* at once: dropped */
	FORWARD_WRONG		= 47,	/* at once with a wrong return: dropped */
	FORWARD_4096		= 48,	/* the first 4096, the rest redirected */
	FORWARD_THEN_WRONG	= 49,	/* the first 4096, then CONTINUE 0 */
	FORWARD_PART		= 50,	/* the first 4096, then QUEUED */
	FORWARD_ERRORS		= 51,	/* v[]: what each wrong call says */
	FORWARD_UNORDERED	= 52,	/* v[]: likewise */
	FORWARD_SLOT_2		= 53,	/* v[0]: what forward says */
	FORWARD_RELEASE		= 54,	/* v[0]: what forward says in release_io_cmd */
	RELEASE_COMPLETE	= 55,
	SPLIT			= 56,	/* by third of sectors: 512 bytes and the rest redirected,
				 * all redirected, all forwarded
				 */
	FORWARD_ANY		= 57,	/* v[0]: what forward says; an error is the I/O's */
	/* queue_io_cmd_daemon */
	DAEMON			= 58,
	DAEMON_FORWARD		= 59,
	DAEMON_WRONG		= 60,
	DAEMON_PART		= 61,	/* the first 4096 forwarded, the rest redirected */
	/* a server that says -EAGAIN */
	AGAIN_COMPLETE		= 64,
	AGAIN_REDIRECT		= 65,
	AGAIN_FORWARD		= 66,
	AGAIN_PART		= 67,	/* the first 4096 the second time; then from new */
	AGAIN_WRONG		= 68,
	AGAIN_PIECES		= 69,	/* and the three behind it: as FORWARD_PIECES, slot 1 */
	/* forward, some milliseconds later */
	BUSY			= 73,	/* v[0]: how often another task ran meanwhile;
				 * v[1] only keeps it busy
				 */
};

#endif
