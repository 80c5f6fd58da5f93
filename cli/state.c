// SPDX-License-Identifier: GPL-2.0
/*
 * What is to be known of a device after its server died: one JSON file a device
 * in /run/ublk-bpf, written once, whole or not at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli.h"

#define STATE_VERSION	1

static void state_path(char *path, size_t size, unsigned int id, const char *suffix)
{
	snprintf(path, size, STATE_DIR "/%u.json%s", id, suffix);
}

/* Names must mean the same in another folder; one that is gone stays as it is. */
static struct json_object *path_json(const char *path)
{
	char *real = realpath(path, NULL);
	struct json_object *json = json_object_new_string(real ? real : path);

	free(real);
	return json;
}

static struct json_object *file_json(const struct ublk_bpf_file *file)
{
	struct json_object *json = json_object_new_object();

	json_object_object_add(json, "path", path_json(file->path));
	json_object_object_add(json, "start", json_object_new_uint64(file->start));
	json_object_object_add(json, "length", json_object_new_uint64(file->bytes));
	return json;
}

static struct json_object *state_json(unsigned int id, const struct ublk_bpf_target *target,
				      const struct ublk_bpf_args *args)
{
	struct json_object *json = json_object_new_object();
	struct json_object *files = json_object_new_array();
	struct json_object *options = json_object_new_object();
	unsigned int i;

	json_object_object_add(json, "version", json_object_new_int(STATE_VERSION));
	json_object_object_add(json, "id", json_object_new_int(id));
	json_object_object_add(json, "target", json_object_new_string(target->name));
	json_object_object_add(json, "server_pid", json_object_new_int(getpid()));
	json_object_object_add(json, "queues", json_object_new_int(args->nr_queues));
	json_object_object_add(json, "depth", json_object_new_int(args->depth));
	json_object_object_add(json, "size", json_object_new_uint64(args->size));
	json_object_object_add(json, "read_only", json_object_new_boolean(args->read_only));
	json_object_object_add(json, "server", json_object_new_boolean(args->server));
	json_object_object_add(json, "fallback", json_object_new_boolean(args->fallback));
	if (args->object)
		json_object_object_add(json, "object", path_json(args->object));
	if (args->ops)
		json_object_object_add(json, "ops", json_object_new_string(args->ops));
	for (i = 0; i < args->nr_files; i++)
		json_object_array_add(files, file_json(&args->files[i]));
	json_object_object_add(json, "files", files);
	for (i = 0; i < args->nr_settings; i++)
		json_object_object_add(options, args->settings[i].option->name,
				       json_object_new_string(args->settings[i].text));
	json_object_object_add(json, "options", options);
	return json;
}

int state_save(unsigned int id, const struct ublk_bpf_target *target,
	       const struct ublk_bpf_args *args)
{
	struct json_object *json;
	char path[64], temp[64];
	int ret = 0;

	if (mkdir(STATE_DIR, 0755) && errno != EEXIST)
		return -errno;
	state_path(path, sizeof(path), id, "");
	state_path(temp, sizeof(temp), id, ".new");
	json = state_json(id, target, args);
	if (json_object_to_file_ext(temp, json, JSON_C_TO_STRING_PRETTY |
				    JSON_C_TO_STRING_NOSLASHESCAPE))
		ret = -EIO;
	else if (rename(temp, path))
		ret = -errno;
	if (ret)
		unlink(temp);
	json_object_put(json);
	return ret;
}

struct json_object *state_load(unsigned int id)
{
	char path[64];

	state_path(path, sizeof(path), id, "");
	return json_object_from_file(path);
}

void state_remove(unsigned int id)
{
	char path[64];

	state_path(path, sizeof(path), id, "");
	unlink(path);
}
