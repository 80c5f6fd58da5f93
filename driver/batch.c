// SPDX-License-Identifier: GPL-2.0
/*
 * The batch of a list that queue_rqs is handed: what is forwarded goes out together, and
 * what has ended ends together.
 */
#include <linux/blk-mq.h>
#include "internal.h"

/*
 * End what is done of a list, and let go of what is kept for the rest. Context: the task
 * of the list, or an interrupt when that sleeps.
 */
void ublk_bpf_let_go(struct ublk_bpf_batch *batch)
{
	struct ublk_bpf_tag *tag, *next, *ended = NULL, **end = &ended;
	struct io_comp_batch iob = batch->iob;

	batch->iob = (struct io_comp_batch){};
	if (batch->refs)
		percpu_ref_put_many(&batch->backing->ref, batch->refs);
	batch->refs = 0;

	*batch->sent_end = NULL;
	batch->sent_end = &batch->sent;
	for (tag = batch->sent; tag; tag = next) {
		next = tag->next_sent;
		if (!refcount_sub_and_test(2, &tag->io.ref))
			continue;
		*end = tag;
		end = &tag->next_sent;
	}
	*end = NULL;

	/* the end of an I/O may sleep, and come here again: the batch is not looked at any more */
	for (tag = ended; tag; tag = next) {
		next = tag->next_sent;
		ublk_bpf_finish(tag, &iob);
	}
	if (iob.complete)
		iob.complete(&iob);
}

static void ublk_bpf_batch_sleeps(struct irq_work *work)
{
	ublk_bpf_let_go(container_of(work, struct ublk_bpf_batch, sleeps));
}

/* From schedule(), where who ends I/O would take it that it may sleep: by an interrupt. */
void ublk_bpf_batch_cb(struct blk_plug_cb *cb, bool from_schedule)
{
	struct ublk_bpf_batch *batch = container_of(cb, struct ublk_bpf_batch, cb);

	batch->armed = false;
	if (!from_schedule)
		return;
	batch->slept = true;
	irq_work_queue(&batch->sleeps);
}

/*
 * A list of requests of @q, of which @nr_ios may go to one backing, is asked about.
 * Context: task, may sleep.
 */
void ublk_bpf_start_batch(struct ublk_bpf_batch *batch, const struct request_queue *q,
			  unsigned short nr_ios)
{
	batch->cb.callback = ublk_bpf_batch_cb;
	batch->cb.data = batch;
	init_irq_work(&batch->sleeps, ublk_bpf_batch_sleeps);
	batch->armed = false;
	batch->slept = false;
	batch->here = ublk_bpf_may_send_here(current->plug, q);
	batch->keep = true;
	batch->refs = 0;
	batch->sent_end = &batch->sent;
	batch->iob = (struct io_comp_batch){};
	ublk_bpf_start_plug(&batch->plug);
	batch->plug.plug.nr_ios = nr_ios;
}

/*
 * What is forwarded goes out. Of that, what comes back at once has waited for the run's
 * references, so that it ends together. While things end the task has no plug: its own is
 * being flushed.
 */
void ublk_bpf_finish_batch(struct ublk_bpf_batch *batch)
{
	ublk_bpf_sync_batch(batch);
	if (!batch->keep)
		ublk_bpf_let_go(batch);
	blk_finish_plug(&batch->plug.plug);
	ublk_bpf_sync_batch(batch);
	ublk_bpf_let_go(batch);
	ublk_bpf_restore_plug(&batch->plug);
}
