// SPDX-License-Identifier: GPL-2.0
/* Which files names in an image may open: targets/qcow2/names.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "targets/qcow2/names.h"

static char top[] = "/tmp/qcow2_names.XXXXXX";
static struct qcow2_why why;

static void make(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	close(fd);
}

/* Images in images/, secrets elsewhere. */
static int set_up(void **state)
{
	assert_non_null(mkdtemp(top));
	assert_int_equal(chdir(top), 0);
	assert_int_equal(mkdir("images", 0700) | mkdir("images/below", 0700), 0);
	assert_int_equal(mkdir("shared", 0700) | mkdir("shared/deep", 0700), 0);
	assert_int_equal(mkdir("shared2", 0700), 0);
	make("images/top");
	make("images/base");
	make("images/with:colon");
	make("images/below/base");
	make("secret");
	make("shared/deep/base");
	make("shared2/base");
	assert_int_equal(symlink("../secret", "images/link"), 0);
	assert_int_equal(symlink("base", "images/good"), 0);
	assert_int_equal(symlink("images/top", "outside"), 0);
	assert_int_equal(symlink("..", "shared/up"), 0);
	assert_int_equal(mknod("images/disk", S_IFBLK | 0600, makedev(7, 200)), 0);
	assert_int_equal(mkfifo("images/fifo", 0600), 0);
	return 0;
}

static int tear_down(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", top);
	return chdir("/") | system(command);
}

/* What name @name in image @image opens. Return: 0, or why not. */
static int find(const struct qcow2_trust *trust, const char *image, const char *name,
		const char *file)
{
	struct stat is, is_to_be;
	int fd = qcow2_find_named(trust, image, name, "backing file", &why);

	if (fd < 0)
		return fd;
	assert_int_equal(fstat(fd, &is), 0);
	assert_int_equal(stat(file, &is_to_be), 0);
	assert_int_equal(is.st_ino, is_to_be.st_ino);
	close(fd);
	return 0;
}

static const struct qcow2_trust nobody;

static void what_lies_beside_the_image_is_opened(void **state)
{
	char absolute[128];

	assert_int_equal(find(&nobody, "images/top", "base", "images/base"), 0);
	assert_int_equal(find(&nobody, "images/top", "./base", "images/base"), 0);
	assert_int_equal(find(&nobody, "images/top", "below/../base", "images/base"), 0);
	assert_int_equal(find(&nobody, "images/top", "good", "images/base"), 0);
	assert_int_equal(find(&nobody, "images/top", "./with:colon", "images/with:colon"), 0);
	/* the image's folder is where it is, not where a link to it is */
	assert_int_equal(find(&nobody, "outside", "base", "images/base"), 0);
	snprintf(absolute, sizeof(absolute), "%s/images/base", top);
	assert_int_equal(find(&nobody, "images/top", absolute, "images/base"), 0);
}

static void what_lies_elsewhere_is_not(void **state)
{
	char absolute[128];

	snprintf(absolute, sizeof(absolute), "%s/secret", top);
	assert_int_equal(find(&nobody, "images/top", "../secret", NULL), -EPERM);
	assert_non_null(strstr(why.text, "'../secret'"));
	assert_non_null(strstr(why.text, "-b FILE or --allow DIR"));
	assert_int_equal(find(&nobody, "images/top", absolute, NULL), -EPERM);
	assert_int_equal(find(&nobody, "images/top", "link", NULL), -EPERM);
	assert_int_equal(find(&nobody, "images/top", "below/base", NULL), -EPERM);
	assert_int_equal(find(&nobody, "images/top", "/etc/passwd", NULL), -EPERM);
	assert_int_equal(find(&nobody, "images/top", "nothing", NULL), -ENOENT);
	/* devices lie beside each other, and do not belong together */
	assert_int_equal(find(&nobody, "images/disk", "base", NULL), -EPERM);
}

static void what_the_user_has_named_is_opened(void **state)
{
	const char *files[] = { "nothing", "secret" }, *folders[] = { "nothing", "shared" };
	const struct qcow2_trust by_file = { .files = files, .nr_files = 2 };
	const struct qcow2_trust by_folder = { .folders = folders, .nr_folders = 2 };

	assert_int_equal(find(&by_file, "images/top", "../secret", "secret"), 0);
	assert_int_equal(find(&by_file, "images/top", "link", "secret"), 0);
	assert_int_equal(find(&by_file, "images/disk", "../secret", "secret"), 0);
	assert_int_equal(find(&by_file, "images/top", "../shared/deep/base", NULL), -EPERM);
	assert_int_equal(find(&by_folder, "images/top", "../shared/deep/base", "shared/deep/base"), 0);
	assert_int_equal(find(&by_folder, "images/top", "../shared2/base", NULL), -EPERM);
	assert_int_equal(find(&by_folder, "images/top", "../shared/up/secret", NULL), -EPERM);
	assert_int_equal(find(&by_folder, "images/top", "../secret", NULL), -EPERM);
}

static void names_of_anything_else_are_refused(void **state)
{
	static const char *const names[] = {
		"json:{\"driver\":\"file\",\"filename\":\"base\"}", "nbd://localhost", "file:base",
		"fat:rw:/etc", "with:colon",
	};
	const char *folders[] = { "/" };
	const struct qcow2_trust all = { .folders = folders, .nr_folders = 1 };
	unsigned int i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(find(&all, "images/top", names[i], NULL), -EINVAL);
		assert_non_null(strstr(why.text, "is no name of a file"));
	}
	assert_int_equal(find(&all, "images/top", "fifo", NULL), -EINVAL);
	assert_int_equal(find(&all, "images/top", "below", NULL), -EINVAL);
	assert_int_equal(find(&all, "images/top", "/dev/null", NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_lies_beside_the_image_is_opened),
		cmocka_unit_test(what_lies_elsewhere_is_not),
		cmocka_unit_test(what_the_user_has_named_is_opened),
		cmocka_unit_test(names_of_anything_else_are_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
