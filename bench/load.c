// SPDX-License-Identifier: GPL-2.0
/*
 * load [first-]read|[first-]write DEPTH SECONDS CPU[,CPU...] NAME=PATH...
 *
 * 4 KiB random direct I/O, one job a CPU, each with DEPTH I/Os in flight, on each
 * PATH for SECONDS. They take turns of a tenth of a second, in an order that
 * rotates: whatever else slows the machine down meanwhile meets all of them. With first-
 * each has one turn, in the order given, of its first 1000 I/Os: for what a new device has
 * to find out.
 * Prints one JSON object a PATH:
 *
 *   device		NAME
 *   ios, seconds	what was done, in what time
 *   iops, us		I/Os a second; how long one of them took, in microseconds
 *   cpu_us		CPU time of the whole machine an I/O: the submitter, a
 *			server, kernel threads, interrupts
 *
 * It does as little as it can itself: fio costs more an I/O than the devices
 * that are compared, most of all under software emulation.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define IO_BYTES	4096
#define MAX_DEPTH	256
#define MAX_JOBS	64
#define MAX_DEVICES	16
#define TURN_SECONDS	0.1
#define WARM_UP_SECONDS	0.02	/* of each turn, not counted */
#define FIRST		"first-"
#define FIRST_IOS	1000
#define POLL_SECONDS	0.02

struct device {
	const char *name;
	int fd;
	unsigned long long nr_blocks;
	unsigned long ios;
	double seconds;
	double cpu_seconds;
};

struct job {
	pthread_t thread;
	int cpu;
	unsigned long long random;
	struct io_uring ring;
	char *buf;
	_Alignas(64) atomic_ulong ios;	/* its own cache line */
};

/* What the machine had done at one moment. */
struct moment {
	double seconds;
	double idle_seconds;	/* all CPUs together */
	unsigned long ios;	/* all jobs together */
};

static bool is_write;
static unsigned long first_ios;		/* those that a turn has; 0: it has its time */
static unsigned int depth;
static struct device devices[MAX_DEVICES];
static int nr_devices;
static struct job jobs[MAX_JOBS];
static int nr_jobs;

/* Whose turn it is, NULL at the end; changes only between the two barriers. */
static struct device *turn;
static atomic_bool turn_is_over;
static pthread_barrier_t turn_begins, turn_ended;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void pause_for(double seconds)
{
	struct timespec t = {
		.tv_sec = seconds,
		.tv_nsec = (seconds - (long)seconds) * 1e9,
	};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/*
 * Idle time and not busy time: a tickless kernel measures the first, and only
 * samples the second at each tick, which wakeups of a few us slip through.
 */
static double idle_seconds(void)
{
	unsigned long long idle, iowait;
	FILE *f = fopen("/proc/stat", "r");

	if (!f || fscanf(f, "cpu %*u %*u %*u %llu %llu", &idle, &iowait) != 2)
		die("cannot read /proc/stat");
	fclose(f);
	return (double)(idle + iowait) / sysconf(_SC_CLK_TCK);
}

static struct moment take_moment(void)
{
	struct moment m = { .idle_seconds = idle_seconds() };
	struct timespec t;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &t);
	m.seconds = t.tv_sec + t.tv_nsec / 1e9;
	for (i = 0; i < nr_jobs; i++)
		m.ios += atomic_load_explicit(&jobs[i].ios, memory_order_relaxed);
	return m;
}

static unsigned long long random_block(struct job *job)
{
	/* xorshift64, then scaled without a division */
	job->random ^= job->random << 13;
	job->random ^= job->random >> 7;
	job->random ^= job->random << 17;
	return ((unsigned __int128)job->random * turn->nr_blocks) >> 64;
}

static void queue_io(struct job *job, unsigned int i)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&job->ring);
	off_t pos = random_block(job) * IO_BYTES;
	char *buf = job->buf + i * IO_BYTES;
	int file = turn - devices;

	if (is_write)
		io_uring_prep_write_fixed(sqe, file, buf, IO_BYTES, pos, 0);
	else
		io_uring_prep_read_fixed(sqe, file, buf, IO_BYTES, pos, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, i);
}

/* I/O on the device whose turn it is, until that is over and all is back. */
static void take_turn(struct job *job)
{
	struct io_uring_cqe *cqes[MAX_DEPTH];
	unsigned int i, n, in_flight = depth;
	int err;

	for (i = 0; i < depth; i++)
		queue_io(job, i);
	while (in_flight) {
		err = io_uring_submit_and_wait(&job->ring, 1);
		if (err < 0 && err != -EINTR)
			die("io_uring: %s", strerror(-err));
		n = io_uring_peek_batch_cqe(&job->ring, cqes, depth);
		for (i = 0; i < n; i++) {
			if (cqes[i]->res != IO_BYTES)
				die("%s, %s: %s", turn->name, is_write ? "write" : "read",
				    cqes[i]->res < 0 ? strerror(-cqes[i]->res) : "short");
			if (atomic_load_explicit(&turn_is_over, memory_order_relaxed))
				in_flight--;
			else
				queue_io(job, cqes[i]->user_data);
		}
		io_uring_cq_advance(&job->ring, n);
		atomic_fetch_add_explicit(&job->ios, n, memory_order_relaxed);
	}
}

static void *run_job(void *arg)
{
	struct job *job = arg;
	int i, err, fds[MAX_DEVICES];
	struct iovec iov;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(job->cpu, &cpus);
	err = pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
	if (err)
		die("cannot run on CPU %d: %s", job->cpu, strerror(err));
	if (posix_memalign((void **)&job->buf, IO_BYTES, depth * IO_BYTES))
		die("out of memory");
	memset(job->buf, 0x5a, depth * IO_BYTES);
	iov = (struct iovec){ .iov_base = job->buf, .iov_len = depth * IO_BYTES };
	for (i = 0; i < nr_devices; i++)
		fds[i] = devices[i].fd;

	err = io_uring_queue_init(depth, &job->ring,
				  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (!err)
		err = io_uring_register_buffers(&job->ring, &iov, 1);
	if (!err)
		err = io_uring_register_files(&job->ring, fds, nr_devices);
	if (err)
		die("io_uring: %s", strerror(-err));

	for (;;) {
		pthread_barrier_wait(&turn_begins);
		if (!turn)
			return NULL;
		take_turn(job);
		pthread_barrier_wait(&turn_ended);
	}
}

static void give_turn(struct device *dev)
{
	struct moment begin, end;
	double seconds;

	turn = dev;
	atomic_store(&turn_is_over, false);
	pthread_barrier_wait(&turn_begins);
	if (!first_ios)
		pause_for(WARM_UP_SECONDS);
	begin = take_moment();
	if (!first_ios)
		pause_for(TURN_SECONDS);
	while (first_ios && take_moment().ios - begin.ios < first_ios)
		pause_for(POLL_SECONDS);
	end = take_moment();
	atomic_store(&turn_is_over, true);
	pthread_barrier_wait(&turn_ended);

	seconds = end.seconds - begin.seconds;
	dev->ios += end.ios - begin.ios;
	dev->seconds += seconds;
	dev->cpu_seconds += seconds * sysconf(_SC_NPROCESSORS_ONLN) -
			    (end.idle_seconds - begin.idle_seconds);
}

static void add_device(char *arg)
{
	struct device *dev = &devices[nr_devices++];
	char *path = strchr(arg, '=');
	unsigned long long bytes;
	struct stat st;

	if (!path || nr_devices > MAX_DEVICES)
		die("not NAME=PATH, or too many: %s", arg);
	*path++ = '\0';
	dev->name = arg;
	dev->fd = open(path, (is_write ? O_RDWR : O_RDONLY) | O_DIRECT);
	if (dev->fd < 0 || fstat(dev->fd, &st))
		die("cannot open %s: %s", path, strerror(errno));
	bytes = st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(dev->fd, BLKGETSIZE64, &bytes))
		die("cannot get the size of %s: %s", path, strerror(errno));
	dev->nr_blocks = bytes / IO_BYTES;
	if (!dev->nr_blocks)
		die("%s is smaller than one I/O", path);
}

static void add_jobs(char *cpus)
{
	char *cpu;

	for (cpu = strtok(cpus, ","); cpu; cpu = strtok(NULL, ",")) {
		if (nr_jobs == MAX_JOBS)
			die("more than %d jobs", MAX_JOBS);
		jobs[nr_jobs].cpu = atoi(cpu);
		jobs[nr_jobs].random = 0x9e3779b97f4a7c15ull * (nr_jobs + 1);
		nr_jobs++;
	}
}

static void start_jobs(void)
{
	int i;

	pthread_barrier_init(&turn_begins, NULL, nr_jobs + 1);
	pthread_barrier_init(&turn_ended, NULL, nr_jobs + 1);
	for (i = 0; i < nr_jobs; i++)
		if (pthread_create(&jobs[i].thread, NULL, run_job, &jobs[i]))
			die("cannot start a thread");
}

static void end_jobs(void)
{
	int i;

	turn = NULL;
	pthread_barrier_wait(&turn_begins);
	for (i = 0; i < nr_jobs; i++)
		pthread_join(jobs[i].thread, NULL);
}

int main(int argc, char **argv)
{
	struct device *dev;
	double seconds;
	int i, n, turns;

	if (argc < 6) {
		fputs("usage: load [first-]read|[first-]write DEPTH SECONDS CPU[,CPU...] NAME=PATH...\n", stderr);
		return 2;
	}
	depth = atoi(argv[2]);
	seconds = atof(argv[3]);
	if (!strncmp(argv[1], FIRST, strlen(FIRST))) {
		argv[1] += strlen(FIRST);
		first_ios = FIRST_IOS;
		seconds = TURN_SECONDS;
	}
	is_write = !strcmp(argv[1], "write");
	if (!depth || depth > MAX_DEPTH || seconds <= 0)
		die("a depth of 1 to %d and some time, please", MAX_DEPTH);
	add_jobs(argv[4]);
	for (i = 5; i < argc; i++)
		add_device(argv[i]);

	turns = seconds / TURN_SECONDS + 0.5;
	if (turns < 1)
		turns = 1;
	start_jobs();
	for (n = 0; n < turns; n++)
		for (i = 0; i < nr_devices; i++)
			give_turn(&devices[(n + i) % nr_devices]);
	end_jobs();

	for (dev = devices; dev < devices + nr_devices; dev++) {
		if (!dev->ios)
			die("%s: no I/O ended in %g s", dev->name, dev->seconds);
		printf("{\"device\":\"%s\",\"ios\":%lu,\"seconds\":%.4f,\"iops\":%.0f,\"us\":%.3f,\"cpu_us\":%.3f}\n",
		       dev->name, dev->ios, dev->seconds, dev->ios / dev->seconds,
		       dev->seconds * 1e6 * depth * nr_jobs / dev->ios,
		       dev->cpu_seconds * 1e6 / dev->ios);
	}
	return 0;
}
