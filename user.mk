# SPDX-License-Identifier: GPL-2.0
# User space: library, command, targets, man page. Included by Makefile, which
# sets O, Q and msg. All output goes to $(O)/user.

# The one list to add a target to; its files are in targets/NAME.
TARGETS := null loop linear stripe ram qcow2 prog

VERSION := $(shell sed -n 's/^.define UBLK_BPF_VERSION.*"\(.*\)"/\1/p' include/ublk_bpf.h)
SONAME  := libublk-bpf.so.0
U       := $(O)/user

CC    ?= gcc
CLANG ?= clang

USER_CPPFLAGS := -D_GNU_SOURCE -Iinclude -Iinclude/uapi -Ilib -MMD -MP
USER_CFLAGS   := -O2 -g -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
		 -Wno-missing-field-initializers -fPIC -pthread $(CFLAGS)
USER_LIBS     := -luring -lbpf -ljson-c -lz -lzstd
# The programs depend on no running kernel: fixed user ABI headers and BTF.
BPF_CFLAGS    := -target bpf -D__TARGET_ARCH_x86 -O2 -g -Wall -Werror -Iinclude -Iinclude/uapi \
		 -I/usr/include/x86_64-linux-gnu -MMD -MP

LIB_OBJS  := $(patsubst lib/%.c,$(U)/lib/%.o,$(wildcard lib/*.c))
CLI_OBJS  := $(patsubst cli/%.c,$(U)/cli/%.o,$(wildcard cli/*.c))
TGT_OBJS  := $(foreach t,$(TARGETS),$(U)/targets/$(t).o)
BPF_OBJS  := $(foreach t,$(TARGETS),$(if $(wildcard targets/$(t)/$(t).bpf.c),$(U)/targets/$(t).bpf.o))
SKELETONS := $(BPF_OBJS:.bpf.o=.skel.h)
# What a target has beside its program and its server; and what of that needs no device: pure
# code, which unit tests run.
PARTS     := $(filter-out %.bpf.c $(foreach t,$(TARGETS),targets/$(t)/$(t).c),$(wildcard targets/*/*.c))
PURE      := $(filter-out targets/qcow2/maps.c targets/qcow2/open.c,$(PARTS))
PART_OBJS := $(PARTS:%.c=$(U)/%.o)

USER_ALL := $(U)/ublk-bpf $(U)/libublk-bpf.a $(U)/libublk-bpf.so $(BPF_OBJS) $(SKELETONS) \
	    $(U)/ublk-bpf.pc $(U)/ublk-bpf.8

.PHONY: user install-user uninstall-user
user: $(USER_ALL)

$(U)/lib/%.o: lib/%.c
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(USER_CPPFLAGS) $(USER_CFLAGS) -c -o $@ $<

$(U)/cli/%.o: cli/%.c user.mk
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(USER_CPPFLAGS) $(USER_CFLAGS) \
		-DTARGET_LIST='$(foreach t,$(TARGETS),TARGET($(t)))' -c -o $@ $<

define target_rules
$(U)/targets/$(1).bpf.o: targets/$(1)/$(1).bpf.c
	$$(msg) BPF $$<
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CLANG) $$(BPF_CFLAGS) -MT $$@ -c -o $$@ $$<

$(U)/targets/$(1).o: targets/$(1)/$(1).c $(filter %/$(1).skel.h,$(SKELETONS))
	$$(msg) CC $$<
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) $$(USER_CPPFLAGS) $$(USER_CFLAGS) -isystem $(U)/targets -c -o $$@ $$<
endef
$(foreach t,$(TARGETS),$(eval $(call target_rules,$(t))))

$(PART_OBJS): $(U)/%.o: %.c
	$(msg) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(USER_CPPFLAGS) $(USER_CFLAGS) -c -o $@ $<

# Through a temporary file: bpftool leaves an empty one when it fails.
$(U)/targets/%.skel.h: $(U)/targets/%.bpf.o
	$(msg) SKEL $@
	$(Q)bpftool gen skeleton $< name $*_bpf >$@.tmp
	$(Q)mv $@.tmp $@

$(U)/libublk-bpf.a: $(LIB_OBJS)
	$(msg) AR $@
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

$(U)/libublk-bpf.so: $(LIB_OBJS) lib/ublk-bpf.map
	$(msg) LD $@
	$(Q)$(CC) -shared -pthread -Wl,-soname,$(SONAME) -Wl,--version-script=lib/ublk-bpf.map \
		-Wl,-z,defs $(LDFLAGS) -o $@ $(LIB_OBJS) -luring -lbpf

$(U)/ublk-bpf: $(CLI_OBJS) $(TGT_OBJS) $(PART_OBJS) $(U)/libublk-bpf.a
	$(msg) LD $@
	$(Q)$(CC) -pthread $(LDFLAGS) -o $@ $^ $(USER_LIBS)

$(U)/ublk-bpf.8: docs/ublk-bpf.8.scd
	$(msg) MAN $@
	$(Q)mkdir -p $(@D)
	$(Q)scdoc <$< >$@.tmp
	$(Q)mv $@.tmp $@

prefix     ?= /usr/local
sbindir    ?= $(prefix)/sbin
libdir     ?= $(prefix)/lib
includedir ?= $(prefix)/include
mandir     ?= $(prefix)/share/man

$(U)/ublk-bpf.pc: include/ublk_bpf.h user.mk
	$(msg) GEN $@
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' 'prefix=$(prefix)' 'libdir=$(libdir)' 'includedir=$(includedir)' '' \
		'Name: ublk-bpf' \
		'Description: ublk devices whose I/O a BPF program does' \
		'Version: $(VERSION)' \
		'Requires.private: libbpf liburing' \
		'Libs: -L$${libdir} -lublk-bpf' \
		'Libs.private: -pthread' \
		'Cflags: -I$${includedir}' >$@

install-user: user
	$(msg) INSTALL $(DESTDIR)$(prefix)
	$(Q)install -D -m 755 $(U)/ublk-bpf $(DESTDIR)$(sbindir)/ublk-bpf
	$(Q)install -D -m 644 $(U)/libublk-bpf.a $(DESTDIR)$(libdir)/libublk-bpf.a
	$(Q)install -D -m 755 $(U)/libublk-bpf.so $(DESTDIR)$(libdir)/$(SONAME)
	$(Q)ln -sf $(SONAME) $(DESTDIR)$(libdir)/libublk-bpf.so
	$(Q)install -D -m 644 -t $(DESTDIR)$(includedir) include/ublk_bpf.h \
		include/ublk_bpf.bpf.h include/ublk_bpf_return.h
	$(Q)install -D -m 644 -t $(DESTDIR)$(includedir)/linux include/uapi/linux/ublk_bpf.h
	$(Q)install -D -m 644 -t $(DESTDIR)$(libdir)/pkgconfig $(U)/ublk-bpf.pc
	$(Q)install -D -m 644 -t $(DESTDIR)$(mandir)/man8 $(U)/ublk-bpf.8

uninstall-user:
	$(Q)rm -f $(DESTDIR)$(sbindir)/ublk-bpf $(DESTDIR)$(libdir)/libublk-bpf.a \
		$(DESTDIR)$(libdir)/libublk-bpf.so $(DESTDIR)$(libdir)/$(SONAME) \
		$(DESTDIR)$(includedir)/ublk_bpf.h $(DESTDIR)$(includedir)/ublk_bpf.bpf.h \
		$(DESTDIR)$(includedir)/ublk_bpf_return.h $(DESTDIR)$(includedir)/linux/ublk_bpf.h \
		$(DESTDIR)$(libdir)/pkgconfig/ublk-bpf.pc $(DESTDIR)$(mandir)/man8/ublk-bpf.8

-include $(LIB_OBJS:.o=.d) $(CLI_OBJS:.o=.d) $(TGT_OBJS:.o=.d) $(PART_OBJS:.o=.d) $(BPF_OBJS:.o=.d)
