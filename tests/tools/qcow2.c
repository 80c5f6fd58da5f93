// SPDX-License-Identifier: GPL-2.0
/*
 * qcow2 IMAGE MODEL OPERATIONS [DATA]
 *
 * Does random operations on the disk in IMAGE, and the same on MODEL, a raw file of that
 * size, and compares all of the two. DATA is its data file. Prints the seed, which is $SEED if there is one. With $KILLED
 * it flushes and goes, and IMAGE is not closed. Nothing of it but the engine of targets/qcow2
 * is qcow2.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "targets/qcow2/chain.h"
#include "targets/qcow2/file.h"
#include "targets/qcow2/image.h"

#define TABLES		4
#define MOST_SECTORS	1000

static void die(const char *what, const char *why)
{
	fprintf(stderr, "qcow2: %s: %s\n", what, why);
	exit(1);
}

/* Nobody pulls the plug. */
static int no_flush(struct qcow2_blk *blk)
{
	return 0;
}

static struct qcow2_blk *file_open(struct qcow2_file *file, const char *name)
{
	int fd = open(name, O_RDWR);

	if (fd < 0)
		die(name, strerror(errno));
	if (qcow2_file_init(file, fd, 512, false))
		die(name, "no memory");
	file->blk.flush = no_flush;
	return &file->blk;
}

static unsigned int seed;

static unsigned int chosen(unsigned int below)
{
	return rand_r(&seed) % below;
}

/* One operation on both. */
static int operate(struct qcow2_image *image, struct qcow2_blk *model, __u8 *buffer)
{
	unsigned int sectors = image->layout.size / 512, what = chosen(8);
	unsigned int first = chosen(sectors), nr = 1 + chosen(chosen(4) ? 16 : MOST_SECTORS), i;
	__u64 pos = first * 512ULL;
	size_t bytes;
	int ret;

	if (nr > sectors - first)
		nr = sectors - first;
	bytes = nr * 512UL;
	if (what == 7)
		return qcow2_image_flush(image);
	for (i = 0; i < bytes; i++)
		buffer[i] = what < 5 ? rand_r(&seed) : 0;
	ret = model->write(model, buffer, pos, bytes);
	if (ret)
		return ret;
	return what < 5 ? qcow2_image_write(image, buffer, pos, bytes) :
			  qcow2_image_zero(image, pos, bytes, what == 6);
}

static int compare(struct qcow2_image *image, struct qcow2_blk *model, __u8 *buffer)
{
	static __u8 wanted[MOST_SECTORS * 512];
	__u64 pos, size = image->layout.size;
	size_t bytes;
	int ret = 0;

	for (pos = 0; !ret && pos < size; pos += bytes) {
		bytes = size - pos < sizeof(wanted) ? size - pos : sizeof(wanted);
		ret = qcow2_image_read(image, buffer, pos, bytes) ?: model->read(model, wanted, pos, bytes);
		if (!ret && memcmp(buffer, wanted, bytes))
			die("the disk", "it is not what the model is");
	}
	return ret;
}

int main(int argc, char **argv)
{
	struct qcow2_file image_file, model_file, data_file = {};
	struct qcow2_blk *blk, *model, *data = NULL;
	const struct qcow2_trust trust = {};
	struct qcow2_chain *chain;
	static __u8 buffer[MOST_SECTORS * 512];
	const char *given = getenv("SEED");
	struct qcow2_memory memory;
	struct qcow2_layout layout;
	struct qcow2_image image;
	struct qcow2_why why;
	int operations, ret = 0;

	if (argc < 4) {
		fprintf(stderr, "qcow2 IMAGE MODEL OPERATIONS [DATA]\n");
		return 2;
	}
	seed = given ? strtoul(given, NULL, 0) : (unsigned long)time(NULL) ^ getpid();
	printf("seed %u\n", seed);
	blk = file_open(&image_file, argv[1]);
	model = file_open(&model_file, argv[2]);
	if (argc > 4)
		data = file_open(&data_file, argv[4]);

	if (qcow2_read_header(blk, &layout, &why) ||
	    qcow2_chain_open(&chain, image_file.fd, argv[1], blk, &layout, &trust, &why))
		die(argv[1], why.text);
	if (qcow2_memory_alloc(&memory, &layout, TABLES))
		die(argv[1], "no memory");
	if (qcow2_image_open(&image, blk, data, qcow2_chain_blk(chain), &layout, &memory, false,
			     &why))
		die(argv[1], why.text);
	for (operations = atoi(argv[3]); !ret && operations; operations--)
		ret = operate(&image, model, buffer);
	ret = ret ?: compare(&image, model, buffer);
	if (ret)
		die("an operation", strerror(-ret));
	if (getenv("KILLED"))
		_exit(qcow2_image_flush(&image) ? 1 : 0);
	ret = qcow2_image_close(&image);
	if (ret)
		die("close", strerror(-ret));
	qcow2_chain_close(chain);
	qcow2_file_free(&image_file);
	qcow2_file_free(&model_file);
	qcow2_file_free(&data_file);
	qcow2_memory_free(&memory);
	return 0;
}
