/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints ublk_bpf:*, one where each counter of struct ublk_bpf_stats counts:
 * perf record -e 'ublk_bpf:*', bpftrace -e 'tracepoint:ublk_bpf:ublk_bpf_fail { ... }'.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ublk_bpf

#if !defined(UBLK_BPF_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define UBLK_BPF_TRACE_H

#include <linux/blk-mq.h>
#include <linux/tracepoint.h>

#define UBLK_BPF_TRACE_OP(op)				\
	__print_symbolic(op,				\
		{ REQ_OP_READ,		"READ" },	\
		{ REQ_OP_WRITE,		"WRITE" },	\
		{ REQ_OP_FLUSH,		"FLUSH" },	\
		{ REQ_OP_DISCARD,	"DISCARD" },	\
		{ REQ_OP_WRITE_ZEROES,	"WRITE_ZEROES" })

/* What is told of every I/O. */
#define UBLK_BPF_TRACE_FIELDS		\
	__field(int,	dev_id)		\
	__field(u32,	queue)		\
	__field(int,	tag)		\
	__field(u32,	op)		\
	__field(u64,	sector)

#define UBLK_BPF_TRACE_ASSIGN					\
	__entry->dev_id	= dev_id;				\
	__entry->queue	= rq->mq_hctx->queue_num;		\
	__entry->tag	= rq->tag;				\
	__entry->op	= req_op(rq);				\
	__entry->sector	= blk_rq_pos(rq)

/* And one number of their own. */
DECLARE_EVENT_CLASS(ublk_bpf_io,
	TP_PROTO(int dev_id, const struct request *rq, int res),
	TP_ARGS(dev_id, rq, res),
	TP_STRUCT__entry(
		UBLK_BPF_TRACE_FIELDS
		__field(u32,	bytes)
		__field(int,	res)
	),
	TP_fast_assign(
		UBLK_BPF_TRACE_ASSIGN;
		__entry->bytes	= blk_rq_bytes(rq);
		__entry->res	= res;
	),
	TP_printk("dev %d queue %u tag %d %s sector %llu bytes %u res %d",
		  __entry->dev_id, __entry->queue, __entry->tag, UBLK_BPF_TRACE_OP(__entry->op),
		  __entry->sector, __entry->bytes, __entry->res)
);

/* Completed by its program: res bytes. */
DEFINE_EVENT(ublk_bpf_io, ublk_bpf_done,
	TP_PROTO(int dev_id, const struct request *rq, int res), TP_ARGS(dev_id, rq, res));

/* Fails: res is a negative errno. */
DEFINE_EVENT(ublk_bpf_io, ublk_bpf_fail,
	TP_PROTO(int dev_id, const struct request *rq, int res), TP_ARGS(dev_id, rq, res));

/* Given to the server, of a device with a program. */
DEFINE_EVENT(ublk_bpf_io, ublk_bpf_redirect,
	TP_PROTO(int dev_id, const struct request *rq, int res), TP_ARGS(dev_id, rq, res));

/* The server has said -EAGAIN: its program is asked again. */
DEFINE_EVENT(ublk_bpf_io, ublk_bpf_rerun,
	TP_PROTO(int dev_id, const struct request *rq, int res), TP_ARGS(dev_id, rq, res));

/* Held by its program. */
DEFINE_EVENT(ublk_bpf_io, ublk_bpf_hold,
	TP_PROTO(int dev_id, const struct request *rq, int res), TP_ARGS(dev_id, rq, res));

/* A range of it goes to the backing of a slot, from its submitter's task or a worker. */
TRACE_EVENT(ublk_bpf_forward,
	TP_PROTO(int dev_id, const struct request *rq, u32 off, u32 bytes, u32 slot, u64 pos,
		 bool worker),
	TP_ARGS(dev_id, rq, off, bytes, slot, pos, worker),
	TP_STRUCT__entry(
		UBLK_BPF_TRACE_FIELDS
		__field(u32,	off)
		__field(u32,	bytes)
		__field(u32,	slot)
		__field(u64,	pos)
		__field(bool,	worker)
	),
	TP_fast_assign(
		UBLK_BPF_TRACE_ASSIGN;
		__entry->off	= off;
		__entry->bytes	= bytes;
		__entry->slot	= slot;
		__entry->pos	= pos;
		__entry->worker	= worker;
	),
	TP_printk("dev %d queue %u tag %d %s sector %llu off %u bytes %u slot %u pos %llu %s",
		  __entry->dev_id, __entry->queue, __entry->tag, UBLK_BPF_TRACE_OP(__entry->op),
		  __entry->sector, __entry->off, __entry->bytes, __entry->slot, __entry->pos,
		  __entry->worker ? "worker" : "inline")
);

/* A program did what it must not. */
TRACE_EVENT(ublk_bpf_misuse,
	TP_PROTO(int dev_id, u32 prog_id, const char *what),
	TP_ARGS(dev_id, prog_id, what),
	TP_STRUCT__entry(
		__field(int,	dev_id)
		__field(u32,	prog_id)
		__string(what,	what)
	),
	TP_fast_assign(
		__entry->dev_id	= dev_id;
		__entry->prog_id = prog_id;
		__assign_str(what);
	),
	TP_printk("dev %d program %u %s", __entry->dev_id, __entry->prog_id, __get_str(what))
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
