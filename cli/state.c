// SPDX-License-Identifier: GPL-2.0
/*
 * What is to be known of a device after its server died: one JSON file a device
 * in /run/ublk-bpf, written once, whole or not at all.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli.h"

#define STATE_VERSION	1

static const char *const recover_names[] = {
	[UBLK_BPF_RECOVER_WAIT]	= "wait",
	[UBLK_BPF_RECOVER_FAIL]	= "fail",
};

int parse_recover(const char *text, enum ublk_bpf_recover *recover)
{
	enum ublk_bpf_recover i;

	for (i = UBLK_BPF_RECOVER_WAIT; i <= UBLK_BPF_RECOVER_FAIL; i++) {
		if (strcmp(text, recover_names[i]))
			continue;
		*recover = i;
		return 0;
	}
	return -EINVAL;
}

static void state_path(char *path, size_t size, unsigned int id, const char *suffix)
{
	snprintf(path, size, STATE_DIR "/%u.json%s", id, suffix);
}

/* Names must mean the same in another folder, that of what is not there as well. */
static struct json_object *path_json(const char *path)
{
	char *real = realpath(path, NULL), folder[PATH_MAX];
	struct json_object *json;

	if (!real && path[0] != '/' && getcwd(folder, sizeof(folder)) &&
	    asprintf(&real, "%s/%s", folder, path) < 0)
		real = NULL;
	json = json_object_new_string(real ? real : path);
	free(real);
	return json;
}

struct json_object *state_file_json(const struct ublk_bpf_file *file)
{
	struct json_object *json = json_object_new_object();

	json_object_object_add(json, "path", path_json(file->path));
	json_object_object_add(json, "start", json_object_new_uint64(file->start));
	json_object_object_add(json, "length", json_object_new_uint64(file->bytes));
	return json;
}

/*
 * The parts that a device is made of stay as they are, however its files grow, unless it
 * can be reloaded, or its program knows nothing of parts.
 */
static struct ublk_bpf_file used_part(const struct ublk_bpf_dev *dev,
				      const struct ublk_bpf_target *target,
				      const struct ublk_bpf_args *args, unsigned int nr)
{
	struct ublk_bpf_file file = args->files[nr];

	if (!target->reload && !(target->options & (UBLK_BPF_OPT_OBJECT | UBLK_BPF_OPT_WHOLE)))
		file.bytes = ublk_bpf_dev_backing(dev, nr)->bytes;
	return file;
}

static struct json_object *state_json(const struct ublk_bpf_dev *dev,
				      const struct ublk_bpf_target *target,
				      const struct ublk_bpf_args *args)
{
	struct json_object *json = json_object_new_object();
	struct json_object *files = json_object_new_array();
	struct json_object *options = json_object_new_array();
	unsigned int i;

	json_object_object_add(json, "version", json_object_new_int(STATE_VERSION));
	json_object_object_add(json, "id", json_object_new_int(ublk_bpf_dev_id(dev)));
	json_object_object_add(json, "target", json_object_new_string(target->name));
	json_object_object_add(json, "server_pid", json_object_new_int(getpid()));
	json_object_object_add(json, "queues", json_object_new_int(args->nr_queues));
	json_object_object_add(json, "depth", json_object_new_int(args->depth));
	json_object_object_add(json, "size", json_object_new_uint64(args->size));
	json_object_object_add(json, "read_only", json_object_new_boolean(args->read_only));
	json_object_object_add(json, "buffered", json_object_new_boolean(args->buffered));
	json_object_object_add(json, "server", json_object_new_boolean(args->server));
	json_object_object_add(json, "fallback", json_object_new_boolean(args->fallback));
	if (args->recover)
		json_object_object_add(json, "recover",
				       json_object_new_string(recover_names[args->recover]));
	if (ublk_bpf_dev_trouble(dev))
		json_object_object_add(json, "trouble",
				       json_object_new_string(ublk_bpf_dev_trouble(dev)));
	if (args->object)
		json_object_object_add(json, "object", path_json(args->object));
	if (args->ops)
		json_object_object_add(json, "ops", json_object_new_string(args->ops));
	for (i = 0; i < args->nr_files; i++) {
		struct ublk_bpf_file file = used_part(dev, target, args, i);

		json_object_array_add(files, state_file_json(&file));
	}
	json_object_object_add(json, "files", files);
	for (i = 0; i < args->nr_settings; i++) {
		const struct ublk_bpf_setting *setting = &args->settings[i];
		struct json_object *option = json_object_new_object();

		json_object_object_add(option, "name", json_object_new_string(setting->option->name));
		json_object_object_add(option, "value", setting->option->parse ?
				       json_object_new_string(setting->text) : path_json(setting->text));
		json_object_array_add(options, option);
	}
	json_object_object_add(json, "options", options);
	return json;
}

int state_save(const struct ublk_bpf_dev *dev, const struct ublk_bpf_target *target,
	       const struct ublk_bpf_args *args)
{
	unsigned int id = ublk_bpf_dev_id(dev);
	struct json_object *json;
	char path[64], temp[64];
	int ret = 0;

	if (mkdir(STATE_DIR, 0755) && errno != EEXIST)
		return -errno;
	state_path(path, sizeof(path), id, "");
	state_path(temp, sizeof(temp), id, ".new");
	json = state_json(dev, target, args);
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

/* Members of @json; one that is not there is 0, false or NULL. */
static const char *get_string(struct json_object *json, const char *key)
{
	return json_object_get_string(json_object_object_get(json, key));
}

static __u64 get_number(struct json_object *json, const char *key)
{
	return json_object_get_uint64(json_object_object_get(json, key));
}

static bool get_bool(struct json_object *json, const char *key)
{
	return json_object_get_boolean(json_object_object_get(json, key));
}

int state_file(struct json_object *json, struct ublk_bpf_file *file)
{
	const char *path = get_string(json, "path");

	file->path = path ? strdup(path) : NULL;
	file->start = get_number(json, "start");
	file->bytes = get_number(json, "length");
	return file->path ? 0 : -EINVAL;
}

static int read_files(struct json_object *list, struct ublk_bpf_args *args)
{
	size_t nr = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	size_t i;

	args->files = calloc(nr + 1, sizeof(*args->files));
	if (!args->files)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		if (state_file(json_object_array_get_idx(list, i), &args->files[i]))
			return -EINVAL;
	args->nr_files = nr;
	return 0;
}

static int read_settings(struct json_object *options, const struct ublk_bpf_target *target,
			 struct ublk_bpf_args *args)
{
	size_t nr, i;

	if (!json_object_is_type(options, json_type_array))
		return -EINVAL;
	nr = json_object_array_length(options);
	args->settings = calloc(nr + 1, sizeof(*args->settings));
	if (!args->settings)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		struct json_object *option = json_object_array_get_idx(options, i);
		struct ublk_bpf_setting *setting = &args->settings[i];
		const char *name = get_string(option, "name");

		setting->option = name ? find_own_option(target, name) : NULL;
		setting->text = get_string(option, "value");
		if (!setting->option || !setting->text)
			return -EINVAL;
		if (setting->option->parse && setting->option->parse(setting->text, &setting->value))
			return -EINVAL;
		args->nr_settings++;
	}
	return 0;
}

static int read_args(struct json_object *json, const struct ublk_bpf_target *target,
		     struct ublk_bpf_args *args)
{
	const char *recover = get_string(json, "recover");
	int ret;

	if (get_number(json, "version") != STATE_VERSION)
		return -EINVAL;
	args->nr_queues = get_number(json, "queues");
	args->depth = get_number(json, "depth");
	args->size = get_number(json, "size");
	args->read_only = get_bool(json, "read_only");
	args->buffered = get_bool(json, "buffered");
	args->server = get_bool(json, "server");
	args->fallback = get_bool(json, "fallback");
	args->object = get_string(json, "object");
	args->ops = get_string(json, "ops");
	if (recover && parse_recover(recover, &args->recover))
		return -EINVAL;
	ret = read_files(json_object_object_get(json, "files"), args);
	return ret ? ret : read_settings(json_object_object_get(json, "options"), target, args);
}

int state_args(unsigned int id, const struct ublk_bpf_target **target,
	       struct ublk_bpf_args *args)
{
	struct json_object *json = state_load(id);
	const char *name = json ? get_string(json, "target") : NULL;

	if (!json)
		return complain("there is nothing noted of a device %u in " STATE_DIR "; 'ublk-bpf list' shows all",
				id);
	*target = name ? find_target(name) : NULL;
	args->dev_id = id;
	if (!*target || read_args(json, *target, args))
		return complain(STATE_DIR "/%u.json is not what this ublk-bpf has written; delete the device: ublk-bpf del -n %u",
				id, id);
	return 0;
}

void state_remove(unsigned int id)
{
	char path[64];

	state_path(path, sizeof(path), id, "");
	unlink(path);
	reload_unlink(id);
}
