# make install on the machine itself, and the distribution's module.
load common

ours="build/driver/$(uname -r)/ublk_drv.ko"

# Whatever modules.dep says now.
insmod_stock() {
	insmod "$(find "/lib/modules/$(uname -r)/kernel/drivers/block" -name 'ublk_drv.ko*')"
}

setup() {
	common_setup
	cat /sys/module/ublk_drv/parameters/hooks >>"$HOOKS"
	unload
}

teardown() {
	common_teardown || true
	unload
	insmod "$ours"
}

@test "installed_module_is_the_one_modprobe_takes" {
	make -s install KREL="$(uname -r)"
	modprobe ublk_drv
	[ "$(modinfo -n ublk_drv)" = "/lib/modules/$(uname -r)/updates/ublk_drv.ko" ]
	[ -e /sys/module/ublk_drv/parameters/hooks ]
	truncate -s 16M /tmp/image
	dev=$(/usr/local/sbin/ublk-bpf add loop -f /tmp/image)
	dd if=/dev/zero of="$dev" bs=64k count=4 oflag=direct
	ublk-bpf del -a
	unload
	make -s uninstall KREL="$(uname -r)" DEPMOD=true
	[ ! -e /usr/local/sbin/ublk-bpf ]
	[ ! -e "/lib/modules/$(uname -r)/updates/ublk_drv.ko" ]
}

@test "a_stock_module_is_named_with_the_way_out" {
	insmod_stock
	run ublk-bpf add null
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *rmmod* ]]
	dev=$(ublk-bpf add null --server)
	dd if="$dev" of=/dev/null bs=64k count=4 iflag=direct
	run ublk-bpf check
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *rmmod* ]]
	run make -s install KREL="$(uname -r)" DEPMOD=true
	[[ $output == *"rmmod ublk_drv"* ]]
	make -s uninstall KREL="$(uname -r)" DEPMOD=true
}

@test "check_finds_nothing_missing_here" {
	insmod "$ours"
	run ublk-bpf check
	echo "$output"
	[ "$status" -eq 0 ]
}
