// SPDX-License-Identifier: GPL-2.0
/* What stays with a request when its I/O is asked about again: how it is written. */
#include <linux/jiffies.h>
#include "pdu.h"

/*
 * Zeroes at first. For what may be written at the end of an I/O it is made when its program is
 * asked, as a rule just after its start: later the block layer's time-out may change rq_flags at
 * the same time.
 */
struct ublk_bpf_pdu *ublk_bpf_make_pdu(const struct ublk_bpf_tag *tag)
{
	struct ublk_bpf_pdu *pdu = ublk_bpf_rq_pdu(tag);

	if (!(tag->rq->rq_flags & RQF_DONTPREP)) {
		*pdu = (struct ublk_bpf_pdu){};
		tag->rq->rq_flags |= RQF_DONTPREP;
	}
	return pdu;
}

/*
 * When it was first held stays with a request that its program is asked about
 * again; another program begins anew. Context: a queue callback.
 */
void ublk_bpf_note_held(struct ublk_bpf_tag *tag)
{
	const struct ublk_bpf_pdu *pdu = ublk_bpf_make_pdu(tag);

	tag->held_since = jiffies;
	if (pdu->attach_seq == tag->attach_seq &&
	    time_after(pdu->held_since, READ_ONCE(tag->q->dev->updated)))
		tag->held_since = pdu->held_since;
}

/* Before a request of which nothing was done goes back to its queue. */
void ublk_bpf_keep_rerun(const struct ublk_bpf_tag *tag)
{
	if (tag->rerun)
		ublk_bpf_make_pdu(tag)->rerun = true;
}

/* The same, and it was held. */
void ublk_bpf_keep_held(struct ublk_bpf_tag *tag)
{
	struct ublk_bpf_pdu *pdu = ublk_bpf_make_pdu(tag);

	pdu->held_since = tag->held_since;
	pdu->attach_seq = tag->attach_seq;
	ublk_bpf_keep_rerun(tag);
}

/* Of an I/O that is held. */
bool ublk_bpf_held_too_long(const struct ublk_bpf_tag *tag)
{
	unsigned long since = tag->held_since, updated = READ_ONCE(tag->q->dev->updated);

	/* the time of the program before is not this one's */
	if (time_after(updated, since))
		since = updated;
	return time_after_eq(jiffies, since + tag->rq->timeout);
}

/* The server gets it: if that dies, this I/O is not to be lost, however many wait. */
void ublk_bpf_note_served(const struct ublk_bpf_tag *tag)
{
	if (tag->q->dev->recover)
		ublk_bpf_make_pdu(tag)->served = true;
}

/*
 * All ranges are back, and io_done wants the server to have the I/O: by its queue, since
 * this can be any context. Return: false: too often.
 */
bool ublk_bpf_send_to_server(struct ublk_bpf_tag *tag)
{
	struct ublk_bpf_pdu *pdu = ublk_bpf_make_pdu(tag);

	if (pdu->server_bytes != tag->bytes)
		pdu->times = 0;
	if (pdu->times == UBLK_BPF_MAX_DONE_SERVER) {
		ublk_bpf_misused(tag, "sent an I/O to the server too often");
		return false;
	}
	ublk_bpf_forget_held(tag);
	pdu->times++;
	pdu->server_bytes = tag->bytes;
	pdu->to_server = true;
	return true;
}
