// SPDX-License-Identifier: GPL-2.0
/*
 * The life of an I/O: asking the program, what its answer means, and the end.
 *
 * Two references: the submission's, held while the callbacks run, and the
 * completion's, dropped by ublk_bpf_complete_io() or by the hold of the I/O. What
 * is forwarded takes more, one each range and bio in flight, and the completion's
 * goes with the submission's then. Whoever drops the last ends the request, in
 * whatever context that is.
 *
 * Until the first range is sent or the I/O is held, it is known to the run of
 * its callbacks alone: no atomics before that.
 */
#include <linux/bio.h>
#include <linux/blk-mq.h>
#include <linux/ratelimit.h>
#include "pdu.h"
#include "trace.h"
#include "ublk_bpf_return.h"

/*
 * See ublk_bpf_complete_io(). A program has an io only in the callbacks of that
 * I/O: while one of the queue callbacks runs nobody else can do this.
 */
void ublk_bpf_completed(struct ublk_bpf_tag *tag, int res)
{
	unsigned long flags = tag->io.flags;

	if (unlikely(flags & BIT(UBLK_BPF_IO_F_COMPLETED))) {
		ublk_bpf_misused(tag, "completed an I/O twice");
	} else if (unlikely(flags & BIT(UBLK_BPF_IO_F_RANGES))) {
		ublk_bpf_misused(tag, "completed an I/O that has ranges");
	} else if (unlikely(flags & BIT(UBLK_BPF_IO_F_HELD))) {
		ublk_bpf_misused(tag, "completed an I/O that it holds, not by the hold");
	} else if (unlikely(!tag->asking)) {
		ublk_bpf_misused(tag, "completed an I/O that is at its end");
	} else {
		tag->io.flags = flags | BIT(UBLK_BPF_IO_F_COMPLETED);
		tag->io.res = res;
		refcount_set(&tag->io.ref, 1);
	}
}

/* An error of the I/O: the first counts. Context: any. */
void ublk_bpf_fail_range(struct ublk_bpf_tag *tag, int err)
{
	cmpxchg(&tag->err, 0, err);
}

/* A program did what it must not; the I/O is none the worse for it. */
void ublk_bpf_misused(struct ublk_bpf_tag *tag, const char *what)
{
	ublk_bpf_count(tag->q->dev, misused, 1);
	trace_ublk_bpf_misuse(tag->q->dev->dev_id, tag->q->dev->prog_id, what);
	pr_warn_ratelimited("ublk_bpf: dev %d: program %u %s\n",
			    tag->q->dev->dev_id, tag->q->dev->prog_id, what);
}

static u32 ublk_bpf_op_flags(const struct request *rq)
{
	static const struct { blk_opf_t req; u32 iod; } flags[] = {
		{ REQ_FAILFAST_DEV,		UBLK_IO_F_FAILFAST_DEV },
		{ REQ_FAILFAST_TRANSPORT,	UBLK_IO_F_FAILFAST_TRANSPORT },
		{ REQ_FAILFAST_DRIVER,		UBLK_IO_F_FAILFAST_DRIVER },
		{ REQ_META,			UBLK_IO_F_META },
		{ REQ_FUA,			UBLK_IO_F_FUA },
		{ REQ_NOUNMAP,			UBLK_IO_F_NOUNMAP },
		{ REQ_SWAP,			UBLK_IO_F_SWAP },
	};
	const blk_opf_t any = REQ_FAILFAST_MASK | REQ_META | REQ_FUA | REQ_NOUNMAP | REQ_SWAP;
	u32 ret = 0;

	if (likely(!(rq->cmd_flags & any)))
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++)
		if (rq->cmd_flags & flags[i].req)
			ret |= flags[i].iod;
	return ret;
}

/* Only called for what the driver let through: the operations a server can get. */
static u32 ublk_bpf_op(const struct request *rq)
{
	switch (req_op(rq)) {
	case REQ_OP_READ:
		return UBLK_IO_OP_READ;
	case REQ_OP_WRITE:
		return UBLK_IO_OP_WRITE;
	case REQ_OP_FLUSH:
		return UBLK_IO_OP_FLUSH;
	case REQ_OP_DISCARD:
		return UBLK_IO_OP_DISCARD;
	default:
		return UBLK_IO_OP_WRITE_ZEROES;
	}
}

/* The tag's earlier I/O has ended: everything here is ours to set. */
static void ublk_bpf_start_io(struct ublk_bpf_tag *tag, struct request *rq, bool server)
{
	memset(&tag->fresh, 0, sizeof(tag->fresh));
	tag->rq = rq;
	tag->bytes = blk_rq_bytes(rq);
	tag->iod.op_flags = ublk_bpf_op(rq) | ublk_bpf_op_flags(rq);
	tag->iod.nr_sectors = blk_rq_sectors(rq);
	tag->iod.start_sector = blk_rq_pos(rq);
	tag->io.res = 0;
	tag->io.flags = BIT(UBLK_BPF_IO_F_OWNED) | (server ? BIT(UBLK_BPF_IO_F_SERVER) : 0);
	refcount_set(&tag->io.ref, 2);
}

/*
 * End a request. In the server's task with softirqs off: a final fput of the
 * device in there would otherwise wait for this very task (see the comment in
 * __ublk_complete_rq of the kernel's file).
 */
static void ublk_bpf_end_request(struct request *rq, blk_status_t status, unsigned int bytes,
				 bool server, struct io_comp_batch *iob)
{
	bool whole = bytes == blk_rq_bytes(rq);

	/* what a worker sent for the server's I/O may end in an interrupt */
	server = server && in_task() && !irqs_disabled();

	if (whole && !status && blk_mq_add_to_batch(rq, iob, false, blk_mq_end_request_batch))
		return;
	if (server)
		local_bh_disable();
	if (status || whole)
		blk_mq_end_request(rq, status);
	else if (blk_update_request(rq, BLK_STS_OK, bytes))
		blk_mq_requeue_request(rq, true);
	else
		__blk_mq_end_request(rq, BLK_STS_OK);
	if (server)
		local_bh_enable();
}

static void ublk_bpf_count_failed(struct ublk_bpf_dev *dev, const struct request *rq, int err)
{
	ublk_bpf_count(dev, failed, 1);
	trace_ublk_bpf_fail(dev->dev_id, rq, err);
}

void ublk_bpf_fail_rq(struct ublk_bpf_dev *dev, struct request *rq, int err, bool server)
{
	ublk_bpf_count_failed(dev, rq, err);
	ublk_bpf_end_request(rq, errno_to_blk_status(err), 0, server, NULL);
}

/* What ublk_bpf_complete_io() said, in whole logical blocks: bytes or -errno. */
static s64 ublk_bpf_completed_bytes(const struct ublk_bpf_tag *tag)
{
	const struct request *rq = tag->rq;
	int res = tag->io.res;

	if (res < 0)
		return res < -MAX_ERRNO ? -EIO : res;
	/* the others move no data: they succeed or fail as a whole */
	if ((req_op(rq) != REQ_OP_READ && req_op(rq) != REQ_OP_WRITE) || res >= tag->bytes)
		return tag->bytes;
	return round_down(res, queue_logical_block_size(rq->q)) ?: -EIO;
}

/* A hold ended too late for its program, which is still the same. */
static bool ublk_bpf_was_late(const struct ublk_bpf_tag *tag)
{
	return tag->hold_late && ublk_bpf_held_too_long(tag);
}

/*
 * What an I/O comes to that was held: bytes, or a negative errno. *@again: its
 * program let it go and nothing of it is done.
 */
static s64 ublk_bpf_held_result(struct ublk_bpf_tag *tag, unsigned long flags, bool *again)
{
	bool ranges = tag->held_ranges || flags & BIT(UBLK_BPF_IO_F_RANGES);
	u32 covered = flags & BIT(UBLK_BPF_IO_F_CUT) ? tag->taken :
						       max(tag->rec.covered, tag->held_covered);

	if (tag->hold_end == UBLK_BPF_HOLD_COMPLETED) {
		if (!ranges || tag->io.res < 0)
			return ublk_bpf_completed_bytes(tag);
		ublk_bpf_misused(tag, "completed a hold that has ranges");
		tag->hold_end = UBLK_BPF_HOLD_RELEASED;
	}
	if (tag->held_lost)
		covered = 0;	/* a second leg may be among them: all of it again */
	else if (ranges && covered == tag->bytes && !(flags & BIT(UBLK_BPF_IO_F_CUT)))
		return tag->bytes;
	if (ublk_bpf_was_late(tag)) {
		ublk_bpf_eject(tag->q->dev, tag);
		return -ETIMEDOUT;
	}
	*again = !covered;
	if (*again)
		ublk_bpf_keep_held(tag);
	return covered;
}

/*
 * The last reference is gone. Context: any, hard interrupt too.
 * @iob: where what ended well can wait for others, or NULL
 * Return: true when the request has not ended, and is the server's.
 */
bool ublk_bpf_finish(struct ublk_bpf_tag *tag, struct io_comp_batch *iob)
{
	const unsigned long usual = BIT(UBLK_BPF_IO_F_OWNED) | BIT(UBLK_BPF_IO_F_RANGES) |
				    BIT(UBLK_BPF_IO_F_AWAY);	/* all that was forwarded is back */
	unsigned long flags = READ_ONCE(tag->io.flags);
	/* what a hold ends may be ended by the server's task, too */
	bool server = flags & (BIT(UBLK_BPF_IO_F_SERVER) | BIT(UBLK_BPF_IO_F_HELD));
	struct ublk_bpf_dev *dev = tag->q->dev;
	struct request *rq = tag->rq;
	bool again = false;
	s64 res = tag->err;

	if (unlikely(READ_ONCE(dev->has_release)))
		ublk_bpf_ask_release(tag);
	if (likely(flags == usual && !res && !READ_ONCE(tag->done_server))) {
		WRITE_ONCE(tag->io.flags, 0);
		ublk_bpf_end_request(rq, BLK_STS_OK, tag->bytes, false, iob);
		return false;
	}
	/* in the server's task it is the server's, until that knows better */
	WRITE_ONCE(tag->io.flags, flags & BIT(UBLK_BPF_IO_F_SERVER) ? BIT(UBLK_BPF_IO_F_SERVED) : 0);

	if (unlikely(READ_ONCE(tag->done_server)) && !res) {
		again = ublk_bpf_send_to_server(tag);
		if (!again)
			res = -EIO;
	} else if (flags & BIT(UBLK_BPF_IO_F_REDIRECT)) {
		if (!res && !tag->taken)
			return true;
		res = res ?: tag->taken;
	} else if (!res) {
		bool completed = flags & BIT(UBLK_BPF_IO_F_COMPLETED);

		if (unlikely(flags & BIT(UBLK_BPF_IO_F_HELD))) {
			res = ublk_bpf_held_result(tag, flags, &again);
			completed = tag->hold_end == UBLK_BPF_HOLD_COMPLETED;
		} else if (unlikely(flags & BIT(UBLK_BPF_IO_F_CUT))) {
			res = tag->taken;
			again = !res;
			if (again)
				ublk_bpf_keep_rerun(tag);
		} else {
			res = completed ? ublk_bpf_completed_bytes(tag) : tag->bytes;
		}
		if (completed && res >= 0) {
			ublk_bpf_count(dev, done, 1);
			ublk_bpf_count(dev, done_bytes, res);
			trace_ublk_bpf_done(dev->dev_id, rq, res);
		}
	}

	if (res >= 0 && res < tag->bytes && !again)
		ublk_bpf_forget_held(tag);

	/* from here on the tag may serve another I/O */
	if (again) {
		/* a task that does not wait for memory is asked again when time has passed */
		bool later = flags & BIT(UBLK_BPF_IO_F_CUT);
		struct request_queue *q = rq->q;

		blk_mq_requeue_request(rq, !later);
		if (unlikely(later))
			blk_mq_delay_kick_requeue_list(q, UBLK_BPF_CUT_DELAY);
		return false;
	}
	if (res == -EAGAIN)
		res = -EIO;	/* io_uring would issue it again, and for ever */
	if (res < 0)
		ublk_bpf_fail_rq(dev, rq, res, server);
	else
		ublk_bpf_end_request(rq, BLK_STS_OK, res, server, iob);
	return false;
}

/* A range or bio is back, a hold has ended. Context: any. */
void ublk_bpf_put_io(struct ublk_bpf_tag *tag)
{
	if (!refcount_dec_and_test(&tag->io.ref) || !ublk_bpf_finish(tag, NULL))
		return;
	/* redirected, and a hold was let go later than that: asked again */
	if (ublk_bpf_was_late(tag)) {
		ublk_bpf_eject(tag->q->dev, tag);
		ublk_bpf_fail_rq(tag->q->dev, tag->rq, -ETIMEDOUT, true);
		return;
	}
	ublk_bpf_keep_held(tag);
	blk_mq_requeue_request(tag->rq, true);
}

/*
 * One answer of the program. Return: true to ask again for the rest. What is
 * wrong with the answer becomes the I/O's error, once what was taken is back.
 */
static bool ublk_bpf_answered(struct ublk_bpf_tag *tag, unsigned long ret)
{
	unsigned long bytes = ublk_bpf_get_return_bytes(ret);
	u32 left = tag->bytes - tag->taken;
	int err;

	/* the whole I/O is done, whatever it says */
	if (test_bit(UBLK_BPF_IO_F_COMPLETED, &tag->io.flags)) {
		if (ublk_bpf_get_disposition(ret) == UBLK_BPF_IO_REDIRECT)
			ublk_bpf_misused(tag, "redirected an I/O that it had completed");
		tag->taken = tag->bytes;
		return false;
	}

	switch (ublk_bpf_get_disposition(ret)) {
	case UBLK_BPF_IO_QUEUED:
		tag->taken = tag->bytes;
		return false;
	case UBLK_BPF_IO_REDIRECT:
		__set_bit(UBLK_BPF_IO_F_REDIRECT, &tag->io.flags);
		ublk_bpf_drop_ranges(tag);
		return false;
	case UBLK_BPF_IO_CONTINUE:
		if (!bytes || bytes & (SECTOR_SIZE - 1)) {
			err = -EREMOTEIO;
		} else if (bytes > left) {
			err = -ENOSPC;
		} else {
			tag->taken += bytes;
			return tag->taken < tag->bytes;
		}
		ublk_bpf_misused(tag, "said CONTINUE with a wrong number of bytes");
		break;
	default:
		err = -EINVAL;
		ublk_bpf_misused(tag, "returned an unknown disposition");
	}
	ublk_bpf_drop_ranges(tag);
	ublk_bpf_fail_range(tag, err);
	return false;
}

/* Will anybody finish what was taken? Judged before the submission reference goes. */
static bool ublk_bpf_unfinished(const struct ublk_bpf_tag *tag)
{
	if (tag->io.flags & (BIT(UBLK_BPF_IO_F_COMPLETED) | BIT(UBLK_BPF_IO_F_HELD)))
		return false;
	if (!tag->taken && test_bit(UBLK_BPF_IO_F_REDIRECT, &tag->io.flags))
		return false;
	return tag->rec.covered < tag->taken || !test_bit(UBLK_BPF_IO_F_RANGES, &tag->io.flags);
}

/*
 * The callbacks of an I/O that is held have run. What went wrong or to the server
 * ends the hold, unless that has ended already. @gone: it is redirected because
 * its program went. Return: the references to drop.
 */
static unsigned int ublk_bpf_run_held(struct ublk_bpf_tag *tag, bool gone)
{
	bool redirect = test_bit(UBLK_BPF_IO_F_REDIRECT, &tag->io.flags), cut;

	if (!redirect && !READ_ONCE(tag->err))
		return 1;
	cut = ublk_bpf_cut_hold(tag, tag->rq);
	if (redirect && (tag->hold_end == UBLK_BPF_HOLD_COMPLETED || tag->held_ranges)) {
		__clear_bit(UBLK_BPF_IO_F_REDIRECT, &tag->io.flags);
		if (!gone)
			ublk_bpf_misused(tag, "redirected an I/O that it had completed");
		/* what it had forwarded otherwise was dropped */
		if (tag->held_ranges)
			ublk_bpf_fail_range(tag, -EIO);
	} else if (redirect) {
		/* what the hold was to do nobody has done */
		tag->taken = min(tag->taken, tag->sent);
		/* nor a second leg of what was: the server does all of it, when that is back */
		if (tag->held_lost && tag->taken && tag->rerun)
			ublk_bpf_fail_range(tag, -EIO);
		else if (tag->held_lost && tag->taken)
			WRITE_ONCE(tag->done_server, true);
	}
	return cut ? 2 : 1;
}

/* What an I/O of a list has forwarded is sent: may it end with the others? */
static bool ublk_bpf_keep_sent(struct ublk_bpf_batch *batch, struct ublk_bpf_tag *tag)
{
	if (!batch->keep ||
	    tag->io.flags & (BIT(UBLK_BPF_IO_F_REDIRECT) | BIT(UBLK_BPF_IO_F_HELD)))
		return false;
	*batch->sent_end = tag;
	batch->sent_end = &tag->next_sent;
	return true;
}

/*
 * Ask the program about an I/O until all of it is taken or redirected.
 *
 * Context: task, may sleep. @server: in the server's task. @rerun: since the server
 * has said -EAGAIN.
 * Return: UBLK_BPF_ASKED when the I/O is ours or has ended, UBLK_BPF_SERVER to
 * hand it over, UBLK_BPF_GONE when it has to fail and was not asked about.
 */
static enum ublk_bpf_answer ublk_bpf_run(struct ublk_bpf_tag *tag, struct request *rq,
					 bool daemon, bool server, bool rerun)
{
	struct ublk_bpf_batch *batch = READ_ONCE(tag->batch);
	struct ublk_bpf_dev *dev = tag->q->dev;
	enum ublk_bpf_answer answer;
	bool more, gone = false;
	unsigned int refs = 2;

	if (batch)
		ublk_bpf_sync_batch(batch);
	ublk_bpf_start_io(tag, rq, server);
	tag->rerun = rerun || ublk_bpf_was_rerun(tag);
	if (unlikely(tag->rerun || READ_ONCE(dev->has_done)))
		ublk_bpf_make_pdu(tag);
	do {
		tag->asking = true;
		answer = daemon ? ublk_bpf_ask_daemon(tag) : ublk_bpf_ask(tag);
		tag->asking = false;
		if (unlikely(answer != UBLK_BPF_ASKED)) {
			WRITE_ONCE(tag->batch, NULL);
			if (!tag->taken) {	/* nobody has seen it */
				WRITE_ONCE(tag->io.flags, server ? BIT(UBLK_BPF_IO_F_SERVED) : 0);
				/* else queue_io_cmd_daemon comes next, in the server's task */
				if (server || answer == UBLK_BPF_GONE)
					ublk_bpf_forget_held(tag);
				return answer;
			}
			gone = true;
			/* the program went away in the middle of it */
			if (answer == UBLK_BPF_GONE)
				ublk_bpf_fail_range(tag, -EOPNOTSUPP);
			else
				__set_bit(UBLK_BPF_IO_F_REDIRECT, &tag->io.flags);
			break;
		}
		more = ublk_bpf_answered(tag, tag->answer);
		if (!tag->rec.nr)
			continue;
		if (batch)
			ublk_bpf_submit_in_batch(tag, batch);
		else
			ublk_bpf_submit_ranges(tag);
	} while (more && !test_bit(UBLK_BPF_IO_F_CUT, &tag->io.flags));
	WRITE_ONCE(tag->batch, NULL);

	if (unlikely(!tag->err && ublk_bpf_unfinished(tag))) {
		ublk_bpf_count(dev, unfinished, 1);
		ublk_bpf_misused(tag, "took an I/O and never finished it");
		ublk_bpf_fail_range(tag, -EIO);
	}
	if (unlikely(test_bit(UBLK_BPF_IO_F_HELD, &tag->io.flags)))
		refs = ublk_bpf_run_held(tag, gone);

	/* the tag may be another I/O's after this */
	if (tag->io.flags & (BIT(UBLK_BPF_IO_F_RANGES) | BIT(UBLK_BPF_IO_F_HELD))) {
		if (!test_bit(UBLK_BPF_IO_F_REDIRECT, &tag->io.flags) || tag->taken)
			WRITE_ONCE(tag->io.flags, tag->io.flags | BIT(UBLK_BPF_IO_F_AWAY));
		if (batch && ublk_bpf_keep_sent(batch, tag))
			return UBLK_BPF_ASKED;
		if (!refcount_sub_and_test(refs, &tag->io.ref))
			return UBLK_BPF_ASKED;
	} else {
		refcount_set(&tag->io.ref, 0);
	}
	if (!ublk_bpf_finish(tag, batch ? &batch->iob : NULL))
		return UBLK_BPF_ASKED;
	/* the caller fails what is redirected by a rerun; this was one, and comes again */
	if (unlikely(tag->rerun && !rerun)) {
		ublk_bpf_fail_rq(dev, rq, -EIO, server);
		return UBLK_BPF_ASKED;
	}
	ublk_bpf_forget_held(tag);
	return UBLK_BPF_SERVER;
}

/* See ublk_bpf_queue_rq(). */
bool ublk_bpf_do_queue_rq(struct ublk_bpf_queue *q, struct request *rq)
{
	struct ublk_bpf_tag *tag = &q->tags[rq->tag];
	enum ublk_bpf_answer answer = UBLK_BPF_SERVER;

	if (!ublk_bpf_goes_to_server(tag, rq))
		answer = ublk_bpf_run(tag, rq, false, false, false);
	else
		WRITE_ONCE(tag->batch, NULL);
	switch (answer) {
	case UBLK_BPF_ASKED:
		return true;
	case UBLK_BPF_GONE:
		ublk_bpf_fail_rq(q->dev, rq, -EOPNOTSUPP, false);
		return true;
	default:
		if (likely(!smp_load_acquire(q->canceling))) {
			WRITE_ONCE(tag->io.flags, BIT(UBLK_BPF_IO_F_SERVED));
			ublk_bpf_note_served(tag);
			return false;
		}
		ublk_bpf_wait_for_server(tag, rq);
		return true;
	}
}

/* See ublk_bpf_dispatch_rq(). */
bool ublk_bpf_do_dispatch_rq(struct ublk_bpf_queue *q, struct request *rq)
{
	struct ublk_bpf_tag *tag = &q->tags[rq->tag];
	enum ublk_bpf_answer answer = UBLK_BPF_SERVER;

	if (!ublk_bpf_goes_to_server(tag, rq))
		answer = ublk_bpf_run(tag, rq, true, true, false);
	switch (answer) {
	case UBLK_BPF_ASKED:
		return true;
	case UBLK_BPF_GONE:
		ublk_bpf_fail_rq(q->dev, rq, -EOPNOTSUPP, true);
		return true;
	default:
		WRITE_ONCE(tag->io.flags, BIT(UBLK_BPF_IO_F_SERVED));
		ublk_bpf_count(q->dev, redirected, 1);
		trace_ublk_bpf_redirect(q->dev->dev_id, rq, 0);
		return false;
	}
}

/*
 * See ublk_bpf_complete_rq(). In place: a requeue could give the I/O another
 * tag, and a program may know it by that. No second redirect: -EIO.
 */
bool ublk_bpf_do_complete_rq(struct request *rq, int *res)
{
	struct ublk_bpf_dev *dev = ublk_bpf_queue_dev(rq->q);
	struct ublk_bpf_tag *tag;

	if (!dev)
		return false;	/* a stock device's -EAGAIN is the driver's business */

	tag = &dev->queues[rq->mq_hctx->queue_num].tags[rq->tag];
	tag->rq = rq;
	if (rq->rq_flags & RQF_DONTPREP)
		ublk_bpf_rq_pdu(tag)->to_server = false;
	ublk_bpf_count(dev, rerun, 1);
	trace_ublk_bpf_rerun(dev->dev_id, rq, 0);
	switch (ublk_bpf_run(tag, rq, !ublk_bpf_has_queue_io_cmd(dev), true, true)) {
	case UBLK_BPF_ASKED:
		return true;
	case UBLK_BPF_GONE:
		*res = -EOPNOTSUPP;
		break;
	default:
		*res = -EIO;
	}
	ublk_bpf_count_failed(dev, rq, *res);
	return false;
}

/*
 * See ublk_bpf_is_away(). With the server is what was handed to it, or what its own task
 * asks a program about. Not what queue_rq does: who cancels has marked the queues and
 * waited for the queue_rq that had not seen it, and a later one keeps from the server
 * what is redirected. Nor what has been completed and ends with others. Context: any.
 */
bool ublk_bpf_do_is_away(const struct ublk_bpf_queue *q, unsigned int tag)
{
	unsigned long flags;

	if (READ_ONCE(q->dev->alone))
		return true;
	/* a requeue with a scheduler takes the tag away */
	if (tag >= q->dev->depth)
		return false;
	flags = READ_ONCE(q->tags[tag].io.flags);
	return flags & BIT(UBLK_BPF_IO_F_AWAY) ||
	       !(flags & (BIT(UBLK_BPF_IO_F_SERVED) | BIT(UBLK_BPF_IO_F_SERVER)));
}

/*
 * The block layer keeps the request from being another meanwhile; a timer that is
 * set again after its end does no harm.
 */
static bool ublk_bpf_owns_late(struct ublk_bpf_queue *q, struct request *rq)
{
	int nr = READ_ONCE(rq->tag);	/* a requeue with a scheduler takes it away */
	struct ublk_bpf_tag *tag;

	if (nr < 0)
		return false;
	tag = &q->tags[nr];
	if (!test_bit(UBLK_BPF_IO_F_OWNED, &tag->io.flags) || READ_ONCE(tag->rq) != rq)
		return false;
	if (smp_load_acquire(&tag->hold) && ublk_bpf_held_too_long(tag) &&
	    ublk_bpf_cut_hold(tag, rq)) {
		ublk_bpf_eject(q->dev, tag);
		ublk_bpf_fail_range(tag, -ETIMEDOUT);
		ublk_bpf_put_io(tag);
	}
	return true;
}

/* See ublk_bpf_timeout(). A server that is gone has nothing that could be late. */
bool ublk_bpf_do_timeout(struct ublk_bpf_queue *q, struct request *rq)
{
	return ublk_bpf_owns_late(q, rq) || READ_ONCE(*q->canceling);
}
