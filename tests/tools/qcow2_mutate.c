// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2_mutate [-d DATA] [-k KEPT] [-p PAIRS] IMAGE SEED NR
 *
 * Changes a few fields of the metadata of IMAGE, and uses the disk in it: see qcow2_trial.h and
 * qcow2_mutate.h of tests/fuzz. All in memory, NR times, with seeds from SEED on. One that
 * crashes, or that takes too long, is told by its seed and left in the folder KEPT; then the
 * status is 1. DATA is the data file of IMAGE.
 *
 * PAIRS is a folder for the images that are accepted and closed, as SEED.before and
 * SEED.after.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/fuzz/qcow2_mutate.h"
#include "tests/fuzz/qcow2_trial.h"

#define CPU_SECONDS	2
#define WALL_SECONDS	60
#define MOST_MEMORY	(320U << 20)	/* zstd alone may want 128 MiB */
#define MOST_FAILURES	10

/* What is known of the trials, also when one of them ends all. */
struct progress {
	unsigned int seed;		/* of the present one */
	unsigned int outcomes[NR_OUTCOMES];
};

static struct mem original, original_data;
static struct progress *progress;
static const char *kept = ".", *pairs;

/* The sanitizer's; gcc has no header for them. */
size_t __sanitizer_get_current_allocated_bytes(void);
int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void *at,
							       size_t bytes),
					      void (*freed)(const volatile void *at));

/* Whatever an image says, it takes no more memory than that. */
static void watch_memory(const volatile void *at, size_t bytes)
{
	static size_t since;

	since += bytes;
	if (since < 1 << 20)
		return;
	since = 0;
	ensure(__sanitizer_get_current_allocated_bytes() <= MOST_MEMORY, "too much memory");
}

static void forget_memory(const volatile void *at)
{
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "qcow2_mutate: %s: %s\n", what, why);
	exit(2);
}

static void load(struct mem *mem, const char *name)
{
	int fd = open(name, O_RDONLY);
	ssize_t nr = fd < 0 ? -1 : read(fd, mem->bytes, MEM_MOST);

	if (nr < 0)
		die(name, strerror(errno));
	if ((__u64)nr == MEM_MOST)
		die(name, "it is too large");
	mem->size = nr;
	close(fd);
}

static void save(const struct mem *mem, const char *folder, unsigned int seed, const char *what)
{
	char name[4096];
	int fd;

	snprintf(name, sizeof(name), "%s/%u.%s", folder, seed, what);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, mem->bytes, mem->size) != (ssize_t)mem->size)
		die(name, strerror(errno));
	close(fd);
}

/* The image of a seed, and what else that decides. */
static struct choices set(struct trial *trial, unsigned int seed)
{
	struct choices choices = choices_of(seed);

	mem_set(&trial->file, original.bytes, original.size);
	mem_set(&trial->data, original_data.bytes, original_data.size);
	mem_set(&trial->file, trial->file.bytes,
		qcow2_mutate(trial->file.bytes, original.size, &choices));
	trial->read_only = !pairs && !choose(&choices, 8);
	return choices;
}

/* Without an end, it is one by a signal. */
static void limit_time(void)
{
	static const struct itimerval most = { .it_value = { .tv_sec = CPU_SECONDS } };

	setitimer(ITIMER_PROF, &most, NULL);
	alarm(WALL_SECONDS);
}

static void try_all(struct trial *trial, unsigned int from, unsigned int end)
{
	enum outcome outcome;

	for (progress->seed = from; progress->seed < end; progress->seed++) {
		struct choices choices;

		limit_time();
		choices = set(trial, progress->seed);
		outcome = trial_run(trial, &choices);
		progress->outcomes[outcome]++;
		if (!pairs || outcome == TRIAL_REFUSED || outcome == TRIAL_CORRUPT)
			continue;
		save(&trial->file, pairs, progress->seed, "after");
		set(trial, progress->seed);
		save(&trial->file, pairs, progress->seed, "before");
	}
}

/* The trials from @from on, in a process of their own. Return: how that ended. */
static int try_aside(struct trial *trial, unsigned int from, unsigned int end)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork", strerror(errno));
	if (!pid) {
		__sanitizer_install_malloc_and_free_hooks(watch_memory, forget_memory);
		try_all(trial, from, end);
		exit(0);	/* what was not freed is found there */
	}
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid", strerror(errno));
	return status;
}

static void tell(struct trial *trial, unsigned int from, unsigned int end, int status)
{
	if (progress->seed == end) {
		printf("seeds %u to %u: status %d at their end\n", from, end - 1,
		       WEXITSTATUS(status));
		return;
	}
	if (!WIFSIGNALED(status))
		printf("seed %u: status %d", progress->seed, WEXITSTATUS(status));
	else if (WTERMSIG(status) == SIGPROF || WTERMSIG(status) == SIGALRM)
		printf("seed %u: it takes too long", progress->seed);
	else
		printf("seed %u: %s", progress->seed, strsignal(WTERMSIG(status)));
	printf(", %s/%u.image\n", kept, progress->seed);
	set(trial, progress->seed);
	save(&trial->file, kept, progress->seed, "image");
}

static int usage(void)
{
	fprintf(stderr, "qcow2_mutate [-d DATA] [-k KEPT] [-p PAIRS] IMAGE SEED NR\n");
	return 2;
}

int main(int argc, char **argv)
{
	unsigned int from, end, failures = 0;
	static struct trial trial;
	const char *data = NULL;
	int option, status;

	while ((option = getopt(argc, argv, "d:k:p:")) != -1) {
		if (option == 'd')
			data = optarg;
		else if (option == 'k')
			kept = optarg;
		else if (option == 'p')
			pairs = optarg;
		else
			return usage();
	}
	if (argc - optind != 3)
		return usage();
	mem_init(&original);
	mem_init(&original_data);
	trial_init(&trial);
	load(&original, argv[optind]);
	if (data)
		load(&original_data, data);
	from = strtoul(argv[optind + 1], NULL, 0);
	end = from + strtoul(argv[optind + 2], NULL, 0);
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (progress == MAP_FAILED)
		die("progress", strerror(errno));

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (; from < end && failures < MOST_FAILURES; from = progress->seed + 1) {
		status = try_aside(&trial, from, end);
		if (!status)
			break;
		tell(&trial, from, end, status);
		failures++;
	}
	printf("%u refused, %u accepted, %u found to be corrupt, %u exact\n",
	       progress->outcomes[TRIAL_REFUSED], progress->outcomes[TRIAL_ACCEPTED],
	       progress->outcomes[TRIAL_CORRUPT], progress->outcomes[TRIAL_EXACT]);
	return !!failures;
}
