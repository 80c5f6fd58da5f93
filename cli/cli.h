/* SPDX-License-Identifier: GPL-2.0 */
/* Shared by the commands of ublk-bpf. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stdio.h>
#include <json-c/json.h>
#include "ublk_bpf.h"

/* Exit statuses. EXIT_FAILURE, 1: it did not work. */
#define EXIT_USAGE	2

#define STATE_DIR	"/run/ublk-bpf"

/* targets.c */
extern const struct ublk_bpf_target *const targets[];
extern const unsigned int nr_targets;
const struct ublk_bpf_target *find_target(const char *name);

/* The option --@name of a target's own, or NULL. */
const struct ublk_bpf_option *find_own_option(const struct ublk_bpf_target *target,
					      const char *name);

/* Commands: argv[0] is their name. Return: exit status. */
int cmd_add(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_reload(int argc, char **argv);
int cmd_del(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_features(int argc, char **argv);

/* One line on stderr: "ublk-bpf: ...". Return: EXIT_FAILURE. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Read a number of at most @max; a usage error, and exit, if it is none. */
unsigned int parse_number(const char *text, unsigned int max, const char *option);

/* The same of something that there is at least one of. */
unsigned int parse_count(const char *text, unsigned int max, const char *option);

/*
 * The command line of a command that takes nothing but --json; @doc is its help.
 * A usage error, and exit, if there is more. Return: is JSON wanted?
 */
bool parse_json_only(int argc, char **argv, const char *doc);

/* Open the control device, or complain and return NULL. */
struct ublk_bpf_ctrl *open_control(void);

/* Load the module unless it is there. Failing is noticed by who uses it. */
void load_module(void);

/* Wait until /dev/ublkbN can be opened and udev is done. Return: 0 or -errno. */
int wait_usable(unsigned int id);

/* One line on stderr if a device has fewer queues than the @asked ones. */
void tell_fewer_queues(unsigned int id, unsigned int asked);

/* Print @json and drop it. */
void print_json(struct json_object *json);

/*
 * Devices that exist: their numbers, rising. Return: how many, or -errno; free()
 * the list.
 */
int list_devices(unsigned int **ids);

/* serve.c */

/**
 * struct service - a device to be served
 * @target:	its kind
 * @args:	what it is, or was, made of
 * @recover:	it is there, and its server died
 * @foreground:	stay
 */
struct service {
	const struct ublk_bpf_target *target;
	struct ublk_bpf_args args;
	bool recover;
	bool foreground;
};

/* Serve it, and print its path once it can be used. Return: exit status. */
int serve(struct service *service);

/* daemon.c */

/**
 * daemon_start() - go on as two processes, a server and one that speaks for it
 * @foreground:	the server is the process that calls, else a child in the background
 * @report_fd:	in the server: give the outcome here, by daemon_report_*()
 * @is_server:	which of the two it is
 *
 * Return: 0 in the server; in the other what it reported, as an exit status, with
 * the device's number in @id.
 */
int daemon_start(bool foreground, int *report_fd, unsigned int *id, bool *is_server);
void daemon_report_ready(int report_fd, unsigned int id);
void daemon_report_failure(int report_fd, const char *text);

/* users.c */

/* Does a device of ours lie on it, or on a partition of it? If so, a clause about that. */
bool find_upper(unsigned int id, char *text, size_t size);

/*
 * A clause about who uses the device, that who is to end that will understand.
 * Return: false if it is nobody with a name; then the clause says how to look.
 */
bool find_user(unsigned int id, char *text, size_t size);

/* reload.c */

/* In a server: where it is asked to reload, a descriptor or a negative errno. */
int reload_listen(unsigned int id);

/*
 * Answer one question; what another file changes in @args is kept with the state. Return: 2, or
 * as ublk_bpf_dev_wait_fd() when the device has ended meanwhile.
 */
int reload_answer(int listen_fd, struct ublk_bpf_dev *dev, const struct ublk_bpf_target *target,
		  struct ublk_bpf_args *args);
void reload_unlink(unsigned int id);

/* state.c */
int state_save(const struct ublk_bpf_dev *dev, const struct ublk_bpf_target *target,
	       const struct ublk_bpf_args *args);

/*
 * What the device was made of, out of its state, which is kept for that. Complains.
 * Return: 0 or EXIT_FAILURE.
 */
int state_args(unsigned int id, const struct ublk_bpf_target **target,
	       struct ublk_bpf_args *args);

/* A file in there, and back: free() its path. Return: 0 or -EINVAL. */
struct json_object *state_file_json(const struct ublk_bpf_file *file);
int state_file(struct json_object *json, struct ublk_bpf_file *file);

/* The word of --recover. Return: 0 or -EINVAL. */
int parse_recover(const char *text, enum ublk_bpf_recover *recover);

/* The device's state, or NULL; json_object_put() it. */
struct json_object *state_load(unsigned int id);
void state_remove(unsigned int id);

/* Numbers that have a state, as list_devices(). */
int list_states(unsigned int **ids);

#endif
