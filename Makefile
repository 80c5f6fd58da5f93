# ublk-bpf: make, make install on the machine it is for; make demo, make test,
# make bench anywhere. Outputs go to $(O).
KREL ?= $(shell uname -r)
DEPMOD ?= depmod
O := build
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
msg = @printf '  %-7s %s\n'

all: module user

module:
	$(Q)$(MAKE) -C driver OUT=$(abspath $(O)) KREL=$(KREL) Q=$(Q)

include user.mk

# modprobe prefers updates/ to the distribution's own.
install: all install-user
	$(Q)install -D -m 644 $(O)/driver/$(KREL)/ublk_drv.ko \
		$(DESTDIR)/lib/modules/$(KREL)/updates/ublk_drv.ko
	$(Q)$(DEPMOD) $(if $(DESTDIR),-b $(DESTDIR)) $(KREL)
	$(Q)if [ -z "$(DESTDIR)" ] && [ -e /sys/module/ublk_drv ] && [ "$(KREL)" = "$$(uname -r)" ] && \
	   [ ! -e /sys/module/ublk_drv/parameters/hooks ]; then \
		echo "installed, but the distribution's ublk_drv is loaded: delete its devices, then: rmmod ublk_drv && modprobe ublk_drv" >&2; \
	fi

uninstall: uninstall-user
	$(Q)rm -f $(DESTDIR)/lib/modules/$(KREL)/updates/ublk_drv.ko
	$(Q)$(DEPMOD) $(if $(DESTDIR),-b $(DESTDIR)) $(KREL)

# The pieces of the tests that are compiled, in the sandbox.
UNIT := $(patsubst tests/unit/%.c,$(O)/tests-unit/%,$(wildcard tests/unit/*.c))
TOOLS := $(patsubst tests/tools/%.c,$(O)/tests-tools/%,$(wildcard tests/tools/*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(O)/tests-fuzz/%,$(wildcard tests/fuzz/*.c))
PROGS := $(patsubst tests/progs/%.bpf.c,$(O)/tests-progs/%.bpf.o,$(wildcard tests/progs/*.bpf.c))

tests: user $(UNIT) $(TOOLS) $(FUZZERS) $(PROGS)

# With sanitizers, which the parts of targets are compiled with once more.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
UNIT_PARTS := $(PURE:%.c=$(O)/tests-unit/%.o)

$(UNIT_PARTS): $(O)/tests-unit/%.o: %.c
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(USER_CPPFLAGS) $(USER_CFLAGS) $(SANITIZE) -c -o $@ $<

$(O)/tests-unit/%: tests/unit/%.c $(UNIT_PARTS) $(U)/libublk-bpf.a
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(USER_CPPFLAGS) -I. $(USER_CFLAGS) $(SANITIZE) -MT $@ -o $@ $< $(UNIT_PARTS) \
		$(U)/libublk-bpf.a -lcmocka $(USER_LIBS)

# libFuzzer's are clang's, as what it watches.
FUZZ := $(SANITIZE) -fno-omit-frame-pointer
FUZZ_PARTS := $(PURE:%.c=$(O)/tests-fuzz/%.o)

$(FUZZ_PARTS): $(O)/tests-fuzz/%.o: %.c
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(USER_CPPFLAGS) $(USER_CFLAGS) $(FUZZ) -fsanitize=fuzzer-no-link -c -o $@ $<

$(O)/tests-fuzz/%: tests/fuzz/%.c $(FUZZ_PARTS)
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(USER_CPPFLAGS) -I. $(USER_CFLAGS) $(FUZZ) -fsanitize=fuzzer -MT $@ -o $@ $< \
		$(FUZZ_PARTS) -lz -lzstd

QCOW2_TOOLS := $(O)/tests-tools/qcow2 $(O)/tests-tools/qcow2_mutate
$(QCOW2_TOOLS): $(O)/tests-tools/%: tests/tools/%.c $(UNIT_PARTS)
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(USER_CPPFLAGS) -I. $(USER_CFLAGS) $(SANITIZE) -MT $@ -o $@ $< $(UNIT_PARTS) -lz -lzstd

$(O)/tests-tools/%: tests/tools/%.c $(U)/libublk-bpf.a
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(USER_CPPFLAGS) $(USER_CFLAGS) -MT $@ -o $@ $< $(U)/libublk-bpf.a $(USER_LIBS)

# No -Iinclude: these know nothing of our headers.
$(O)/tests-progs/%.bpf.o: tests/progs/%.bpf.c
	$(msg) BPF $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) -target bpf -D__TARGET_ARCH_x86 -O2 -g -Wall -Werror \
		-I/usr/include/x86_64-linux-gnu -MMD -MP -MT $@ -c -o $@ $<

-include $(UNIT:=.d) $(UNIT_PARTS:.o=.d) $(FUZZERS:=.d) $(FUZZ_PARTS:.o=.d) $(TOOLS:=.d) $(PROGS:.o=.d)

demo:
	$(Q)vm/run --timeout 300 -- vm/demo

bench:
	$(Q)bench/run

test:
	$(Q)tests/run '$(T)'

# Everything on every kernel, hundreds of rounds, the kernel's own ublk tests, and
# whether the tests find what is wrong: some hours without KVM.
test-full:
	$(Q)FULL=1 KERNELS="6.12 7.3 debug" tests/run '$(T)'
	$(Q)tests/mutants/run
	$(Q)KERNEL=6.12 tests/mutants/run
	$(Q)KERNEL=debug tests/mutants/run

clean:
	$(Q)rm -rf $(O)

.PHONY: all module user install uninstall tests demo test test-full bench clean
