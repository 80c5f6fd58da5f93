/* SPDX-License-Identifier: GPL-2.0 */
/* What stays with a request when its I/O is asked about again. */
#ifndef UBLK_BPF_PDU_H
#define UBLK_BPF_PDU_H

#include "internal.h"

/* By another tag perhaps. Behind the driver's own; valid with RQF_DONTPREP. */
struct ublk_bpf_pdu {
	u64		attach_seq;	/* of who held it, 0: nobody */
	unsigned long	held_since;	/* jiffies */
	bool		rerun;		/* asked after the server's -EAGAIN, and nothing was done */
	bool		served;		/* the server has had it */
	bool		to_server;	/* it goes there, and its program is not asked, */
	u8		times;		/* sent by io_done so often, */
	u32		server_bytes;	/* as long as it is of so many */
};

static inline struct ublk_bpf_pdu *ublk_bpf_rq_pdu(const struct ublk_bpf_tag *tag)
{
	return blk_mq_rq_to_pdu(tag->rq) + tag->q->dev->pdu;
}

static inline bool ublk_bpf_has_pdu(const struct ublk_bpf_tag *tag)
{
	return unlikely(tag->rq->rq_flags & RQF_DONTPREP);
}

/* Something was done of it, or it is the server's now: that is no holding. */
static inline void ublk_bpf_forget_held(const struct ublk_bpf_tag *tag)
{
	if (ublk_bpf_has_pdu(tag)) {
		ublk_bpf_rq_pdu(tag)->attach_seq = 0;
		ublk_bpf_rq_pdu(tag)->rerun = false;
	}
}

/* The server has had it, and it comes again: that one has died. */
static inline bool ublk_bpf_was_served(const struct ublk_bpf_tag *tag)
{
	return ublk_bpf_has_pdu(tag) && ublk_bpf_rq_pdu(tag)->served;
}

/* Was nothing done of it when it was asked about after the server's -EAGAIN? */
static inline bool ublk_bpf_was_rerun(const struct ublk_bpf_tag *tag)
{
	return ublk_bpf_has_pdu(tag) && ublk_bpf_rq_pdu(tag)->rerun;
}

/* Does it go to the server now? It may come back without having been there. */
static inline bool ublk_bpf_goes_to_server(struct ublk_bpf_tag *tag, struct request *rq)
{
	tag->rq = rq;
	return ublk_bpf_has_pdu(tag) && ublk_bpf_rq_pdu(tag)->to_server &&
	       ublk_bpf_rq_pdu(tag)->server_bytes == blk_rq_bytes(rq);
}

struct ublk_bpf_pdu *ublk_bpf_make_pdu(const struct ublk_bpf_tag *tag);
void ublk_bpf_note_held(struct ublk_bpf_tag *tag);
void ublk_bpf_keep_rerun(const struct ublk_bpf_tag *tag);
void ublk_bpf_keep_held(struct ublk_bpf_tag *tag);
bool ublk_bpf_held_too_long(const struct ublk_bpf_tag *tag);
void ublk_bpf_note_served(const struct ublk_bpf_tag *tag);
bool ublk_bpf_send_to_server(struct ublk_bpf_tag *tag);

#endif
