// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A hardware queue: one thread, one ring, one buffer a tag. Nothing is
 * allocated once the first I/O can come.
 *
 * Every tag has one command at the driver: it completes when the tag's I/O is
 * the server's, and giving the result (COMMIT_AND_FETCH) asks for the next one.
 * When the device is stopped, by whomever, every command ends with
 * UBLK_IO_RES_ABORT and the thread with the last of them.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "internal.h"

#define STACK_BYTES	(256U << 10)
#define MAX_POPULATE	(64U << 20)	/* what the default depth and I/O size need */
#define STACK_TOUCHED	(64U << 10)

static char *tag_buf(const struct queue *q, unsigned int tag)
{
	return q->bufs + (size_t)tag * q->dev->info.max_io_buf_bytes;
}

static void queue_cmd(struct queue *q, unsigned int tag, __u32 op, int result)
{
	/* The ring has an entry a tag, and a tag has one command: never NULL. */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
	struct ublksrv_io_cmd cmd = {
		.q_id = q->id,
		.tag = tag,
		.result = result,
		.addr = (unsigned long)tag_buf(q, tag),
	};

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, 0, NULL, 0, 0);
	sqe->cmd_op = op;	/* shares a union with what prep_rw set to 0 */
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data64(sqe, tag);
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	q->in_flight++;
}

static int queue_map(struct queue *q)
{
	const struct ublk_bpf_dev *dev = q->dev;
	unsigned int depth = dev->info.queue_depth;
	size_t page = sysconf(_SC_PAGESIZE);
	off_t pos = UBLKSRV_CMD_BUF_OFFSET +
		    (off_t)q->id * UBLK_MAX_QUEUE_DEPTH * sizeof(struct ublksrv_io_desc);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *map;

	q->descs_bytes = (depth * sizeof(struct ublksrv_io_desc) + page - 1) / page * page;
	map = mmap(NULL, q->descs_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, dev->char_fd, pos);
	if (map == MAP_FAILED)
		return -errno;
	q->descs = map;

	/*
	 * Where a program does the I/O the buffers are rarely used: they become
	 * real, and stay locked, when they first are.
	 */
	q->bufs_bytes = (size_t)depth * dev->info.max_io_buf_bytes;
	if (!dev->link && q->bufs_bytes <= MAX_POPULATE)
		flags |= MAP_POPULATE;
	map = mmap(NULL, q->bufs_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	q->bufs = map;
	return 0;
}

static void queue_unmap(struct queue *q)
{
	if (q->bufs)
		munmap(q->bufs, q->bufs_bytes);
	if (q->descs)
		munmap((void *)q->descs, q->descs_bytes);
}

static int queue_ring(struct queue *q)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_COOP_TASKRUN,
	};
	int ret;

	ret = io_uring_queue_init_params(q->dev->info.queue_depth, &q->ring, &p);
	if (ret)
		return ret;
	ret = io_uring_register_files(&q->ring, &q->dev->char_fd, 1);
	if (ret)
		io_uring_queue_exit(&q->ring);
	return ret;
}

/* Return: 0, or why the driver does not take commands of this queue. */
static int queue_fetch_all(struct queue *q)
{
	struct io_uring_cqe *cqe;
	unsigned int tag;
	int ret;

	for (tag = 0; tag < q->dev->info.queue_depth; tag++)
		queue_cmd(q, tag, UBLK_U_IO_FETCH_REQ, -1);
	do {
		ret = io_uring_submit(&q->ring);
	} while (ret == -EINTR);
	if (ret < 0)
		return ret;
	/* A refusal is there at once; what is left now waits for I/O. */
	if (!io_uring_peek_cqe(&q->ring, &cqe) && cqe->res < 0)
		return cqe->res;
	return 0;
}

static void queue_one(struct queue *q, const struct io_uring_cqe *cqe)
{
	struct ublk_bpf_dev *dev = q->dev;
	unsigned int tag = cqe->user_data;
	int res;

	q->in_flight--;
	if (cqe->res != UBLK_IO_RES_OK) {
		if (cqe->res != UBLK_IO_RES_ABORT)
			q->error = cqe->res;
		return;
	}
	pthread_mutex_lock(&q->handling);
	res = dev->target->handle_io(dev, q->id, tag, &q->descs[tag], tag_buf(q, tag));
	pthread_mutex_unlock(&q->handling);
	queue_cmd(q, tag, UBLK_U_IO_COMMIT_AND_FETCH_REQ, res);
	if (res == -EAGAIN)	/* its target may have to wait until the program was asked */
		io_uring_submit(&q->ring);
}

static void queue_serve(struct queue *q)
{
	while (q->in_flight) {
		struct io_uring_cqe *cqe;
		unsigned int head, nr = 0;
		int ret = io_uring_submit_and_wait(&q->ring, 1);

		if (ret < 0 && ret != -EINTR) {
			q->error = ret;
			return;
		}
		io_uring_for_each_cqe(&q->ring, head, cqe) {
			queue_one(q, cqe);
			nr++;
		}
		io_uring_cq_advance(&q->ring, nr);
	}
}

/* The first I/O must not have to wait for a page of the stack. */
static void __attribute__((noinline)) touch_stack(void)
{
	volatile char stack[STACK_TOUCHED];
	size_t i;

	for (i = 0; i < sizeof(stack); i += 4096)
		stack[i] = 0;
}

static void *queue_main(void *arg)
{
	struct queue *q = arg;
	struct ublk_bpf_dev *dev = q->dev;
	bool have_ring = false;
	__u64 one = 1;

	touch_stack();
	q->error = queue_ring(q);
	if (!q->error) {
		have_ring = true;
		q->error = queue_fetch_all(q);
	}
	sem_post(&q->ready);
	if (!q->error)
		queue_serve(q);
	if (have_ring) {
		/* Else the driver's file lives on until the ring's worker ran. */
		io_uring_unregister_files(&q->ring);
		io_uring_queue_exit(&q->ring);
	}
	if (write(dev->ended_fd, &one, sizeof(one)) < 0)
		q->error = -errno;
	return NULL;
}

int queue_start(struct ublk_bpf_dev *dev, unsigned int id)
{
	struct queue *q = &dev->queues[id];
	pthread_attr_t attr;
	int ret;

	q->dev = dev;
	q->id = id;
	ret = queue_map(q);
	if (ret)
		return ret;
	sem_init(&q->ready, 0, 0);
	pthread_mutex_init(&q->handling, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	ret = -pthread_create(&q->thread, &attr, queue_main, q);
	pthread_attr_destroy(&attr);
	if (ret)
		return ret;
	q->started = true;
	while (sem_wait(&q->ready) && errno == EINTR)
		;
	return q->error;
}

void queue_join(struct queue *q)
{
	if (q->started) {
		pthread_join(q->thread, NULL);
		sem_destroy(&q->ready);
		pthread_mutex_destroy(&q->handling);
		q->started = false;
	}
	queue_unmap(q);
	q->bufs = NULL;
	q->descs = NULL;
}

/* No thread is in the target's handle_io until queues_resume(). */
void queues_pause(struct ublk_bpf_dev *dev)
{
	unsigned int i;

	for (i = 0; i < dev->nr_queues; i++)
		pthread_mutex_lock(&dev->queues[i].handling);
}

void queues_resume(struct ublk_bpf_dev *dev)
{
	unsigned int i;

	for (i = 0; i < dev->nr_queues; i++)
		pthread_mutex_unlock(&dev->queues[i].handling);
}
