// SPDX-License-Identifier: GPL-2.0
//
// Where the kernel's ublk_drv.c calls into our files. One semantic patch for
// all supported kernels: a rule that has no place in one of them says so in
// hooks.expect, and driver/hook checks that every other one matched.
//
// Each hook is one line and a call declared in bpf.h; its first argument names
// the site, so that the tests can tell which hooks were gone through.

@include@
symbol ub, ubq, this_q, rq, req, io, bd, hctx, disk, argp, ret, header, ublk_idr_wq, ublk_misc, ublk_chr_devt, true, false;
@@
 #include <uapi/linux/ublk_cmd.h>
+#include "bpf.h"

@queue_field@
@@
 struct ublk_queue {
 	...
 	struct ublk_device *dev;
+	struct ublk_bpf_queue *bpf;
 	...
 };

@device_field@
@@
 struct ublk_device {
 	struct gendisk *ub_disk;
+	struct ublk_bpf_dev *bpf;
 	...
 };

// A device is made: the tag set is the last that is known of its shape.
@alloc_tag_set@
symbol UBLK_BPF_SITE_ALLOC_TAG_SET;
@@
 ublk_add_tag_set(...) {
 	...
-	return blk_mq_alloc_tag_set(&ub->tag_set);
+	return ublk_bpf_alloc_tag_set(UBLK_BPF_SITE_ALLOC_TAG_SET, &ub->tag_set, &ub->dev_info, &ub->bpf);
 }

@free_dev@
symbol UBLK_BPF_SITE_FREE_DEV;
identifier f != ublk_add_tag_set;
@@
 f(...) {
 	<+...
 	blk_mq_free_tag_set(&ub->tag_set);
+	ublk_bpf_free_dev(UBLK_BPF_SITE_FREE_DEV, ub->bpf);
 	...+>
 }

@add_dev_flags@
@@
 ublk_ctrl_add_dev(...) {
 	<...
-	ub->dev_info.flags &= UBLK_F_ALL;
+	ub->dev_info.flags &= UBLK_F_ALL | ublk_bpf_flags(ub->dev_info.flags);
 	...>
 }

@features@
symbol UBLK_BPF_SITE_FEATURES;
identifier features;
@@
 ublk_ctrl_get_features(...) {
 	<...
+	features |= ublk_bpf_features(UBLK_BPF_SITE_FEATURES);
 	if (copy_to_user(argp, &features, UBLK_FEATURES_LEN))
 		return -EFAULT;
 	...>
 }

@stack_limits@
symbol UBLK_BPF_SITE_STACK_LIMITS, lim;
@@
 ublk_ctrl_start_dev(...) {
 	... when any
+	ublk_bpf_stack_limits(UBLK_BPF_SITE_STACK_LIMITS, ub->bpf, &lim);
 	disk = blk_mq_alloc_disk(&ub->tag_set, &lim, NULL);
 	... when any
 }

@init_hctx@
symbol UBLK_BPF_SITE_INIT_HCTX;
@@
 ublk_init_hctx(...) {
 	...
 	hctx->driver_data = ubq;
+	ubq->bpf = ublk_bpf_init_hctx(UBLK_BPF_SITE_INIT_HCTX, ub->bpf, hctx, &ubq->canceling);
 	...
 }

// An I/O is submitted, one at a time...
@queue_rq@
symbol UBLK_BPF_SITE_QUEUE_RQ;
@@
 ublk_queue_rq(...) {
 	...
+	if (ublk_bpf_queue_rq(UBLK_BPF_SITE_QUEUE_RQ, ubq->bpf, rq))
+		return BLK_STS_OK;
 	ublk_queue_cmd(ubq, rq);
 	...
 }

@batch_queue_rq@
symbol UBLK_BPF_SITE_BATCH_QUEUE_RQ;
@@
 ublk_batch_queue_rq(...) {
 	...
+	if (ublk_bpf_batch_queue_rq(UBLK_BPF_SITE_BATCH_QUEUE_RQ, ubq->bpf, rq, bd->last))
+		return BLK_STS_OK;
 	ublk_batch_queue_cmd(ubq, rq, bd->last);
 	...
 }

// ...or in a list.
@queue_rqs@
symbol UBLK_BPF_SITE_QUEUE_RQS;
@@
 ublk_queue_rqs(...) {
 	<...
 	if (ublk_prep_req(this_q, req, true) != BLK_STS_OK) {
 		...
 	}
+	if (ublk_bpf_queue_rq(UBLK_BPF_SITE_QUEUE_RQS, this_q->bpf, req))
+		continue;
 	...>
 }

@batch_queue_rqs@
symbol UBLK_BPF_SITE_BATCH_QUEUE_RQS;
@@
 ublk_batch_queue_rqs(...) {
 	<...
 	if (ublk_prep_req(this_q, req, true) != BLK_STS_OK) {
 		...
 	}
+	if (ublk_bpf_queue_rq(UBLK_BPF_SITE_BATCH_QUEUE_RQS, this_q->bpf, req))
+		continue;
 	...>
 }

// An I/O reaches the server's task, which is alive: before any buffer of the
// server or reference is given to it.
@task_work@
symbol UBLK_BPF_SITE_TASK_WORK;
@@
 __ublk_rq_task_work(...) {
 	...
+	if (ublk_bpf_dispatch_rq(UBLK_BPF_SITE_TASK_WORK, ubq->bpf, req))
+		return;
 	if (ublk_need_get_data(ubq) && ublk_need_map_req(req)) {
 		...
 	}
 	...
 }

@dispatch_req@
symbol UBLK_BPF_SITE_DISPATCH_REQ;
@@
 ublk_dispatch_req(...) {
 	...
+	if (ublk_bpf_dispatch_rq(UBLK_BPF_SITE_DISPATCH_REQ, ubq->bpf, req))
+		return;
 	if (ublk_need_get_data(ubq) && ublk_need_map_req(req)) {
 		...
 	}
 	...
 }

@batch_dispatch@
symbol UBLK_BPF_SITE_BATCH_DISPATCH;
@@
 __ublk_batch_prep_dispatch(...) {
 	...
+	if (!refcount_read(&io->ref) && ublk_bpf_dispatch_rq(UBLK_BPF_SITE_BATCH_DISPATCH, ubq->bpf, req))
+		return false;
 	if (!ublk_start_io(ubq, req, io))
 		return false;
 	...
 }

// The server is done with an I/O: -EAGAIN asks the program again.
@complete_rq@
symbol UBLK_BPF_SITE_COMPLETE_RQ;
@@
 __ublk_complete_rq(...) {
 	...
+	if (ublk_bpf_complete_rq(UBLK_BPF_SITE_COMPLETE_RQ, req, &io->res))
+		return;
 	if (!io->res && req_op(req) == REQ_OP_READ)
 		io->res = -EIO;
 	...
 }

@timeout@
symbol UBLK_BPF_SITE_TIMEOUT, BLK_EH_RESET_TIMER;
statement S;
@@
 ublk_timeout(...) {
 	... when any
+	if (ublk_bpf_timeout(UBLK_BPF_SITE_TIMEOUT, ubq->bpf, rq))
+		return BLK_EH_RESET_TIMER;
 	if (ubq->flags & UBLK_F_UNPRIVILEGED_DEV) S
 	... when any
 }

@timeout_privileged@
symbol UBLK_BPF_SITE_TIMEOUT, BLK_EH_RESET_TIMER;
statement S;
@@
 ublk_timeout(...) {
 	... when any
+	if (ublk_bpf_timeout(UBLK_BPF_SITE_TIMEOUT, ubq->bpf, rq))
+		return BLK_EH_RESET_TIMER;
 	if (!(ubq->flags & UBLK_F_UNPRIVILEGED_DEV)) S
 	... when any
 }

// A server that goes does not wait for I/O that it will never see.
@cancel_cmd@
symbol UBLK_BPF_SITE_CANCEL_CMD, tag;
@@
 ublk_cancel_cmd(...) {
 	<...
-	if (req && blk_mq_request_started(req) && req->tag == tag)
+	if (req && blk_mq_request_started(req) && req->tag == tag && !ublk_bpf_is_away(UBLK_BPF_SITE_CANCEL_CMD, ubq->bpf, tag))
 		return;
 	...>
 }

// Nor for what it has waited for itself: 6.12 reads partitions in START_DEV.
@server_dies@
symbol UBLK_BPF_SITE_SERVER_DIES;
identifier f = {ublk_abort_requests, ublk_start_cancel};
@@
 f(...) {
 	<...
 	blk_mq_unquiesce_queue(disk->queue);
+	ublk_bpf_server_dies(UBLK_BPF_SITE_SERVER_DIES, ub->bpf, disk->queue);
 	...>
 }

@check_inflight@
symbol UBLK_BPF_SITE_CHECK_INFLIGHT;
@@
 ublk_check_inflight_rq(...) {
 	<...
-	if (blk_mq_request_started(rq)) {
+	if (blk_mq_request_started(rq) && !ublk_bpf_is_away(UBLK_BPF_SITE_CHECK_INFLIGHT, ((struct ublk_queue *)rq->mq_hctx->driver_data)->bpf, rq->tag)) {
 		...
 	}
 	...>
 }

// With recovery a device lives without a server: its program is asked all the
// same, and what that redirects waits for the next one, or fails.
@canceling@
symbol UBLK_BPF_SITE_ALONE;
identifier f = {ublk_queue_rq, __ublk_queue_rq_common};
@@
 f(...) {
 	...
-	if (unlikely(ubq->canceling)) {
+	if (unlikely(ubq->canceling) && !ublk_bpf_alone(UBLK_BPF_SITE_ALONE, ubq->bpf)) {
 		...
 	}
 	...
 }

@canceling_list@
symbol UBLK_BPF_SITE_ALONE_LIST, check_cancel;
@@
 ublk_prep_req(...) {
 	<...
-	if (check_cancel && unlikely(ubq->canceling))
+	if (check_cancel && unlikely(ubq->canceling) && !ublk_bpf_alone(UBLK_BPF_SITE_ALONE_LIST, ubq->bpf))
 		return BLK_STS_IOERR;
 	...>
 }

@fail_io@
symbol UBLK_BPF_SITE_FAIL_IO;
@@
 ublk_prep_req(...) {
-	if (unlikely(READ_ONCE(ubq->fail_io)))
+	if (unlikely(READ_ONCE(ubq->fail_io)) && !ublk_bpf_alone(UBLK_BPF_SITE_FAIL_IO, ubq->bpf))
 		return BLK_STS_TARGET;
 	...
 }

// 6.12 keeps the queue quiesced until a new server is there; later kernels do not.
@quiesced@
symbol UBLK_BPF_SITE_QUIESCED;
@@
 ublk_quiesce_work_fn(...) {
 	...
 	__ublk_quiesce_dev(ub);
+	ublk_bpf_quiesced(UBLK_BPF_SITE_QUIESCED, ub->bpf, ub->ub_disk->queue);
 	...
 }

@stop_alone@
symbol UBLK_BPF_SITE_STOP_ALONE;
@@
 ublk_stop_dev(...) {
 	<...
 	if (ub->dev_info.state == UBLK_S_DEV_LIVE)
 		__ublk_quiesce_dev(ub);
+	else
+		ublk_bpf_stop_alone(UBLK_BPF_SITE_STOP_ALONE, ub->bpf, ub->ub_disk->queue);
 	...>
 }

@start_recovery@
symbol UBLK_BPF_SITE_START_RECOVERY;
@@
 ublk_queue_reinit(...) {
 	...
-	ubq->canceling = false;
+	ubq->canceling = ublk_bpf_start_recovery(UBLK_BPF_SITE_START_RECOVERY, ubq->bpf);
 	...
 }

// A server that died before it had fetched must not be the last: 6.12 puts a task
// for each queue, and wants one queue ready at least. What the last one's end has
// scheduled must not find the next one's commands.
@recover_again@
symbol UBLK_BPF_SITE_LAST_SERVER;
@@
 ublk_ctrl_start_recovery(...) {
 	...
+	if (ublk_bpf_last_server(UBLK_BPF_SITE_LAST_SERVER, ub->bpf, test_bit(UB_STATE_OPEN, &ub->state), &ub->quiesce_work))
+		return -EBUSY;
 	mutex_lock(&ub->mutex);
 	...
-	if (!ub->nr_queues_ready)
+	if (!ub->bpf && !ub->nr_queues_ready)
 		goto out_unlock;
 	...
-	init_completion(&ub->completion);
+	reinit_completion(&ub->completion);
 	...
 }

@reinit_again@
@@
 ublk_queue_reinit(...) {
 	...
-	WARN_ON_ONCE(!(ubq->ubq_daemon && ubq_daemon_is_dying(ubq)));
+	WARN_ON_ONCE(ubq->ubq_daemon ? !ubq_daemon_is_dying(ubq) : !ubq->bpf);
 	...
-	put_task_struct(ubq->ubq_daemon);
+	if (ubq->ubq_daemon)
+		put_task_struct(ubq->ubq_daemon);
 	...
 }

@end_recovery@
symbol UBLK_BPF_SITE_END_RECOVERY;
@@
 ublk_ctrl_end_recovery(...) {
 	...
+	ublk_bpf_end_recovery(UBLK_BPF_SITE_END_RECOVERY, ub->bpf, ub->dev_info.ublksrv_pid);
 	blk_mq_kick_requeue_list(ub->ub_disk->queue);
 	...
 }

// A queue has a task only when it has fetched all of its commands.
@half_fetched@
symbol task;
@@
 ublk_uring_cmd_cancel_fn(...) {
 	...
-	if (WARN_ON_ONCE(task && task != ubq->ubq_daemon))
+	if (WARN_ON_ONCE(task && task != ubq->ubq_daemon && (ubq->ubq_daemon || !ubq->bpf)))
 		return;
 	...
 }

// 6.12 takes I/O again from here on, unless that server is dead, too.
@unquiesce@
symbol UBLK_BPF_SITE_ALIVE;
@@
 ublk_ctrl_end_recovery(...) {
 	...
 	if (ub->dev_info.state != UBLK_S_DEV_QUIESCED) {
 		...
 	}
+	if (!ublk_bpf_alive(UBLK_BPF_SITE_ALIVE, ub->bpf)) {
+		ret = -EBUSY;
+		goto out_unlock;
+	}
 	...
-	blk_mq_unquiesce_queue(ub->ub_disk->queue);
+	if (!ub->bpf)
+		blk_mq_unquiesce_queue(ub->ub_disk->queue);
 	...
 }

@cancel_fn@
symbol UBLK_BPF_SITE_CANCEL_FN, need_schedule;
@@
 ublk_uring_cmd_cancel_fn(...) {
 	...
+	ublk_bpf_cancel_cmds(UBLK_BPF_SITE_CANCEL_FN, ub->bpf);
 	need_schedule = ublk_abort_requests(ub, ubq);
 	...
 }

// Nor is a disk made for a server that is dead, or of a device that is stopped or
// deleted while START_DEV is on its way: later kernels see to that themselves.
@stop_cancels@
symbol UBLK_BPF_SITE_STOP_CANCELS;
@@
 ublk_stop_dev(...) {
 	... when any
+	ublk_bpf_cancel_cmds(UBLK_BPF_SITE_STOP_CANCELS, ub->bpf);
 	mutex_unlock(&ub->mutex);
 	ublk_cancel_dev(ub);
 }

// A server that has all I/O of a queue has no command there that its end could
// cancel: 6.12 would see that by a time-out. Until ub_disk is gone, stop has still
// to wait for these works.
@ch_release@
symbol i, aborted;
@@
 ublk_ch_release(...) {
 	...
+	if (ub->bpf) {
+		bool aborted = false;
+
+		for (int i = 0; i < ub->dev_info.nr_hw_queues; i++)
+			aborted |= ublk_abort_requests(ub, ublk_get_queue(ub, i));
+		spin_lock(&ub->lock);
+		if (aborted && ub->ub_disk)
+			schedule_work(ublk_nosrv_should_stop_dev(ub) ? &ub->stop_work : &ub->quiesce_work);
+		spin_unlock(&ub->lock);
+	}
+	smp_mb__before_atomic();	/* pairs with ublk_bpf_last_server() */
 	clear_bit(UB_STATE_OPEN, &ub->state);
 	...
 }

// The disk is there. 6.12 reads partitions in START_DEV, where nobody can wait for a
// server.
@started@
symbol UBLK_BPF_SITE_STARTED;
@@
 ublk_ctrl_start_dev(...) {
 	... when any
 	ret = add_disk(disk);
+	ublk_bpf_started(UBLK_BPF_SITE_STARTED, ub->bpf, disk, ub->dev_info.ublksrv_pid);
 	... when any
 }

@may_start@
symbol UBLK_BPF_SITE_MAY_START;
statement S;
@@
 ublk_ctrl_start_dev(...) {
 	... when any
 	if (wait_for_completion_interruptible(&ub->completion) != 0) S
 	... when any
-	ret = add_disk(disk);
+	ret = ublk_bpf_may_start(UBLK_BPF_SITE_MAY_START, ub->bpf) ? add_disk(disk) : -EBUSY;
 	... when any
 }

@abort_rq@
symbol UBLK_BPF_SITE_ABORT_RQ;
@@
 __ublk_abort_rq(...) {
 	<...
-	blk_mq_requeue_request(rq, false);
+	blk_mq_requeue_request(rq, ublk_bpf_is_starting(UBLK_BPF_SITE_ABORT_RQ, ubq->bpf));
 	...>
 }

@stopping@
symbol UBLK_BPF_SITE_STOPPING;
identifier f = {ublk_stop_dev, ublk_stop_dev_unlocked};
@@
 f(...) {
 	... when any
+	ublk_bpf_stopping(UBLK_BPF_SITE_STOPPING, ub->bpf);
 	if (ublk_nosrv_dev_should_queue_io(ub)) {
 		...
 	}
 	... when any
 }

@stop_dev@
symbol UBLK_BPF_SITE_STOP_DEV;
identifier f = {ublk_stop_dev, ublk_stop_dev_unlocked};
@@
 f(...) {
 	... when any
 	put_disk(disk);
+	ublk_bpf_stop_dev(UBLK_BPF_SITE_STOP_DEV, ub->bpf);
 	... when any
 }

// Control commands of ours; ub->mutex is ours to take, and protects ub->params.
@ctrl_cmd_pointer@
symbol UBLK_BPF_SITE_CTRL_CMD;
expression E;
@@
 ublk_ctrl_uring_cmd(...) {
 	... when any
 	const struct ublksrv_ctrl_cmd *header = E;
 	<...
-	ret = -EOPNOTSUPP;
+	ret = ublk_bpf_ctrl_cmd(UBLK_BPF_SITE_CTRL_CMD, ub->bpf, &ub->mutex, &ub->params, cmd_op, header);
 	...>
 }

@ctrl_cmd@
symbol UBLK_BPF_SITE_CTRL_CMD;
@@
 ublk_ctrl_uring_cmd(...) {
 	... when any
 	struct ublksrv_ctrl_cmd header;
 	<...
-	ret = -EOPNOTSUPP;
+	ret = ublk_bpf_ctrl_cmd(UBLK_BPF_SITE_CTRL_CMD, ub->bpf, &ub->mutex, &ub->params, cmd_op, &header);
 	...>
 }

@init@
symbol UBLK_BPF_SITE_INIT;
@@
 ublk_init(void) {
 	...
 	init_waitqueue_head(&ublk_idr_wq);
+	ret = ublk_bpf_init(UBLK_BPF_SITE_INIT);
+	if (ret)
+		return ret;
 	ret = misc_register(&ublk_misc);
-	if (ret)
+	if (ret) {
+		ublk_bpf_exit();
 		return ret;
+	}
 	... when any
 }

@init_failed@
@@
 ublk_init(void) {
 	<...
 	misc_deregister(&ublk_misc);
+	ublk_bpf_exit();
 	return ret;
 	...>
 }

@exit@
@@
 ublk_exit(void) {
 	...
 	unregister_chrdev_region(ublk_chr_devt, UBLK_MINORS);
+	ublk_bpf_exit();
 }
