// SPDX-License-Identifier: GPL-2.0
/*
 * Forwarding to regular files: direct I/O on the request's own pages, from the
 * submitter's context where that is safe and does not wait, else by a worker. A file
 * that is buffered is written by a worker, and read inline what is in its page cache.
 */
#include <linux/blk-mq.h>
#include <linux/bvec.h>
#include <linux/cred.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include "internal.h"

/*
 * Does this task hold anything that the lower file system could trip over, or
 * would its limits be taken for the device's?
 */
bool ublk_bpf_file_inline_ok(const struct ublk_bpf_tag *tag,
			     const struct ublk_bpf_backing *backing)
{
	const struct request *rq = tag->rq;

	if (!(backing->io_file->f_mode & FMODE_NOWAIT))
		return false;
	/* a journal of another file system; reclaim; a file system's locks */
	if (current->journal_info ||
	    current->flags & (PF_MEMALLOC | PF_MEMALLOC_NOFS | PF_KTHREAD | PF_EXITING))
		return false;
	/* metadata is read under locks of the same class as those below */
	if (rq->cmd_flags & (REQ_META | REQ_PREFLUSH))
		return false;
	switch (req_op(rq)) {
	case REQ_OP_READ:
		return true;
	case REQ_OP_WRITE:
		/* else a SIGXFSZ for a write to a device */
		return !backing->buffered && rlimit(RLIMIT_FSIZE) == RLIM_INFINITY;
	default:
		return false;
	}
}

/* The bio that holds byte @off of the request; *@skip is how far into it. */
struct bio *ublk_bpf_bio_at(const struct request *rq, u32 off, u32 *skip)
{
	struct bio *bio = rq->bio;

	while (off >= bio->bi_iter.bi_size) {
		off -= bio->bi_iter.bi_size;
		bio = bio->bi_next;
	}
	*skip = off;
	return bio;
}

/* One vector of all the request's bios, if there is memory for it; tests make it fail. */
static noinline bool ublk_bpf_file_join_bios(struct ublk_bpf_fwd *fwd)
{
	struct req_iterator iter;
	unsigned int nr = 0;
	struct bio_vec bv;

	if (fwd->bvec)
		return true;
	rq_for_each_bvec(bv, fwd->tag->rq, iter)
		nr++;
	fwd->bvec = kmalloc_array(nr, sizeof(bv), GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN);
	if (!fwd->bvec)
		return false;
	fwd->nr_bvec = 0;
	rq_for_each_bvec(bv, fwd->tag->rq, iter)
		fwd->bvec[fwd->nr_bvec++] = bv;
	return true;
}

/*
 * The rest of a range as an iterator: over the bio's own vector when it lies in one
 * bio, else over one made of all of them. Where there is no memory for that it ends
 * with the first bio, and what comes of it is a short read or write.
 */
static void ublk_bpf_file_iter(struct ublk_bpf_fwd *fwd, struct iov_iter *iter)
{
	const struct ublk_bpf_range *range = &fwd->range;
	const struct request *rq = fwd->tag->rq;
	unsigned int dir = req_op(rq) == REQ_OP_WRITE ? ITER_SOURCE : ITER_DEST;
	u32 off = range->off + fwd->done, left = range->bytes - fwd->done, skip;
	struct bio *bio = ublk_bpf_bio_at(rq, off, &skip);
	const struct bio_vec *bvec;
	size_t before, seen = 0;
	unsigned int nr = 0;

	if (bio->bi_iter.bi_size - skip < left) {
		if (ublk_bpf_file_join_bios(fwd)) {
			iov_iter_bvec(iter, dir, fwd->bvec, fwd->nr_bvec, (size_t)off + left);
			iov_iter_advance(iter, off);
			return;
		}
		left = bio->bi_iter.bi_size - skip;
	}
	bvec = __bvec_iter_bvec(bio->bi_io_vec, bio->bi_iter);
	before = ublk_bpf_bvec_done(&bio->bi_iter) + skip;
	/* bi_vcnt says nothing of a bio that is a clone itself */
	while (seen < before + left)
		seen += bvec[nr++].bv_len;
	iov_iter_bvec(iter, dir, bvec, nr, before + left);
	iov_iter_advance(iter, before);
}

/* Past the end of the file there are zeroes. Context: any. */
static void ublk_bpf_file_zero(struct ublk_bpf_fwd *fwd)
{
	u32 from = fwd->range.off + fwd->done, to = fwd->range.off + fwd->range.bytes;
	struct req_iterator iter;
	struct bio_vec bv;
	u32 at = 0;

	rq_for_each_segment(bv, fwd->tag->rq, iter) {
		u32 lo = max(at, from), hi = min(at + bv.bv_len, to);

		if (lo < hi) {
			struct bio_vec part = bv;

			part.bv_offset += lo - at;
			part.bv_len = hi - lo;
			memzero_bvec(&part);
		}
		at += bv.bv_len;
	}
}

/* What a file says that cannot do it without waiting; ext4 has both words. */
static bool ublk_bpf_would_wait(long ret)
{
	return ret == -EAGAIN || ret == -EOPNOTSUPP;
}

/*
 * What a read or write of the file said: an error, or bytes of the rest.
 * Context: any, hard interrupt too. The range ends, or goes on in a worker.
 */
static void ublk_bpf_file_done(struct ublk_bpf_fwd *fwd, long ret)
{
	struct ublk_bpf_backing *backing = fwd->range.backing;
	bool write = req_op(fwd->tag->rq) == REQ_OP_WRITE;

	if (ublk_bpf_would_wait(ret) && fwd->iocb.ki_flags & IOCB_NOWAIT)
		goto again;
	if (ret < 0) {
		ublk_bpf_end_fwd(fwd, ret);
		return;
	}

	fwd->done += ret;
	if (fwd->done == fwd->range.bytes) {
		ublk_bpf_end_fwd(fwd, 0);
		return;
	}
	if (write) {
		if (!ret) {
			ublk_bpf_end_fwd(fwd, -EIO);
			return;
		}
	} else if (!ret || (ret < fwd->asked && fwd->done & (backing->block - 1)) ||
		   fwd->range.pos + fwd->done >= i_size_read(file_inode(backing->file))) {
		ublk_bpf_file_zero(fwd);
		ublk_bpf_end_fwd(fwd, 0);
		return;
	}
again:
	queue_work(fwd->tag->q->dev->wq, &fwd->work);
}

/*
 * A file system looks at the iocb and its file after it was told that they are queued: the
 * range, which keeps both, ends when the call has returned, too. Context: any.
 */
static void ublk_bpf_file_put_iocb(struct ublk_bpf_fwd *fwd)
{
	if (refcount_dec_and_test(&fwd->iocb_refs))
		ublk_bpf_file_done(fwd, fwd->iocb_res);
}

static void ublk_bpf_file_complete(struct kiocb *iocb, long ret)
{
	struct ublk_bpf_fwd *fwd = container_of(iocb, struct ublk_bpf_fwd, iocb);

	if (iocb->ki_flags & IOCB_WRITE)
		kiocb_end_write(iocb);
	fwd->iocb_res = ret;
	ublk_bpf_file_put_iocb(fwd);
}

/*
 * Start the read or write of the rest of a range.
 * Return: what the file said, -EIOCBQUEUED when ublk_bpf_file_complete() tells; then
 * there is a reference to put.
 */
static long ublk_bpf_file_rw(struct ublk_bpf_fwd *fwd, bool nowait)
{
	struct file *file = fwd->range.backing->io_file;
	const struct request *rq = fwd->tag->rq;
	struct kiocb *iocb = &fwd->iocb;
	struct iov_iter iter;
	long ret;

	ublk_bpf_file_iter(fwd, &iter);
	fwd->asked = iov_iter_count(&iter);
	*iocb = (struct kiocb){
		.ki_filp	= file,
		.ki_pos		= fwd->range.pos + fwd->done,
		.ki_complete	= ublk_bpf_file_complete,
		.ki_flags	= nowait ? IOCB_NOWAIT : 0,
		.ki_ioprio	= req_get_ioprio(fwd->tag->rq),
	};
	refcount_set(&fwd->iocb_refs, 2);
	if (!fwd->range.backing->buffered)
		iocb->ki_flags |= IOCB_DIRECT;
	else if (nowait)
		iocb->ki_flags |= IOCB_NOIO;	/* read-ahead would wait */

	if (req_op(rq) == REQ_OP_READ) {
		ret = file->f_op->read_iter(iocb, &iter);
	} else {
		struct super_block *sb = file_inode(file)->i_sb;

		if (rq->cmd_flags & REQ_FUA)
			iocb->ki_flags |= IOCB_DSYNC;
		/* a frozen file system: wait for the thaw in the worker only */
		if (!nowait) {
			kiocb_start_write(iocb);
		} else {
			if (!sb_start_write_trylock(sb))
				return -EAGAIN;
			__sb_writers_release(sb, SB_FREEZE_WRITE);
		}
		iocb->ki_flags |= IOCB_WRITE;
		ret = file->f_op->write_iter(iocb, &iter);
		if (ret != -EIOCBQUEUED)
			kiocb_end_write(iocb);
	}
	return ret;
}

/* Zeroes for a file system that only writes them. Return: bytes, or a negative errno. */
static long ublk_bpf_file_write_zeroes(struct file *file, loff_t pos, u32 bytes)
{
	struct bio_vec zeroes[16];
	u32 left = bytes;

	for (unsigned int i = 0; i < ARRAY_SIZE(zeroes); i++)
		bvec_set_page(&zeroes[i], ZERO_PAGE(0), PAGE_SIZE, 0);
	while (left) {
		size_t count = min_t(size_t, left, ARRAY_SIZE(zeroes) * PAGE_SIZE);
		struct iov_iter iter;
		ssize_t ret;

		iov_iter_bvec(&iter, ITER_SOURCE, zeroes, DIV_ROUND_UP(count, PAGE_SIZE), count);
		ret = vfs_iter_write(file, &iter, &pos, 0);
		if (ret <= 0)
			return ret ?: -EIO;
		left -= ret;
	}
	return bytes;
}

/*
 * Discard or zero a range: a hole, unless its blocks are to be kept; where the file
 * system has no such thing the other one, or written zeroes.
 */
static long ublk_bpf_file_allocate(struct ublk_bpf_fwd *fwd)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	const struct ublk_bpf_range *range = &fwd->range;
	struct file *file = range->backing->io_file;
	const struct request *rq = fwd->tag->rq;
	bool keep = req_op(rq) == REQ_OP_WRITE_ZEROES && rq->cmd_flags & REQ_NOUNMAP;
	long ret;

	ret = vfs_fallocate(file, keep ? zero : punch, range->pos, range->bytes);
	if (req_op(rq) == REQ_OP_WRITE_ZEROES && ret == -EOPNOTSUPP) {
		if (!keep)
			ret = vfs_fallocate(file, zero, range->pos, range->bytes);
		if (ret == -EOPNOTSUPP)
			return ublk_bpf_file_write_zeroes(file, range->pos, range->bytes);
	}
	return ret ?: range->bytes;
}

static long ublk_bpf_file_start(struct ublk_bpf_fwd *fwd, bool nowait)
{
	struct file *file = fwd->range.backing->io_file;
	const struct request *rq = fwd->tag->rq;
	long ret;

	if (req_op(rq) == REQ_OP_FLUSH || rq->cmd_flags & REQ_PREFLUSH) {
		ret = vfs_fsync(file, 0);
		if (ret || req_op(rq) == REQ_OP_FLUSH)
			return ret;
	}
	if (req_op(rq) == REQ_OP_DISCARD || req_op(rq) == REQ_OP_WRITE_ZEROES)
		return ublk_bpf_file_allocate(fwd);
	return ublk_bpf_file_rw(fwd, nowait);
}

/**
 * ublk_bpf_file_submit - send the rest of a range to its file
 * @fwd:	the range
 * @nowait:	in the submitter's context: nothing may wait
 *
 * Context: task. The submitter's plug and list of bios are put away already: a file
 * system may wait for a bio of its own that would be parked there.
 * Return: true when the range is under way or has ended, false (@nowait only)
 * when a worker has to do it.
 */
bool ublk_bpf_file_submit(struct ublk_bpf_fwd *fwd, bool nowait)
{
	/* no file system that reads without waiting asks who reads what was opened */
	bool as_opener = !nowait || req_op(fwd->tag->rq) != REQ_OP_READ;
	unsigned int noio = memalloc_noio_save();
	unsigned int old_flags = current->flags;
	const struct cred *cred = NULL, *old_cred = NULL;
	long ret;

	if (as_opener) {
		/* the range may end in here, and its file with it */
		cred = get_cred(fwd->range.backing->io_file->f_cred);
		old_cred = override_creds(cred);
	}
	/* who cleans the pages of this device is not to be throttled by those of its file */
	if (!nowait)
		current->flags |= PF_LOCAL_THROTTLE;
	ret = ublk_bpf_file_start(fwd, nowait);
	current_restore_flags(old_flags, PF_LOCAL_THROTTLE);
	memalloc_noio_restore(noio);
	if (as_opener) {
		revert_creds(old_cred);
		put_cred(cred);
	}

	if (ret == -EIOCBQUEUED) {
		ublk_bpf_file_put_iocb(fwd);
		return true;
	}
	if (nowait && ublk_bpf_would_wait(ret))
		return false;
	/* no file system restarts a system call here */
	if (ret == -ERESTARTSYS || ret == -ERESTARTNOINTR || ret == -ERESTARTNOHAND ||
	    ret == -ERESTART_RESTARTBLOCK)
		ret = -EINTR;
	ublk_bpf_file_done(fwd, ret);
	return true;
}
