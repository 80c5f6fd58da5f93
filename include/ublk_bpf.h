/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libublk-bpf: make a ublk device, give it a BPF program and backings, and be
 * the server of what the program does not do.
 *
 * Every function returns 0 or a non-negative value, or a negative errno, unless
 * its comment says otherwise. No function prints. What is worth a sentence is
 * kept with the device: ublk_bpf_dev_error().
 *
 * A new target is a struct ublk_bpf_target and a few lines of main():
 *
 *	ublk_bpf_dev_new(&my_target, &args, &dev);
 *	ret = ublk_bpf_dev_start(dev);		(the disk is there now)
 *	if (!ret)
 *		ret = ublk_bpf_dev_wait(dev);	(until it is deleted, or SIGTERM)
 *	else
 *		fprintf(stderr, "%s\n", ublk_bpf_dev_error(dev));
 *	ublk_bpf_dev_free(dev);
 */
#ifndef UBLK_BPF_H
#define UBLK_BPF_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/ublk_cmd.h>
#include <linux/ublk_bpf.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UBLK_BPF_VERSION	"0.1.0"

/* What a device has when nothing else is asked for. */
#define UBLK_BPF_DEFAULT_QUEUES		1
#define UBLK_BPF_DEFAULT_DEPTH		128
#define UBLK_BPF_DEFAULT_IO_BYTES	(512U << 10)

/* Where programs are pinned, one folder a device, while the device lives. */
#define UBLK_BPF_PIN_DIR	"/sys/fs/bpf/ublk-bpf"

struct bpf_object;
struct ublk_bpf_ctrl;
struct ublk_bpf_dev;

/*
 * Words of the command line
 */

/**
 * struct ublk_bpf_file - a file or block device, or a part of it
 * @path:	its name
 * @start:	first byte of the part
 * @bytes:	length of the part; 0: up to the end
 */
struct ublk_bpf_file {
	char *path;
	__u64 start;
	__u64 bytes;
};

/**
 * ublk_bpf_parse_size() - read a number of bytes: digits and perhaps k, M, G or T
 * @text:	what to read, all of it; suffixes are powers of 1024, in either case
 * @bytes:	the result
 *
 * Return: 0, -EINVAL no such number, -ERANGE it does not fit 63 bits.
 */
int ublk_bpf_parse_size(const char *text, __u64 *bytes);

/**
 * ublk_bpf_parse_time() - read a time: digits and ns, us, ms or s
 * @text:	what to read, all of it
 * @ns:		the result, in nanoseconds
 *
 * Return: 0, -EINVAL no such time, -ERANGE it does not fit 63 bits.
 */
int ublk_bpf_parse_time(const char *text, __u64 *ns);

/**
 * ublk_bpf_parse_share() - read a share: 0% to 100%, with decimals
 * @text:	what to read, all of it
 * @share:	the result, in parts of 2^32
 *
 * Return: 0, -EINVAL no such share, -ERANGE above 100% or too many decimals.
 */
int ublk_bpf_parse_share(const char *text, __u64 *share);

/**
 * ublk_bpf_parse_file() - read FILE[,start=BYTES][,length=BYTES]
 * @text:	what to read; only words after the last file name character are
 *		options, so that a name can contain commas and colons
 * @file:	the result; free() its path
 *
 * Return: 0, -EINVAL (no name, bad number), -EDOM length 0, -ERANGE, -ENOMEM.
 */
int ublk_bpf_parse_file(const char *text, struct ublk_bpf_file *file);

/*
 * Control commands. Each is one command on /dev/ublk-control; they may be used
 * by any process and at any time. -ETIMEDOUT: the kernel did not answer in time
 * (ublk_bpf_ctrl_set_timeout()), the command is still under way, and the next
 * one waits for it. -ENODEV: no such device.
 */

/**
 * ublk_bpf_ctrl_open() - open /dev/ublk-control
 * @ctrl:	the result
 *
 * Return: 0, -ENOENT the module is not loaded, -EACCES / -EPERM not root,
 * -ENOMEM, -ENOSYS no io_uring.
 */
int ublk_bpf_ctrl_open(struct ublk_bpf_ctrl **ctrl);
void ublk_bpf_ctrl_close(struct ublk_bpf_ctrl *ctrl);

/* Seconds that a command may take; 0: for ever. 30 at first. */
void ublk_bpf_ctrl_set_timeout(struct ublk_bpf_ctrl *ctrl, unsigned int seconds);

/* UBLK_F_* that the driver knows; UBLK_F_BPF among them is what this is about. */
int ublk_bpf_get_features(struct ublk_bpf_ctrl *ctrl, __u64 *features);

int ublk_bpf_get_info(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
		      struct ublksrv_ctrl_dev_info *info);
int ublk_bpf_get_params(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
			struct ublk_params *params);
int ublk_bpf_get_stats(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
		       struct ublk_bpf_stats *stats);

/**
 * ublk_bpf_add() - ADD_DEV
 * @ctrl:	open control device
 * @info:	dev_id ((__u32)-1: any free one), nr_hw_queues, queue_depth,
 *		max_io_buf_bytes and flags are asked for; the driver stores what
 *		it gave. It clears flags it does not know.
 *
 * Return: 0, -EEXIST the number is taken, -EINVAL, -EPERM, -ENOMEM.
 */
int ublk_bpf_add(struct ublk_bpf_ctrl *ctrl, struct ublksrv_ctrl_dev_info *info);
int ublk_bpf_set_params(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id,
			struct ublk_params *params);

/* START_DEV: makes the disk; waits until every queue has fetched. */
int ublk_bpf_start(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, int server_pid);

/*
 * START_USER_RECOVERY: a new server is to come. -EBUSY: the old one is still there;
 * -EINVAL: the device does not live without. END_USER_RECOVERY: waits until every
 * queue has fetched, then what waited for a server goes on.
 */
int ublk_bpf_start_recovery(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id);
int ublk_bpf_end_recovery(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, int server_pid);

/* STOP_DEV: takes the disk away, whoever has it open, and ends the queues. */
int ublk_bpf_stop(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id);

/* DEL_DEV: returns when the number is free again: all openers have closed. */
int ublk_bpf_delete(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id);

/* UBLK_U_CMD_BPF_*, see linux/ublk_bpf.h for flags and errors. */
int ublk_bpf_attach(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, __u32 prog_id,
		    __u32 flags, __u64 cookie);
int ublk_bpf_detach(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id);
int ublk_bpf_set_slot(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, unsigned int slot,
		      int fd, __u32 flags);
int ublk_bpf_clear_slot(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, unsigned int slot);
int ublk_bpf_set_disk_size(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, __u64 bytes);

/* Return: a new descriptor of the backing's open file. */
int ublk_bpf_get_slot(struct ublk_bpf_ctrl *ctrl, unsigned int dev_id, unsigned int slot);

/**
 * ublk_bpf_map_open() - a map of a device's program
 * @dev_id:	number of the device, added by ublk_bpf_dev_start()
 * @name:	of the map, as in the object
 *
 * Return: a new descriptor, -ENOENT there is no such map, -EACCES / -EPERM.
 */
int ublk_bpf_map_open(unsigned int dev_id, const char *name);

/* Remove what is pinned for a device that is gone. 0 also if there was nothing. */
int ublk_bpf_unpin(unsigned int dev_id);

/*
 * Targets
 */

/**
 * struct ublk_bpf_option - an option that only one target has
 * @name:	what it is called on the command line, after --; of one letter: after -
 * @arg:	what its value is called there, such as TIME
 * @help:	what it is for
 * @parse:	makes a number of the value, as ublk_bpf_parse_size() does; NULL: it is the name
 *		of a file or folder, and the option can be given more than once
 * @needs:	what is said when it cannot, such as "a time such as 10ms is needed";
 *		NULL: that an @arg is needed
 */
struct ublk_bpf_option {
	const char *name;
	const char *arg;
	const char *help;
	int (*parse)(const char *text, __u64 *value);
	const char *needs;
};

/* One that was given. */
struct ublk_bpf_setting {
	const struct ublk_bpf_option *option;
	const char *text;
	__u64 value;
};

/* What becomes of a device whose server died. */
enum ublk_bpf_recover {
	UBLK_BPF_RECOVER_NONE,	/* it ends */
	UBLK_BPF_RECOVER_WAIT,	/* it lives; what needs a server waits for a new one */
	UBLK_BPF_RECOVER_FAIL,	/* it lives; what needs a server fails until then */
};

/**
 * struct ublk_bpf_args - what was asked for when a device was added
 * @dev_id:		number of the device; -1: any free one
 * @nr_queues:		hardware queues, each with a thread of the server; 0: default
 * @depth:		I/Os in flight a queue; 0: default
 * @files:		backings, in the order of their slots
 * @nr_files:		how many
 * @read_only:		the device cannot be written
 * @buffered:		files are used by way of the page cache
 * @size:		bytes of the device; 0: not said
 * @server:		no program: the server does everything
 * @fallback:		when the program is gone the server does everything
 * @recover:		what becomes of it when its server dies
 * @object:		BPF object file (target prog)
 * @ops:		which of its struct ublk_bpf_ops; NULL: the only one
 * @settings:		options of the target's own, see ublk_bpf_args_get()
 * @nr_settings:	how many
 */
struct ublk_bpf_args {
	int dev_id;
	unsigned int nr_queues;
	unsigned int depth;
	struct ublk_bpf_file *files;
	unsigned int nr_files;
	bool read_only;
	bool buffered;
	__u64 size;
	bool server;
	bool fallback;
	enum ublk_bpf_recover recover;
	const char *object;
	const char *ops;
	struct ublk_bpf_setting *settings;
	unsigned int nr_settings;
};

/* The value of the option --@name; @otherwise when it was not given. */
__u64 ublk_bpf_args_get(const struct ublk_bpf_args *args, const char *name, __u64 otherwise);

/* What was given the @nr-th time, from 0 on, for the option --@name; NULL: not so often. */
const char *ublk_bpf_args_text(const struct ublk_bpf_args *args, const char *name,
			       unsigned int nr);

/* struct ublk_bpf_target.options: what of struct ublk_bpf_args it understands */
#define UBLK_BPF_OPT_FILE	(1U << 0)	/* needs exactly one file */
#define UBLK_BPF_OPT_FILES	(1U << 1)	/* takes any number of files */
#define UBLK_BPF_OPT_READ_ONLY	(1U << 2)
#define UBLK_BPF_OPT_SIZE	(1U << 3)
#define UBLK_BPF_OPT_SERVER	(1U << 4)
#define UBLK_BPF_OPT_OBJECT	(1U << 5)	/* needs an object file */
#define UBLK_BPF_OPT_FALLBACK	(1U << 6)
#define UBLK_BPF_OPT_BUFFERED	(1U << 7)
#define UBLK_BPF_OPT_WHOLE	(1U << 8)	/* uses a file as a whole, whatever its size is */

/**
 * struct ublk_bpf_counter - something that a target counts of a device
 * @name:	a word
 * @value:	how many so far
 * @of_next:	it and the next one make a whole, of which its share is of interest
 */
struct ublk_bpf_counter {
	const char *name;
	__u64 value;
	bool of_next;
};

/**
 * struct ublk_bpf_target - a kind of device: its program and its server half
 * @name:	what it is called on the command line
 * @help:	one line that says what it is
 * @options:	UBLK_BPF_OPT_*
 * @own_options: further ones, up to one without a name; NULL: none
 *
 * @init:	open what is needed and describe the device: parameters
 *		(ublk_bpf_dev_set_size() and others, ublk_bpf_dev_params()) and
 *		backings (ublk_bpf_dev_open_backings(), ublk_bpf_dev_open_backing()).
 *		Nothing exists yet; or the device does, and is to be served again: then
 *		it stays as it is.
 * @open_program: open the BPF object and set its variables; it is loaded by the
 *		caller. Asked again when the program's id was taken by another;
 *		not for a device that is served again, whose program lives on:
 *		ublk_bpf_map_open(). NULL: a target without a program.
 * @close_program: undo @open_program, loaded or not; attached links live on.
 * @prepare:	the program is attached, or found again, and its maps can be opened; I/O
 *		comes next. NULL: nothing is to be done
 * @handle_io:	serve one I/O. Runs in the queue's thread; must not allocate, or
 *		wait for anything that needs this device. @buf holds the data of
 *		a write, and is to be filled by a read.
 *		Return: bytes done, or a negative errno; -EAGAIN asks the program
 *		again.
 * @pause:	others may change the backings until @reload, which is called next, even if
 *		that takes minutes: I/O that needs the server waits. NULL: nothing is to
 *		be done
 * @reload:	the backings may have another size, or hold another one: say what the
 *		device has of it, by ublk_bpf_dev_set_size(). @handle_io may run at the
 *		same time. NULL: such devices cannot be reloaded
 * @counters:	what the server of device @dev_id has counted so far, which may be another
 *		process: at most @max. Return: how many, or a negative errno. NULL: nothing
 * @deinit:	undo @init, also when that failed
 *
 * A callback that fails says why by ublk_bpf_dev_fail().
 */
struct ublk_bpf_target {
	const char *name;
	const char *help;
	unsigned int options;
	const struct ublk_bpf_option *own_options;

	int (*init)(struct ublk_bpf_dev *dev, const struct ublk_bpf_args *args);
	int (*open_program)(struct ublk_bpf_dev *dev, struct bpf_object **obj);
	void (*close_program)(struct ublk_bpf_dev *dev);
	int (*prepare)(struct ublk_bpf_dev *dev);
	int (*handle_io)(struct ublk_bpf_dev *dev, unsigned int queue, unsigned int tag,
			 const struct ublksrv_io_desc *iod, void *buf);
	int (*pause)(struct ublk_bpf_dev *dev);
	int (*reload)(struct ublk_bpf_dev *dev);
	int (*counters)(unsigned int dev_id, struct ublk_bpf_counter *counters, unsigned int max);
	void (*deinit)(struct ublk_bpf_dev *dev);
};

/**
 * ublk_bpf_dev_new() - a device to be; no kernel object yet
 * @target:	its kind; must outlive it
 * @args:	what was asked for; must outlive it
 * @dev:	the result
 */
int ublk_bpf_dev_new(const struct ublk_bpf_target *target, const struct ublk_bpf_args *args,
		     struct ublk_bpf_dev **dev);

/**
 * ublk_bpf_dev_start() - add the device, load and attach its program, run its queues
 * @dev:	from ublk_bpf_dev_new()
 *
 * SIGTERM and SIGINT are blocked in the calling thread from here on:
 * ublk_bpf_dev_wait() takes them. The process becomes an I/O flusher and its
 * memory is locked, so that it cannot wait for its own device to write pages.
 * After a failure everything is undone and only ublk_bpf_dev_error() and
 * ublk_bpf_dev_free() may be called.
 *
 * Return: 0: the disk /dev/ublkbN is there; or a negative errno.
 */
int ublk_bpf_dev_start(struct ublk_bpf_dev *dev);

/**
 * ublk_bpf_dev_recover() - be the new server of a device whose server died
 * @dev:	from ublk_bpf_dev_new(), with its number and what it was made with
 *
 * Its program, maps, backings and parameters are those it has. Instead of
 * ublk_bpf_dev_start(), and like it; but after a failure the device is as it was,
 * without a server.
 *
 * Return: 0, or a negative errno.
 */
int ublk_bpf_dev_recover(struct ublk_bpf_dev *dev);

/**
 * ublk_bpf_dev_wait() - be the server until the device ends
 * @dev:	a started device
 *
 * Ends when the device is stopped by anybody, or on SIGTERM or SIGINT, which
 * stop it.
 *
 * Return: 0 stopped by somebody else, 1 by a signal; or a negative errno.
 */
int ublk_bpf_dev_wait(struct ublk_bpf_dev *dev);

/*
 * The same, but return 2 when descriptor @fd can be read, 3 when there is something new that
 * ublk_bpf_dev_trouble() says; wait again after that.
 */
int ublk_bpf_dev_wait_fd(struct ublk_bpf_dev *dev, int fd);

/*
 * For handle_io: the device goes on, and not as it should, for which this is the reason. The
 * first one counts, until a reload succeeds. From any thread.
 */
void ublk_bpf_dev_warn(struct ublk_bpf_dev *dev, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What it said. NULL: nothing. */
const char *ublk_bpf_dev_trouble(const struct ublk_bpf_dev *dev);

/*
 * Before what is behind a device is changed by somebody whom the device would keep from that,
 * and ublk_bpf_dev_reload() @dev, NULL, which must follow: let go of it. I/O that needs the
 * server waits. Return: 0, -EOPNOTSUPP such devices cannot be reloaded, or as the target.
 */
int ublk_bpf_dev_pause(struct ublk_bpf_dev *dev);

/**
 * ublk_bpf_dev_reload() - take over what has changed behind a device
 * @dev:	a device that is served; between two calls of ublk_bpf_dev_wait_fd()
 * @file:	what is to be its only backing from now on; it must stay as it is until
 *		the next one. NULL: the same as before, which may have grown
 *
 * I/O goes on meanwhile. What was read from the old backing is forgotten; what was
 * written and is not there yet goes to the new one: sync before. After a failure the
 * device is as it was.
 *
 * Return: 0; 1 it has the new file, and ublk_bpf_dev_error() says what failed after that;
 * -EOPNOTSUPP its target cannot, or it has no program; or as
 * ublk_bpf_dev_open_backings().
 */
int ublk_bpf_dev_reload(struct ublk_bpf_dev *dev, const struct ublk_bpf_file *file);

/*
 * End the queues and remove the pins; with @remove delete the device, too. A
 * driver that does not answer in time is left alone: then the process is to
 * exit, which makes the driver end the device.
 */
void ublk_bpf_dev_end(struct ublk_bpf_dev *dev, bool remove);

/* Free it; what still runs is ended and deleted first. */
void ublk_bpf_dev_free(struct ublk_bpf_dev *dev);

/* Sentence about the last failure: REASON; WAY OUT. Never NULL. */
const char *ublk_bpf_dev_error(const struct ublk_bpf_dev *dev);

/* More about it, several lines (what the BPF verifier said); "" if there is none. */
const char *ublk_bpf_dev_error_detail(const struct ublk_bpf_dev *dev);

/* Keep a sentence for ublk_bpf_dev_error(). Return: @err. */
int ublk_bpf_dev_fail(struct ublk_bpf_dev *dev, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Number of a started device, N of /dev/ublkbN. */
unsigned int ublk_bpf_dev_id(const struct ublk_bpf_dev *dev);
const struct ublk_bpf_args *ublk_bpf_dev_args(const struct ublk_bpf_dev *dev);

/* Hardware queues, and I/Os in flight of each, once the driver has agreed. */
unsigned int ublk_bpf_dev_nr_queues(const struct ublk_bpf_dev *dev);
unsigned int ublk_bpf_dev_depth(const struct ublk_bpf_dev *dev);

/* The target's own data. */
void *ublk_bpf_dev_priv(const struct ublk_bpf_dev *dev);
void ublk_bpf_dev_set_priv(struct ublk_bpf_dev *dev, void *priv);

/*
 * For init. Parameters start as: nothing but basic ones, 512-byte logical and
 * 4096-byte physical blocks, the largest I/O, no size, and read-only if asked.
 */
struct ublk_params *ublk_bpf_dev_params(struct ublk_bpf_dev *dev);
void ublk_bpf_dev_set_size(struct ublk_bpf_dev *dev, __u64 bytes);

/* Block sizes in bytes, powers of two. */
void ublk_bpf_dev_set_block_size(struct ublk_bpf_dev *dev, unsigned int logical,
				 unsigned int physical);

/*
 * Backings
 */

/**
 * struct ublk_bpf_backing - an open file or block device that I/O goes to
 * @fd:			its descriptor
 * @start:		first byte of the part that is used
 * @bytes:		length of that part
 * @logical_block:	what positions and sizes must be a multiple of
 * @physical_block:	what it writes at a time
 * @discard_unit:	what it discards at a time, in bytes; 0: it has no discard
 * @is_block:		a block device
 */
struct ublk_bpf_backing {
	int fd;
	__u64 start;
	__u64 bytes;
	unsigned int logical_block;
	unsigned int physical_block;
	unsigned int discard_unit;
	bool is_block;
};

/**
 * ublk_bpf_dev_open_backings() - for init: open, lock and measure what the args name
 * @dev:	its files become backings 0, 1, ..., by which the driver is to know
 *		them; where a sentence about a failure is kept
 *
 * A block device is opened exclusively, a regular file is locked (flock), so that
 * nothing that is used otherwise is overwritten; with read_only among the args they are
 * shared with other readers. Both last as long as the open file, which the driver keeps.
 * Parts of one file are one open file. Of a device that is served again each is taken
 * back from the driver: the very open file, with its locks. I/O to them is direct, unless
 * the args say that it is buffered, which block devices are not.
 *
 * The device is described as one that can do what all of them can: block sizes,
 * flushes and FUA, zeroes written, discards if all of them take them.
 *
 * Return: 0, or what open(2), flock(2) say; -EINVAL one's type, size or alignment does
 * not do, parts overlap, or there are too many.
 */
int ublk_bpf_dev_open_backings(struct ublk_bpf_dev *dev);

/**
 * ublk_bpf_dev_open_backing() - for init: open, lock and measure one more file
 * @dev:	it becomes its next backing; where a sentence about a failure is kept
 * @path:	its name
 * @read_only:	it is not written, and shared with other readers
 *
 * As ublk_bpf_dev_open_backings(), but all of the file is used, whatever its size is and
 * becomes, and the device is not described.
 *
 * Return: as ublk_bpf_dev_open_backings().
 */
int ublk_bpf_dev_open_backing(struct ublk_bpf_dev *dev, const char *path, bool read_only);

/* Open until after deinit. Backing @nr is one of the first ublk_bpf_dev_nr_backings(). */
const struct ublk_bpf_backing *ublk_bpf_dev_backing(const struct ublk_bpf_dev *dev,
						    unsigned int nr);
unsigned int ublk_bpf_dev_nr_backings(const struct ublk_bpf_dev *dev);

/**
 * ublk_bpf_backing_io() - a handle_io that serves an I/O from a backing
 * @backing:	open backing
 * @iod:	the I/O; the device's byte 0 is the backing's @start
 * @buf:	its data
 *
 * Return: bytes done or a negative errno; a read past the end gives zeroes.
 */
int ublk_bpf_backing_io(const struct ublk_bpf_backing *backing,
			const struct ublksrv_io_desc *iod, void *buf);

/**
 * struct ublk_bpf_piece - a part of an I/O that lies in one piece on one backing
 * @backing:	number of the backing
 * @pos:	its first byte there, from the backing's @start
 * @bytes:	how long it is
 */
struct ublk_bpf_piece {
	unsigned int backing;
	__u64 pos;
	__u32 bytes;
};

/**
 * ublk_bpf_dev_io_by_pieces() - a handle_io over several backings
 * @dev:	device
 * @iod:	the I/O; a flush goes to each backing
 * @buf:	its data
 * @map:	says where byte @pos of the device is; makes @piece->bytes, what is left of
 *		the I/O, less where that is not in one piece
 *
 * Return: bytes done or a negative errno.
 */
int ublk_bpf_dev_io_by_pieces(struct ublk_bpf_dev *dev, const struct ublksrv_io_desc *iod,
			      void *buf,
			      void (*map)(struct ublk_bpf_dev *dev, __u64 pos,
					  struct ublk_bpf_piece *piece));

#ifdef __cplusplus
}
#endif
#endif
