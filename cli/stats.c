// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf stats: what devices with programs do, by the second, and which way. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli.h"

#define MAX_SECONDS	86400

struct stats {
	int id;			/* -1: all */
	unsigned int interval;	/* seconds; 0: once */
	unsigned int count;	/* 0: for ever */
	bool json;
};

#define MAX_COUNTERS	8

/* The last that is known of a device; @counters are its server's own. */
struct sample {
	unsigned int id;
	struct ublk_bpf_stats stats;
	struct ublk_bpf_counter counters[MAX_COUNTERS];
	int nr_counters;
};

struct samples {
	struct sample *all;
	int nr;
	double at;		/* seconds, of any clock; 0: since each was added */
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static const struct sample *find(const struct samples *samples, unsigned int id)
{
	static const struct sample none;
	int i;

	for (i = 0; i < samples->nr; i++)
		if (samples->all[i].id == id)
			return &samples->all[i];
	return &none;
}

/* What the server of a device counts, if it is one of ours. */
static void take_counters(struct sample *sample)
{
	struct json_object *made_of = state_load(sample->id), *name;
	const struct ublk_bpf_target *target = NULL;

	sample->nr_counters = 0;
	if (made_of && json_object_object_get_ex(made_of, "target", &name))
		target = find_target(json_object_get_string(name));
	if (target && target->counters)
		sample->nr_counters = target->counters(sample->id, sample->counters, MAX_COUNTERS);
	json_object_put(made_of);
}

/* What was counted since @old, and what it is a share of. */
struct rates {
	double done, inlined, worker, server, failed, bytes, all;
};

/* Under the same number there may be another device now. */
static double since(__u64 new, __u64 old, double seconds)
{
	return (new >= old ? new - old : new) / seconds;
}

static struct rates rates(const struct ublk_bpf_stats *new, const struct ublk_bpf_stats *old,
			  double seconds)
{
	struct rates r = {
		.done = since(new->done, old->done, seconds),
		.inlined = since(new->fwd_inline, old->fwd_inline, seconds),
		.worker = since(new->fwd_worker, old->fwd_worker, seconds),
		.server = since(new->redirected, old->redirected, seconds),
		.failed = since(new->failed, old->failed, seconds),
		.bytes = since(new->done_bytes + new->fwd_bytes,
			       old->done_bytes + old->fwd_bytes, seconds),
	};

	r.all = r.done + r.inlined + r.worker + r.server;
	return r;
}

static void print_rates(unsigned int id, const struct rates *r)
{
	double all = r->all > 0 ? r->all / 100 : 1;

	printf("%3u %12.0f %12.1f %7.2f %7.2f %7.2f %7.2f %10.0f\n", id, r->all, r->bytes / 1024,
	       r->done / all, r->inlined / all, r->worker / all, r->server / all, r->failed);
}

/* Counter @nr since @old, which may be of another device. */
static double counted(const struct sample *new, const struct sample *old, int nr, double seconds)
{
	return since(new->counters[nr].value, nr < old->nr_counters ? old->counters[nr].value : 0,
		     seconds);
}

/* Its share of that and the next one, in per cent; 0 of nothing. */
static double share(const struct sample *new, const struct sample *old, int nr)
{
	double value = counted(new, old, nr, 1), whole = value + counted(new, old, nr + 1, 1);

	return whole > 0 ? 100 * value / whole : 0;
}

static void print_counters(const struct sample *new, const struct sample *old, double seconds)
{
	int i;

	for (i = 0; i < new->nr_counters; i++) {
		printf("%s%.0f %s", i ? ", " : "    ", counted(new, old, i, seconds), new->counters[i].name);
		if (new->counters[i].of_next)
			printf(" (%.2f %%)", share(new, old, i));
	}
	if (new->nr_counters > 0)
		printf("\n");
}

/* @seconds: what the rates are over; 0: they are sums. */
static struct json_object *add_rates(struct json_object *json, unsigned int id,
				     const struct rates *r, double seconds)
{
	const struct { const char *name; double value; } values[] = {
		{ "seconds", seconds },
		{ "io", r->all },
		{ "bytes", r->bytes },
		{ "done", r->done },
		{ "fwd_inline", r->inlined },
		{ "fwd_worker", r->worker },
		{ "redirected", r->server },
		{ "failed", r->failed },
	};
	struct json_object *row = json_object_new_object();
	unsigned int i;

	json_object_object_add(row, "id", json_object_new_int(id));
	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		json_object_object_add(row, values[i].name, json_object_new_double(values[i].value));
	json_object_array_add(json, row);
	return row;
}

static void add_counters(struct json_object *row, const struct sample *new, const struct sample *old,
			 double seconds)
{
	char name[64];
	int i;

	for (i = 0; i < new->nr_counters; i++) {
		json_object_object_add(row, new->counters[i].name,
				       json_object_new_double(counted(new, old, i, seconds)));
		if (!new->counters[i].of_next)
			continue;
		snprintf(name, sizeof(name), "%s_percent", new->counters[i].name);
		json_object_object_add(row, name, json_object_new_double(share(new, old, i)));
	}
}

/* What there is now of the devices wanted. Return: 0 or an exit status. */
static int take(struct ublk_bpf_ctrl *ctrl, const struct stats *args, struct samples *samples)
{
	struct ublksrv_ctrl_dev_info info;
	unsigned int *ids;
	int nr = list_devices(&ids), i;

	if (nr < 0)
		return complain("cannot list devices: %s", strerror(-nr));
	samples->at = now();
	samples->nr = 0;
	samples->all = calloc(nr + 1, sizeof(*samples->all));
	if (!samples->all)
		abort();
	for (i = 0; i < nr; i++) {
		struct sample *sample = &samples->all[samples->nr];

		if (args->id >= 0 && ids[i] != (unsigned int)args->id)
			continue;
		/* one that goes meanwhile, or has no program, has nothing to show */
		if (ublk_bpf_get_info(ctrl, ids[i], &info) < 0 || !(info.flags & UBLK_F_BPF) ||
		    ublk_bpf_get_stats(ctrl, ids[i], &sample->stats) < 0)
			continue;
		sample->id = ids[i];
		take_counters(sample);
		samples->nr++;
	}
	free(ids);
	if (args->id >= 0 && !samples->nr)
		return complain("there is no device %d that can have a program; 'ublk-bpf list' shows all",
				args->id);
	return 0;
}

static void show(const struct stats *args, const struct samples *new, const struct samples *old)
{
	/* since they were added: no time is known, so all of it */
	double seconds = old->at > 0 ? new->at - old->at : 1;
	struct json_object *json = args->json ? json_object_new_array() : NULL;
	int i;

	if (!json)
		printf("%s ID %12s %12s    BPF%% INLINE%% WORKER%% SERVER%% %10s\n",
		       old->at > 0 ? "\n" : "", old->at > 0 ? "IO/S" : "IO",
		       old->at > 0 ? "KIB/S" : "KIB", old->at > 0 ? "FAILED/S" : "FAILED");
	for (i = 0; i < new->nr; i++) {
		const struct sample *now = &new->all[i], *then = find(old, now->id);
		struct rates r = rates(&now->stats, &then->stats, seconds);

		if (json) {
			add_counters(add_rates(json, now->id, &r, old->at > 0 ? seconds : 0), now,
				     then, seconds);
			continue;
		}
		print_rates(now->id, &r);
		print_counters(now, then, seconds);
	}
	if (json)
		print_json(json);
	fflush(stdout);
}

static error_t stats_parse(int key, char *arg, struct argp_state *state)
{
	struct stats *stats = state->input;

	switch (key) {
	case 'n':
		stats->id = parse_number(arg, 0x7fffffff, "-n");
		return 0;
	case 'i':
		stats->interval = parse_count(arg, MAX_SECONDS, "-i");
		return 0;
	case 'c':
		stats->count = parse_count(arg, 0x7fffffff, "-c");
		return 0;
	case 'j':
		stats->json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is one word too many", arg);
		return 0;
	case ARGP_KEY_END:
		if (stats->count && !stats->interval)
			argp_error(state, "-c needs an interval: -i SECONDS");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option stats_options[] = {
	{ NULL, 'n', "ID", 0, "only device number ID", 0 },
	{ NULL, 'i', "SECONDS", 0, "again and again, what was done in the last SECONDS", 0 },
	{ NULL, 'c', "COUNT", 0, "so often; default for ever", 0 },
	{ "json", 'j', NULL, 0, "print JSON", 0 },
	{}
};

static const struct argp stats_argp = {
	.options = stats_options,
	.parser = stats_parse,
	.doc = "Show what devices with programs do: I/Os and KiB a second, the share of those that "
	       "were done in BPF, that were forwarded at once (INLINE) or by a worker, and that "
	       "went to the server, and failures. An I/O that is forwarded in several ranges "
	       "counts as often.",
};

int cmd_stats(int argc, char **argv)
{
	struct stats args = { .id = -1 };
	struct samples old = {}, new;
	struct ublk_bpf_ctrl *ctrl;
	unsigned int round = 0;
	int status;

	argp_parse(&stats_argp, argc, argv, 0, NULL, &args);
	ctrl = open_control();
	if (!ctrl)
		return EXIT_FAILURE;
	while (true) {
		status = take(ctrl, &args, &new);
		if (status)
			break;
		/* with an interval the first is what the next is compared with */
		if (!args.interval || round)
			show(&args, &new, &old);
		free(old.all);
		old = new;
		if (!args.interval || ferror(stdout) || (args.count && round == args.count))
			break;
		round++;
		sleep(args.interval);
	}
	free(old.all);
	ublk_bpf_ctrl_close(ctrl);
	return status;
}
