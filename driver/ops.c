// SPDX-License-Identifier: GPL-2.0
/*
 * Programs: the struct_ops type, the registry by id, binding devices to a
 * program, and calling it.
 *
 * A callback runs inside an RCU (sleepable: SRCU) section that also covers
 * loading the pointer to the program. Whoever takes a program away swaps the
 * pointer and waits for both before the program's memory can go.
 *
 * struct ublk_bpf_ops stands here in full and nowhere else: a second copy in
 * the module's BTF would make the type ambiguous.
 */
#include <linux/bpf.h>
#include <linux/bpf_verifier.h>
#include <linux/btf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/xarray.h>
#include "internal.h"

struct ublk_bpf_ops {
	unsigned int id;
	unsigned long (*queue_io_cmd)(struct ublk_bpf_io *io, unsigned int off);
	unsigned long (*queue_io_cmd_daemon)(struct ublk_bpf_io *io, unsigned int off);
	void (*release_io_cmd)(struct ublk_bpf_io *io);
	int (*attach_dev)(int dev_id);
	void (*detach_dev)(int dev_id);
	int (*io_done)(struct ublk_bpf_io *io, unsigned int slot, unsigned int off,
		       unsigned int bytes, int res);
};

/* A registered program. Freed by unregistration, after the last callback. */
struct ublk_bpf_prog {
	const struct ublk_bpf_ops __rcu	*ops;	/* RCU and SRCU to read, ops_lock to write */
	struct list_head		devs;	/* attached, ops_lock */
};

static DEFINE_XARRAY(ublk_bpf_progs);		/* by id, ops_lock */
static DEFINE_MUTEX(ublk_bpf_ops_lock);
DEFINE_STATIC_SRCU(ublk_bpf_srcu);		/* sleepable callbacks */

/* What it is now. Under RCU or SRCU. */
static const struct ublk_bpf_ops *ublk_bpf_ops_of(const struct ublk_bpf_prog *prog)
{
	return rcu_dereference_check(prog->ops, srcu_read_lock_held(&ublk_bpf_srcu));
}

/* The same under ops_lock. */
static const struct ublk_bpf_ops *ublk_bpf_ops_locked(const struct ublk_bpf_prog *prog)
{
	return rcu_dereference_protected(prog->ops, lockdep_is_held(&ublk_bpf_ops_lock));
}

/* Wait until no callback runs that was found before the pointer was swapped. */
static void ublk_bpf_synchronize(void)
{
	synchronize_rcu();
	synchronize_srcu(&ublk_bpf_srcu);
}

/*
 * The program to ask, or NULL and what to do without. One that was attached in
 * the middle of an I/O is not asked about its rest: that is a new I/O then.
 * Under RCU or SRCU, which attach_seq follows as well: a program is attached
 * when nobody reads the pointer of the one before any more.
 */
static __always_inline const struct ublk_bpf_ops *
ublk_bpf_ops_to_ask(struct ublk_bpf_tag *tag, enum ublk_bpf_answer *answer)
{
	struct ublk_bpf_dev *dev = tag->q->dev;
	struct ublk_bpf_prog *prog;

	do {
		prog = rcu_dereference_check(dev->prog, srcu_read_lock_held(&ublk_bpf_srcu));
		if (likely(prog)) {
			if (!tag->taken)
				tag->attach_seq = dev->attach_seq;
			*answer = UBLK_BPF_SERVER;
			return likely(tag->attach_seq == dev->attach_seq) ?
			       ublk_bpf_ops_of(prog) : NULL;
		}
		smp_rmb();	/* pairs with unregistration: fail is set before prog is cleared */
		*answer = READ_ONCE(dev->fail) ? UBLK_BPF_GONE : UBLK_BPF_SERVER;
		smp_rmb();	/* pairs with attach: fail is cleared before prog is set */
	} while (unlikely(rcu_access_pointer(dev->prog)));

	return NULL;
}

/**
 * ublk_bpf_ask - call queue_io_cmd about what of an I/O is not taken
 * @tag:	the I/O's
 *
 * Context: any task; does not sleep.
 * Return: UBLK_BPF_ASKED, or why there was nobody to ask.
 */
enum ublk_bpf_answer ublk_bpf_ask(struct ublk_bpf_tag *tag)
{
	const struct ublk_bpf_ops *ops;
	enum ublk_bpf_answer answer;

	rcu_read_lock();
	ops = ublk_bpf_ops_to_ask(tag, &answer);
	if (likely(ops && ops->queue_io_cmd)) {
		tag->answer = ops->queue_io_cmd(&tag->io, tag->taken);
		answer = UBLK_BPF_ASKED;
	}
	rcu_read_unlock();

	return answer;
}

/* The same for queue_io_cmd_daemon, which may sleep. */
enum ublk_bpf_answer ublk_bpf_ask_daemon(struct ublk_bpf_tag *tag)
{
	const struct ublk_bpf_ops *ops;
	enum ublk_bpf_answer answer;
	int idx;

	idx = srcu_read_lock(&ublk_bpf_srcu);
	ops = ublk_bpf_ops_to_ask(tag, &answer);
	if (ops && ops->queue_io_cmd_daemon) {
		tag->answer = ops->queue_io_cmd_daemon(&tag->io, tag->taken);
		answer = UBLK_BPF_ASKED;
	}
	srcu_read_unlock(&ublk_bpf_srcu, idx);

	return answer;
}

/* Is there a program whose queue_io_cmd an I/O is asked of first? */
bool ublk_bpf_has_queue_io_cmd(struct ublk_bpf_dev *dev)
{
	struct ublk_bpf_prog *prog;
	bool has;

	rcu_read_lock();
	prog = rcu_dereference(dev->prog);
	has = prog && ublk_bpf_ops_of(prog)->queue_io_cmd;
	rcu_read_unlock();

	return has;
}

static DEFINE_PER_CPU(unsigned int, ublk_bpf_in_release);

/* Does release_io_cmd run on this CPU, here or below? Context: any. */
bool ublk_bpf_releasing(void)
{
	return raw_cpu_read(ublk_bpf_in_release);
}

/*
 * Tell the program that an I/O's last reference is gone, if it is the one that
 * was asked about it. Context: any. Not preempted: whoever else runs on the CPU
 * would be taken for it.
 */
void ublk_bpf_ask_release(struct ublk_bpf_tag *tag)
{
	struct ublk_bpf_dev *dev = tag->q->dev;
	const struct ublk_bpf_ops *ops;
	struct ublk_bpf_prog *prog;

	rcu_read_lock();
	prog = rcu_dereference(dev->prog);
	ops = prog ? ublk_bpf_ops_of(prog) : NULL;
	if (ops && ops->release_io_cmd && tag->attach_seq == dev->attach_seq) {
		preempt_disable();
		this_cpu_inc(ublk_bpf_in_release);
		ops->release_io_cmd(&tag->io);
		this_cpu_dec(ublk_bpf_in_release);
		preempt_enable();
	}
	rcu_read_unlock();
}

/**
 * ublk_bpf_ask_done - call io_done
 * @fwd:	the range that is back
 * @res:	its bytes, or a negative errno
 *
 * Only the program that was asked about the I/O is.
 * Context: any, hard interrupt too.
 * Return: its answer; what there is without one: 0, the result counts as it is.
 */
int ublk_bpf_ask_done(struct ublk_bpf_fwd *fwd, int res)
{
	struct ublk_bpf_tag *tag = fwd->tag;
	struct ublk_bpf_dev *dev = tag->q->dev;
	const struct ublk_bpf_ops *ops;
	struct ublk_bpf_prog *prog;
	int answer = 0;

	fwd->io = (struct ublk_bpf_io){
		.iod	= &tag->iod,
		.flags	= BIT(UBLK_BPF_IO_F_DONE),
	};
	rcu_read_lock();
	prog = rcu_dereference(dev->prog);
	ops = prog ? ublk_bpf_ops_of(prog) : NULL;
	if (ops && ops->io_done && tag->attach_seq == dev->attach_seq)
		answer = ops->io_done(&fwd->io, fwd->range.slot, fwd->range.off, fwd->range.bytes,
				      res);
	rcu_read_unlock();

	return answer;
}

/**
 * ublk_bpf_attach - bind a device to a registered program
 * @dev:	the device
 * @arg:	the command's argument, checked
 *
 * Context: under ub->mutex.
 * Return: 0; -EPERM, -ENOENT, -EBUSY, what the program's attach_dev says, or
 * -EINVAL when that is no errno.
 */
int ublk_bpf_attach(struct ublk_bpf_dev *dev, const struct ublk_bpf_attach *arg)
{
	const struct ublk_bpf_ops *ops = NULL;
	struct ublk_bpf_prog *prog;
	int err = 0;

	/* what loading a program needs */
	if (!capable(CAP_BPF) && !capable(CAP_SYS_ADMIN))
		return -EPERM;

	mutex_lock(&ublk_bpf_ops_lock);
	prog = xa_load(&ublk_bpf_progs, arg->prog_id);
	if (prog)
		ops = ublk_bpf_ops_locked(prog);
	if (dev->listed) {
		err = -EBUSY;
	} else if (!prog) {
		err = -ENOENT;
	} else if (ops->attach_dev) {
		rcu_read_lock();
		err = ops->attach_dev(dev->dev_id);
		rcu_read_unlock();
		if (err > 0 || err < -MAX_ERRNO)
			err = -EINVAL;
	}
	if (!err) {
		dev->cookie = arg->cookie;
		dev->attach_flags = arg->flags;
		dev->prog_id = arg->prog_id;
		dev->state = UBLK_BPF_STATE_ATTACHED;
		dev->ejecting = UBLK_BPF_EJECT_NONE;
		dev->attach_seq++;
		WRITE_ONCE(dev->fail, false);
		WRITE_ONCE(dev->has_release, ops->release_io_cmd);
		WRITE_ONCE(dev->has_done, ops->io_done);
		WRITE_ONCE(dev->updated, jiffies);
		dev->listed = prog;
		list_add(&dev->prog_node, &prog->devs);
		rcu_assign_pointer(dev->prog, prog);	/* after all of these */
	}
	mutex_unlock(&ublk_bpf_ops_lock);

	return err;
}

/* The program of a device goes without a command. Under ops_lock. */
static void ublk_bpf_lose_prog(struct ublk_bpf_dev *dev, enum ublk_bpf_state state)
{
	dev->state = state;
	WRITE_ONCE(dev->fail, !(dev->attach_flags & UBLK_BPF_ATTACH_FALLBACK));
	smp_wmb();	/* pairs with ublk_bpf_ops_to_ask() */
	RCU_INIT_POINTER(dev->prog, NULL);
}

/*
 * The second half of taking a device off its program, after the pointer was
 * cleared and ublk_bpf_synchronize(): whoever finds it still listed gives back
 * what is held, and tells the program, which lives until unregistration has
 * emptied its list. Under ops_lock.
 */
static void ublk_bpf_unlink(struct ublk_bpf_dev *dev)
{
	const struct ublk_bpf_ops *ops = ublk_bpf_ops_locked(dev->listed);

	ublk_bpf_give_back(dev);
	list_del(&dev->prog_node);
	dev->listed = NULL;
	if (ops->detach_dev) {
		rcu_read_lock();
		ops->detach_dev(dev->dev_id);
		rcu_read_unlock();
	}
}

/*
 * When no callback runs any more, for the program of attachment @seq. Another may
 * have done it meanwhile, and the next program be there already.
 */
static void ublk_bpf_unlink_later(struct ublk_bpf_dev *dev, u64 seq)
{
	ublk_bpf_synchronize();

	mutex_lock(&ublk_bpf_ops_lock);
	if (dev->listed && dev->attach_seq == seq)
		ublk_bpf_unlink(dev);
	mutex_unlock(&ublk_bpf_ops_lock);
}

/**
 * ublk_bpf_detach - take the program off a device: the server serves it
 * @dev:	the device
 *
 * Context: task, sleeps until no callback runs any more; a command not under
 * ub->mutex, so that nothing else of the device waits for that.
 * Return: 0, or -ENOENT when there was nothing to take off.
 */
int ublk_bpf_detach(struct ublk_bpf_dev *dev)
{
	u64 seq;

	mutex_lock(&ublk_bpf_ops_lock);
	if (dev->state == UBLK_BPF_STATE_NONE) {
		mutex_unlock(&ublk_bpf_ops_lock);
		return -ENOENT;
	}
	RCU_INIT_POINTER(dev->prog, NULL);
	WRITE_ONCE(dev->fail, false);
	dev->state = UBLK_BPF_STATE_NONE;
	seq = dev->attach_seq;
	mutex_unlock(&ublk_bpf_ops_lock);

	ublk_bpf_unlink_later(dev, seq);
	return 0;
}

/*
 * A program keeps I/O too long: take it off the device, as soon as that can be
 * waited for. Context: any; @tag cannot end meanwhile.
 */
void ublk_bpf_eject(struct ublk_bpf_dev *dev, const struct ublk_bpf_tag *tag)
{
	if (tag->attach_seq != READ_ONCE(dev->attach_seq) ||
	    cmpxchg(&dev->ejecting, UBLK_BPF_EJECT_NONE, UBLK_BPF_EJECT_NAMED))
		return;
	dev->eject_seq = tag->attach_seq;
	dev->eject_at = jiffies;
	scnprintf(dev->eject_reason, sizeof(dev->eject_reason),
		  "held an I/O for more than %u ms (operation %u, sector %llu)",
		  jiffies_to_msecs(tag->rq->timeout), tag->iod.op_flags & 0xff,
		  tag->iod.start_sector);
	smp_store_release(&dev->ejecting, UBLK_BPF_EJECT_NEEDED);
	queue_work(ublk_bpf_free_wq, &dev->eject_work);
}

void ublk_bpf_eject_work(struct work_struct *work)
{
	struct ublk_bpf_dev *dev = container_of(work, struct ublk_bpf_dev, eject_work);
	u64 seq;

	mutex_lock(&ublk_bpf_ops_lock);
	seq = dev->attach_seq;
	if (smp_load_acquire(&dev->ejecting) != UBLK_BPF_EJECT_NEEDED)
		goto unlock;
	if (dev->eject_seq != seq || !time_after(dev->eject_at, dev->updated)) {
		dev->ejecting = UBLK_BPF_EJECT_NONE;	/* that one has gone */
		goto unlock;
	}
	if (dev->state != UBLK_BPF_STATE_ATTACHED)
		goto unlock;
	pr_warn("ublk_bpf: dev %d: program %u ejected: %s\n", dev->dev_id, dev->prog_id,
		dev->eject_reason);
	ublk_bpf_lose_prog(dev, UBLK_BPF_STATE_EJECTED);
	mutex_unlock(&ublk_bpf_ops_lock);

	ublk_bpf_unlink_later(dev, seq);
	return;
unlock:
	mutex_unlock(&ublk_bpf_ops_lock);
}

static int ublk_bpf_reg(void *kdata, struct bpf_link *link)
{
	const struct ublk_bpf_ops *ops = kdata;
	struct ublk_bpf_prog *prog;
	int err;

	prog = kzalloc(sizeof(*prog), GFP_KERNEL);
	if (!prog)
		return -ENOMEM;
	RCU_INIT_POINTER(prog->ops, ops);	/* nobody sees it yet */
	INIT_LIST_HEAD(&prog->devs);

	mutex_lock(&ublk_bpf_ops_lock);
	err = xa_insert(&ublk_bpf_progs, ops->id, prog, GFP_KERNEL);
	mutex_unlock(&ublk_bpf_ops_lock);
	if (err)
		kfree(prog);
	return err;
}

/*
 * The program's memory goes when this returns, so no callback may run then.
 * Never waits for I/O of ours: this can hold up every struct_ops user of the
 * machine. A sleepable callback that waits for a page fault is waited for.
 */
static void ublk_bpf_unreg(void *kdata, struct bpf_link *link)
{
	const struct ublk_bpf_ops *ops = kdata;
	struct ublk_bpf_dev *dev, *next;
	struct ublk_bpf_prog *prog;

	mutex_lock(&ublk_bpf_ops_lock);
	prog = xa_erase(&ublk_bpf_progs, ops->id);
	list_for_each_entry(dev, &prog->devs, prog_node) {
		if (dev->state != UBLK_BPF_STATE_ATTACHED)
			continue;	/* being detached */
		ublk_bpf_lose_prog(dev, UBLK_BPF_STATE_GONE);
	}
	mutex_unlock(&ublk_bpf_ops_lock);

	ublk_bpf_synchronize();

	mutex_lock(&ublk_bpf_ops_lock);
	list_for_each_entry_safe(dev, next, &prog->devs, prog_node)
		ublk_bpf_unlink(dev);
	mutex_unlock(&ublk_bpf_ops_lock);

	kfree(prog);
}

/* What the devices of a program have to be asked for. Under ops_lock. */
static void ublk_bpf_note_has(const struct ublk_bpf_prog *prog, bool release, bool done)
{
	struct ublk_bpf_dev *dev;

	list_for_each_entry(dev, &prog->devs, prog_node) {
		WRITE_ONCE(dev->has_release, release);
		WRITE_ONCE(dev->has_done, done);
		WRITE_ONCE(dev->updated, jiffies);
	}
}

/*
 * Another program takes over devices, and I/O that is asked about. What is held is given
 * back, and the new one is asked: the old one's maps may be kept by somebody, and its
 * holds in there would wait for nobody. The core serializes this with ublk_bpf_unreg(),
 * and drops the old program after it.
 */
static int ublk_bpf_update(void *kdata, void *old_kdata, struct bpf_link *link)
{
	const struct ublk_bpf_ops *ops = kdata, *old = old_kdata;
	struct ublk_bpf_prog *prog;
	struct ublk_bpf_dev *dev;

	if (ops->id != old->id)
		return -EINVAL;		/* devices are bound by it */
	/* an I/O between the two contexts would be asked of neither */
	if (!ops->queue_io_cmd != !old->queue_io_cmd ||
	    !ops->queue_io_cmd_daemon != !old->queue_io_cmd_daemon)
		return -EINVAL;

	mutex_lock(&ublk_bpf_ops_lock);
	prog = xa_load(&ublk_bpf_progs, old->id);
	ublk_bpf_note_has(prog, ops->release_io_cmd || old->release_io_cmd,
			  ops->io_done || old->io_done);
	rcu_assign_pointer(prog->ops, ops);
	mutex_unlock(&ublk_bpf_ops_lock);

	ublk_bpf_synchronize();

	mutex_lock(&ublk_bpf_ops_lock);
	ublk_bpf_note_has(prog, ops->release_io_cmd, ops->io_done);
	list_for_each_entry(dev, &prog->devs, prog_node)
		ublk_bpf_give_back(dev);
	mutex_unlock(&ublk_bpf_ops_lock);
	return 0;
}

static int ublk_bpf_check_member(const struct btf_type *t, const struct btf_member *member,
				 const struct bpf_prog *prog)
{
	u32 moff = __btf_member_bit_offset(t, member) / 8;

	if (prog->sleepable && moff != offsetof(struct ublk_bpf_ops, queue_io_cmd_daemon))
		return -EINVAL;
	return 0;
}

static int ublk_bpf_init_member(const struct btf_type *t, const struct btf_member *member,
				void *kdata, const void *udata)
{
	const struct ublk_bpf_ops *from = udata;
	struct ublk_bpf_ops *to = kdata;
	u32 moff = __btf_member_bit_offset(t, member) / 8;

	if (moff != offsetof(struct ublk_bpf_ops, id))
		return 0;
	to->id = from->id;
	return 1;
}

/* A program that is never asked is a mistake. */
static int ublk_bpf_validate(void *kdata)
{
	const struct ublk_bpf_ops *ops = kdata;

	return ops->queue_io_cmd || ops->queue_io_cmd_daemon ? 0 : -EINVAL;
}

static bool ublk_bpf_is_valid_access(int off, int size, enum bpf_access_type type,
				     const struct bpf_prog *prog,
				     struct bpf_insn_access_aux *info)
{
	return bpf_tracing_btf_ctx_access(off, size, type, prog, info);
}

/* No btf_struct_access: a program reads what it can reach and writes nothing. */
static const struct bpf_verifier_ops ublk_bpf_verifier_ops = {
	.get_func_proto		= bpf_base_func_proto,
	.is_valid_access	= ublk_bpf_is_valid_access,
};

static int ublk_bpf_btf_init(struct btf *btf)
{
	return ublk_bpf_kfuncs_init(btf);
}

static unsigned long ublk_bpf_stub_queue_io_cmd(struct ublk_bpf_io *io, unsigned int off)
{
	return 0;
}

static unsigned long ublk_bpf_stub_queue_io_cmd_daemon(struct ublk_bpf_io *io, unsigned int off)
{
	return 0;
}

static void ublk_bpf_stub_release_io_cmd(struct ublk_bpf_io *io)
{
}

static int ublk_bpf_stub_attach_dev(int dev_id)
{
	return 0;
}

static void ublk_bpf_stub_detach_dev(int dev_id)
{
}

static int ublk_bpf_stub_io_done(struct ublk_bpf_io *io, unsigned int slot, unsigned int off,
				 unsigned int bytes, int res)
{
	return 0;
}

static struct ublk_bpf_ops ublk_bpf_stubs = {
	.queue_io_cmd		= ublk_bpf_stub_queue_io_cmd,
	.queue_io_cmd_daemon	= ublk_bpf_stub_queue_io_cmd_daemon,
	.release_io_cmd		= ublk_bpf_stub_release_io_cmd,
	.attach_dev		= ublk_bpf_stub_attach_dev,
	.detach_dev		= ublk_bpf_stub_detach_dev,
	.io_done		= ublk_bpf_stub_io_done,
};

static struct bpf_struct_ops ublk_bpf_struct_ops = {
	.verifier_ops	= &ublk_bpf_verifier_ops,
	.init		= ublk_bpf_btf_init,
	.check_member	= ublk_bpf_check_member,
	.init_member	= ublk_bpf_init_member,
	.validate	= ublk_bpf_validate,
	.reg		= ublk_bpf_reg,
	.unreg		= ublk_bpf_unreg,
	.update		= ublk_bpf_update,
	.cfi_stubs	= &ublk_bpf_stubs,
	.name		= "ublk_bpf_ops",
	.owner		= THIS_MODULE,
};

int ublk_bpf_ops_init(void)
{
	return register_bpf_struct_ops(&ublk_bpf_struct_ops, ublk_bpf_ops);
}
