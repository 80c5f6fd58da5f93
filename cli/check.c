// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf check: can this machine run it, and if not, what is to be done? */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include "cli.h"

#define SECURE_BOOT	"/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

/* The series that the driver's hooks are written for. */
static const struct { unsigned int major, minor; } series[] = {
	{ 6, 12 },
	{ 7, 3 },
};

/**
 * struct finding - what a check found
 * @found:	what there is
 * @way_out:	what to do; empty: all is well
 */
struct finding {
	char found[160];
	char way_out[240];
};

static void found(struct finding *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void way_out(struct finding *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void found(struct finding *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->found, sizeof(f->found), format, args);
	va_end(args);
}

static void way_out(struct finding *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->way_out, sizeof(f->way_out), format, args);
	va_end(args);
}

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

static void check_kernel(struct finding *f)
{
	struct utsname name;
	unsigned int major, minor, i;

	uname(&name);
	found(f, "%s", name.release);
	if (sscanf(name.release, "%u.%u", &major, &minor) == 2)
		for (i = 0; i < sizeof(series) / sizeof(series[0]); i++)
			if (series[i].major == major && series[i].minor == minor)
				return;
	way_out(f, "boot Debian 13's kernel 6.12 (linux-image-amd64) or 7.3 (the same from trixie-backports)");
}

static void check_btf(struct finding *f)
{
	bool there = exists("/sys/kernel/btf/vmlinux");

	found(f, "/sys/kernel/btf/vmlinux is %s", there ? "there" : "missing");
	if (!there)
		way_out(f, "boot a kernel with CONFIG_DEBUG_INFO_BTF=y; Debian's have it");
}

static __u64 effective_caps(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	unsigned long long caps = 0;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	if (status)
		fclose(status);
	return caps;
}

static void check_privileges(struct finding *f)
{
	static const struct { unsigned int bit; const char *name; } needed[] = {
		{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN" },
		{ CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE" },
		{ CAP_IPC_LOCK, "CAP_IPC_LOCK" },
	};
	__u64 caps = effective_caps();
	unsigned int i;

	found(f, "user %u with all that is needed", geteuid());
	for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (caps & 1ULL << needed[i].bit)
			continue;
		found(f, "user %u without %s", geteuid(), needed[i].name);
		way_out(f, "run as root: sudo ublk-bpf ...");
	}
}

static void check_io_uring(struct finding *f)
{
	FILE *sysctl = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	int value = 0;

	if (sysctl) {
		if (fscanf(sysctl, "%d", &value) != 1)
			value = 0;
		fclose(sysctl);
	}
	found(f, "kernel.io_uring_disabled is %d", value);
	if (value == 2)
		way_out(f, "sysctl kernel.io_uring_disabled=0");
}

static void check_bpffs(struct finding *f)
{
	struct statfs fs;

	if (statfs("/sys/fs/bpf", &fs)) {
		found(f, "/sys/fs/bpf is missing");
		way_out(f, "boot a kernel with CONFIG_BPF_SYSCALL=y, and mount sysfs on /sys");
	} else {
		found(f, fs.f_type == BPF_FS_MAGIC ? "/sys/fs/bpf is mounted" :
		      "/sys/fs/bpf is not mounted yet, add does it");
	}
}

static void check_module(struct finding *f)
{
	bool btf = exists("/sys/kernel/btf/ublk_drv");

	if (!exists("/sys/module/ublk_drv")) {
		found(f, "ublk_drv is not loaded");
		way_out(f, "make && make install in ublk-bpf's source, then: modprobe ublk_drv");
		return;
	}
	found(f, "ublk_drv is loaded with%s BTF", btf ? "" : "out");
	if (!btf)
		way_out(f, "rebuild it with /sys/kernel/btf/vmlinux and pahole (package dwarves) there, then: rmmod ublk_drv && modprobe ublk_drv");
}

static void check_control(struct finding *f)
{
	bool there = exists("/dev/ublk-control");

	found(f, "/dev/ublk-control is %s", there ? "there" : "missing");
	if (!there)
		way_out(f, "modprobe ublk_drv");
}

static void check_programs(struct finding *f)
{
	struct ublk_bpf_ctrl *ctrl;
	unsigned int *ids;
	__u64 features;
	int ret, nr;

	ret = ublk_bpf_ctrl_open(&ctrl);
	if (ret) {
		found(f, "cannot ask the driver: %s", strerror(-ret));
		way_out(f, "cure the lines above and ask again");
		return;
	}
	ret = ublk_bpf_get_features(ctrl, &features);
	ublk_bpf_ctrl_close(ctrl);
	if (ret >= 0 && (features & UBLK_F_BPF)) {
		found(f, "the driver runs programs");
		return;
	}
	nr = list_devices(&ids);
	free(ids);
	if (nr > 0) {
		found(f, "the stock ublk_drv is loaded and in use by %d device%s", nr,
		      nr == 1 ? "" : "s");
		way_out(f, "delete its devices, then: rmmod ublk_drv && modprobe ublk_drv");
	} else {
		found(f, "the stock ublk_drv is loaded");
		way_out(f, "rmmod ublk_drv && modprobe ublk_drv (after make install)");
	}
}

static void check_secure_boot(struct finding *f)
{
	unsigned char value[5] = {};	/* four bytes of attributes first */
	int fd = open(SECURE_BOOT, O_RDONLY | O_CLOEXEC);
	bool on;

	on = fd >= 0 && read(fd, value, sizeof(value)) == sizeof(value) && value[4] == 1;
	if (fd >= 0)
		close(fd);
	found(f, "Secure Boot is %s", on ? "on" : "off");
	/* A module that is loaded was accepted. */
	if (on && !exists("/sys/kernel/btf/ublk_drv"))
		way_out(f, "an unsigned module is refused: sign ublk_drv.ko with an enrolled key (mokutil), or switch Secure Boot off");
}

static const struct {
	const char *name;
	void (*run)(struct finding *f);
} checks[] = {
	{ "kernel",		check_kernel },
	{ "btf",		check_btf },
	{ "privileges",		check_privileges },
	{ "io_uring",		check_io_uring },
	{ "bpffs",		check_bpffs },
	{ "secure-boot",	check_secure_boot },
	{ "module",		check_module },
	{ "control",		check_control },
	{ "programs",		check_programs },
};

static struct json_object *finding_json(const char *name, const struct finding *f)
{
	struct json_object *json = json_object_new_object();

	json_object_object_add(json, "name", json_object_new_string(name));
	json_object_object_add(json, "ok", json_object_new_boolean(!f->way_out[0]));
	json_object_object_add(json, "found", json_object_new_string(f->found));
	json_object_object_add(json, "way_out", f->way_out[0] ?
			       json_object_new_string(f->way_out) : NULL);
	return json;
}

int cmd_check(int argc, char **argv)
{
	struct json_object *array = json_object_new_array();
	bool json, ok = true;
	unsigned int i;

	json = parse_json_only(argc, argv, "Say whether this machine can run programs, and what to do for each 'no'.");
	for (i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		struct finding f = {};

		checks[i].run(&f);
		ok &= !f.way_out[0];
		if (json)
			json_object_array_add(array, finding_json(checks[i].name, &f));
		else
			printf("%s  %-11s  %s%s%s\n", f.way_out[0] ? "no" : "ok", checks[i].name,
			       f.found, f.way_out[0] ? "; " : "", f.way_out);
	}
	if (json)
		print_json(array);
	else
		json_object_put(array);
	return ok ? 0 : EXIT_FAILURE;
}
