// SPDX-License-Identifier: GPL-2.0
/* I/O that needs a server when there is none: it waits for the next one. */
#include <linux/blk-mq.h>
#include "pdu.h"

/*
 * A request is for the server, which is gone. It waits for the next one, and so does
 * its tag. Where a program goes on with the others at most half of a queue's tags do,
 * or the only one; what the last server had is not to be lost for that.
 */
void ublk_bpf_wait_for_server(struct ublk_bpf_tag *tag, struct request *rq)
{
	struct ublk_bpf_queue *q = tag->q;
	struct ublk_bpf_dev *dev = q->dev;
	unsigned int depth = min_t(unsigned int, dev->depth, rq->q->nr_requests);
	unsigned int most = ublk_bpf_has_queue_io_cmd(dev) ? max(depth / 2, 1U) : depth;
	bool is_back, waits = false;

	if (ublk_bpf_was_served(tag))
		most = UINT_MAX;

	spin_lock(&q->wait_lock);
	is_back = !READ_ONCE(*q->canceling);
	if (!is_back && dev->wait_alone && !ublk_bpf_is_stopping(dev) && q->nr_waiting < most) {
		q->nr_waiting++;
		tag->rq = rq;
		WRITE_ONCE(tag->io.flags, BIT(UBLK_BPF_IO_F_OWNED) | BIT(UBLK_BPF_IO_F_AWAY) |
					  BIT(UBLK_BPF_IO_F_WAITS));
		waits = true;
	}
	spin_unlock(&q->wait_lock);

	if (is_back)
		blk_mq_requeue_request(rq, true);
	else if (!waits)
		ublk_bpf_fail_rq(dev, rq, -EIO, false);
}

/* Take the requests of a queue that wait for a server. */
static void ublk_bpf_take_waiting(struct ublk_bpf_queue *q, struct list_head *list)
{
	spin_lock(&q->wait_lock);
	for (unsigned int i = 0; q->nr_waiting && i < q->dev->depth; i++) {
		struct ublk_bpf_tag *tag = &q->tags[i];

		if (!test_bit(UBLK_BPF_IO_F_WAITS, &tag->io.flags))
			continue;
		q->nr_waiting--;
		WRITE_ONCE(tag->io.flags, 0);
		list_add_tail(&tag->rq->queuelist, list);
	}
	spin_unlock(&q->wait_lock);
}

/*
 * What waits for a server fails with @err, or goes back to the requeue list, which
 * the caller kicks. Who comes later sees that a server is back, or that the device
 * stops. Context: task.
 */
void ublk_bpf_end_wait(struct ublk_bpf_dev *dev, int err)
{
	struct request *rq, *next;
	LIST_HEAD(list);

	for (unsigned int i = 0; i < dev->nr_queues; i++)
		ublk_bpf_take_waiting(&dev->queues[i], &list);

	list_for_each_entry_safe(rq, next, &list, queuelist) {
		list_del_init(&rq->queuelist);
		if (err)
			ublk_bpf_fail_rq(dev, rq, err, false);
		else
			blk_mq_requeue_request(rq, false);
	}
}
