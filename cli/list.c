// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf list: every ublk device, ours or not, as a table or JSON. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "compat.h"

#define LIST_TIMEOUT	5	/* seconds: one stuck device must not hide the others */

struct list {
	int id;			/* -1: all */
	bool json;
};

struct row {
	unsigned int id;
	struct ublksrv_ctrl_dev_info info;
	struct ublk_params params;
	struct ublk_bpf_stats stats;	/* zeroes for a stock device */
	bool has_bpf;
	char target[32];
	struct json_object *made_of;	/* what add has noted, or NULL */
};

static const char *const state_names[] = {
	[UBLK_S_DEV_DEAD]	= "dead",
	[UBLK_S_DEV_LIVE]	= "live",
	[UBLK_S_DEV_QUIESCED]	= "quiesced",
	[UBLK_S_DEV_FAIL_IO]	= "fail-io",
};

/* The counters of struct ublk_bpf_stats, as they are called in JSON. */
static const struct { const char *name; size_t offset; } counters[] = {
#define COUNTER(name) { #name, offsetof(struct ublk_bpf_stats, name) }
	COUNTER(done),
	COUNTER(done_bytes),
	COUNTER(fwd_inline),
	COUNTER(fwd_worker),
	COUNTER(fwd_bytes),
	COUNTER(redirected),
	COUNTER(rerun),
	COUNTER(failed),
	COUNTER(unfinished),
	COUNTER(misused),
	COUNTER(held),
	COUNTER(stale),
	COUNTER(waiting),
#undef COUNTER
};

static const char *state_name(const struct row *row)
{
	if (row->info.state >= sizeof(state_names) / sizeof(state_names[0]))
		return "unknown";
	return state_names[row->info.state];
}

static const char *served(const struct row *row)
{
	const char *server = row->info.state == UBLK_S_DEV_LIVE ? "server" : "nobody";

	if (row->info.state == UBLK_S_DEV_DEAD)
		return "nobody";
	switch (row->stats.state) {
	case UBLK_BPF_STATE_ATTACHED:
		return "bpf";
	case UBLK_BPF_STATE_GONE:
	case UBLK_BPF_STATE_EJECTED:
		return row->stats.flags & UBLK_BPF_ATTACH_FALLBACK ? server : "nobody";
	default:
		return server;
	}
}

/* Return: 0, -ENODEV it went away meanwhile, or what the driver says. */
static int read_row(struct ublk_bpf_ctrl *ctrl, unsigned int id, struct row *row)
{
	struct json_object *name;
	int ret;

	memset(row, 0, sizeof(*row));
	row->id = id;
	ret = ublk_bpf_get_info(ctrl, id, &row->info);
	if (ret < 0)
		return ret;
	ret = ublk_bpf_get_params(ctrl, id, &row->params);
	if (ret < 0)
		return ret;
	row->has_bpf = row->info.flags & UBLK_F_BPF;
	if (row->has_bpf) {
		ret = ublk_bpf_get_stats(ctrl, id, &row->stats);
		if (ret < 0)
			return ret;
	}
	strcpy(row->target, "-");
	row->made_of = state_load(id);
	if (row->made_of && json_object_object_get_ex(row->made_of, "target", &name))
		snprintf(row->target, sizeof(row->target), "%s", json_object_get_string(name));
	return 0;
}

static void human_size(__u64 bytes, char *text, size_t size)
{
	static const char units[] = " kMGTPE";
	unsigned int unit = 0;

	while (bytes >= 1024 && !(bytes % 1024) && units[unit + 1]) {
		bytes /= 1024;
		unit++;
	}
	if (unit)
		snprintf(text, size, "%llu%c", bytes, units[unit]);
	else
		snprintf(text, size, "%llu", bytes);
}

static void print_head(void)
{
	printf(" ID  %-8s %10s  %-8s  %-6s %11s %11s %11s %11s %9s\n", "TARGET", "SIZE", "STATE",
	       "SERVED", "DONE", "INLINE", "WORKER", "REDIRECTED", "FAILED");
}

/* How much waits is known of a device that can have a program. */
static void print_no_server(const struct row *row)
{
	if (row->has_bpf)
		printf("     its server died, %llu I/Os wait for another one: ublk-bpf recover -n %u\n",
		       row->stats.waiting, row->id);
	else
		printf("     its server died: ublk-bpf recover -n %u\n", row->id);
}

static void print_row(const struct row *row)
{
	struct json_object *trouble;
	char size[32];

	human_size(row->params.basic.dev_sectors << 9, size, sizeof(size));
	printf("%3u  %-8s %10s  %-8s  %-6s ", row->id, row->target, size, state_name(row),
	       served(row));
	if (row->has_bpf)
		printf("%11llu %11llu %11llu %11llu %9llu\n", row->stats.done, row->stats.fwd_inline,
		       row->stats.fwd_worker, row->stats.redirected, row->stats.failed);
	else
		printf("%11s %11s %11s %11s %9s\n", "-", "-", "-", "-", "-");
	if (row->info.state == UBLK_S_DEV_QUIESCED || row->info.state == UBLK_S_DEV_FAIL_IO)
		print_no_server(row);
	if (row->stats.eject_reason[0])
		printf("     its program was ejected: it %s\n", row->stats.eject_reason);
	if (row->made_of && json_object_object_get_ex(row->made_of, "trouble", &trouble))
		printf("     %s\n", json_object_get_string(trouble));
}

static void add_string(struct json_object *json, const char *key, const char *value)
{
	json_object_object_add(json, key, json_object_new_string(value));
}

static void add_number(struct json_object *json, const char *key, __u64 value)
{
	json_object_object_add(json, key, json_object_new_uint64(value));
}

static struct json_object *row_json(const struct row *row)
{
	const struct ublk_bpf_stats *stats = &row->stats;
	struct json_object *json = json_object_new_object(), *sub;
	char text[32];
	unsigned int i;

	add_number(json, "id", row->id);
	snprintf(text, sizeof(text), "/dev/ublkb%u", row->id);
	add_string(json, "device", text);
	add_string(json, "target", row->target);
	add_number(json, "size", row->params.basic.dev_sectors << 9);
	add_string(json, "state", state_name(row));
	add_string(json, "served", served(row));
	json_object_object_add(json, "read_only", json_object_new_boolean(
		row->params.basic.attrs & UBLK_ATTR_READ_ONLY));
	add_number(json, "logical_block", 1U << row->params.basic.logical_bs_shift);
	add_number(json, "physical_block", 1U << row->params.basic.physical_bs_shift);
	add_number(json, "queues", row->info.nr_hw_queues);
	add_number(json, "depth", row->info.queue_depth);
	/* 6.12 keeps the number of one that is dead */
	json_object_object_add(json, "server_pid", row->info.state == UBLK_S_DEV_LIVE ?
			       json_object_new_int(row->info.ublksrv_pid) : NULL);
	if (row->made_of && json_object_object_get_ex(row->made_of, "files", &sub))
		json_object_object_add(json, "files", json_object_get(sub));
	if (row->made_of && json_object_object_get_ex(row->made_of, "trouble", &sub))
		json_object_object_add(json, "trouble", json_object_get(sub));
	if (!row->has_bpf)
		return json;

	json_object_object_add(json, "attached", json_object_new_boolean(
		stats->state == UBLK_BPF_STATE_ATTACHED));
	json_object_object_add(json, "fallback", json_object_new_boolean(
		stats->flags & UBLK_BPF_ATTACH_FALLBACK));
	if (stats->eject_reason[0])
		add_string(json, "ejected", stats->eject_reason);
	add_number(json, "prog_id", stats->prog_id);
	add_number(json, "cookie", stats->cookie);
	sub = json_object_new_array();
	for (i = 0; i < UBLK_BPF_MAX_SLOTS; i++)
		if (stats->slots & 1ULL << i)
			json_object_array_add(sub, json_object_new_int(i));
	json_object_object_add(json, "slots", sub);
	sub = json_object_new_object();
	for (i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
		add_number(sub, counters[i].name,
			   *(const __u64 *)((const char *)stats + counters[i].offset));
	json_object_object_add(json, "stats", sub);
	return json;
}

static error_t list_parse(int key, char *arg, struct argp_state *state)
{
	struct list *list = state->input;

	switch (key) {
	case 'n':
		list->id = parse_number(arg, 0x7fffffff, "-n");
		return 0;
	case 'j':
		list->json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is one word too many", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option list_options[] = {
	{ NULL, 'n', "ID", 0, "only device number ID", 0 },
	{ "json", 'j', NULL, 0, "print JSON, with all counters", 0 },
	{}
};

static const struct argp list_argp = {
	.options = list_options,
	.parser = list_parse,
	.doc = "Show ublk devices: who serves them, and how many I/Os a program completed (DONE), "
	       "forwarded at once (INLINE) or by a worker (WORKER), or gave to the server (REDIRECTED), "
	       "and how many ended in an error (FAILED).",
};

int cmd_list(int argc, char **argv)
{
	struct json_object *json = json_object_new_array();
	struct list list = { .id = -1 };
	struct ublk_bpf_ctrl *ctrl;
	unsigned int *ids;
	bool found = false;
	int nr, i, ret, status = 0;

	argp_parse(&list_argp, argc, argv, 0, NULL, &list);
	nr = list_devices(&ids);
	if (nr < 0)
		return complain("cannot list devices: %s", strerror(-nr));
	ctrl = nr ? open_control() : NULL;
	if (nr && !ctrl)
		return EXIT_FAILURE;
	if (ctrl)
		ublk_bpf_ctrl_set_timeout(ctrl, LIST_TIMEOUT);
	if (!list.json && list.id < 0)
		print_head();
	for (i = 0; i < nr; i++) {
		struct row row;

		if (list.id >= 0 && ids[i] != (unsigned int)list.id)
			continue;
		ret = read_row(ctrl, ids[i], &row);
		if (ret == -ENODEV)
			continue;
		found = true;
		if (ret < 0) {
			status = complain("cannot read device %u: %s", ids[i], strerror(-ret));
			continue;
		}
		if (list.json) {
			json_object_array_add(json, row_json(&row));
		} else {
			if (list.id >= 0)
				print_head();
			print_row(&row);
		}
		json_object_put(row.made_of);
	}
	if (list.json)
		print_json(json);
	if (list.id >= 0 && !found)
		status = complain("there is no device %d; 'ublk-bpf list' shows all", list.id);
	ublk_bpf_ctrl_close(ctrl);
	free(ids);
	return status;
}
