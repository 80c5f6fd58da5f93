/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What hold.bpf.c does with an I/O: the MiB of the device that it starts in, as
 * in behave.h; and what its SYSCALL program can be told to do with a hold.
 */
#ifndef TESTS_PROGS_HOLD_H
#define TESTS_PROGS_HOLD_H

enum held {
	HOLD_TIMER		= 16,	/* completed 50 ms later; each flush, too */
	HOLD_TIMER_ENOSPC	= 17,
	HOLD_TIMER_HALF		= 18,	/* of what is more than 4096 bytes */
	HOLD_KEEP		= 19,	/* until somebody comes; v[0]: hold was NULL; v[1]: in the map */
	HOLD_FINISH		= 20,	/* completes what HOLD_KEEP has, and itself */
	HOLD_NOW		= 21,	/* held and completed in one call */
	HOLD_TWICE		= 22,	/* v[0]: was the second hold one? */
	HOLD_BOTH		= 23,	/* completes and forwards the I/O as well; v[0] */
	HOLD_LET_GO		= 24,	/* three times, then completed */
	HOLD_LET_GO_EVER	= 25,
	HOLD_LET_GO_REDIRECT	= 26,
	HOLD_KEEP_REDIRECT	= 27,
	HOLD_KEEP_WRONG		= 28,	/* CONTINUE 1 */
	HOLD_NOW_REDIRECT	= 29,
	HOLD_PART		= 30,	/* the first 4096 forwarded, the rest held; later
					 * what is left forwarded: v[1] times
					 */
	HOLD_IN_RELEASE		= 31,	/* v[0]: was it one? */
	HOLD_COMPLETED		= 32,	/* v[0]: a hold after complete_io */
	HOLD_DAEMON		= 33,	/* in queue_io_cmd_daemon, until somebody comes */
	HOLD_CHAIN		= 34,	/* each release_io_cmd completes the next */
	HOLD_STEP_REDIRECT	= 35,	/* CONTINUE 4096, then REDIRECT */
	HOLD_SENT_REDIRECT	= 36,	/* forwarded by the hold, let go, then REDIRECT */
	HOLD_LEGS		= 38,	/* forwarded whole, held, and forwarded whole to
					 * slot 1 by the hold, until somebody comes
					 */
	HOLD_AGAIN		= 37,	/* REDIRECT, held the second time until somebody
					 * comes, then REDIRECT
					 */
	HOLD_LEG_REDIRECT	= 40,	/* 4096 forwarded, then to slot 1 by the hold, REDIRECT */
	HOLD_SEND		= 39,	/* each block of 4096 bytes of the first 256 KiB
					 * is forwarded by its hold 50 ms later
					 */
};

/* Where what is held is kept by its block of 4096 bytes, not by its MiB. */
#define FIRST_BLOCK	64
#define NR_BLOCKS	64

enum act {
	ACT_COMPLETE,		/* with res */
	ACT_RELEASE,
	ACT_FORWARD,		/* off, bytes, slot, pos; then let go */
	ACT_FORWARD_KEEP,	/* and put it back */
	ACT_FORWARD_COMPLETE,	/* and complete with res */
};

struct act_args {
	int act, key, res;
	unsigned int off, bytes, slot;
	unsigned long long pos;
};

#endif
