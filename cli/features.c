// SPDX-License-Identifier: GPL-2.0
/* ublk-bpf features: what the loaded driver can do. */
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"

/* By bit, UBLK_F_ left out; kernel 7.3 has those up to 20. */
static const char *const names[64] = {
	[0]	= "SUPPORT_ZERO_COPY",
	[1]	= "URING_CMD_COMP_IN_TASK",
	[2]	= "NEED_GET_DATA",
	[3]	= "USER_RECOVERY",
	[4]	= "USER_RECOVERY_REISSUE",
	[5]	= "UNPRIVILEGED_DEV",
	[6]	= "CMD_IOCTL_ENCODE",
	[7]	= "USER_COPY",
	[8]	= "ZONED",
	[9]	= "USER_RECOVERY_FAIL_IO",
	[10]	= "UPDATE_SIZE",
	[11]	= "AUTO_BUF_REG",
	[12]	= "QUIESCE",
	[13]	= "PER_IO_DAEMON",
	[14]	= "BUF_REG_OFF_DAEMON",
	[15]	= "BATCH_IO",
	[16]	= "INTEGRITY",
	[17]	= "SAFE_STOP_DEV",
	[18]	= "NO_AUTO_PART_SCAN",
	[19]	= "SHMEM_ZC",
	[20]	= "IO_DESC_SIZE",
	[63]	= "BPF",
};

int cmd_features(int argc, char **argv)
{
	struct json_object *array = json_object_new_array();
	struct ublk_bpf_ctrl *ctrl;
	bool json;
	__u64 features;
	int ret, bit;

	json = parse_json_only(argc, argv, "Show the features of the loaded driver; BPF is what programs need.");
	ctrl = open_control();
	if (!ctrl)
		return EXIT_FAILURE;
	ret = ublk_bpf_get_features(ctrl, &features);
	ublk_bpf_ctrl_close(ctrl);
	if (ret < 0)
		return complain("the driver does not tell its features: %s; it is too old",
				strerror(-ret));
	for (bit = 0; bit < 64; bit++) {
		struct json_object *feature;

		if (!(features & 1ULL << bit))
			continue;
		if (!json) {
			printf("%2d  %s\n", bit, names[bit] ? names[bit] : "unknown");
			continue;
		}
		feature = json_object_new_object();
		json_object_object_add(feature, "bit", json_object_new_int(bit));
		json_object_object_add(feature, "name", names[bit] ?
				       json_object_new_string(names[bit]) : NULL);
		json_object_array_add(array, feature);
	}
	if (json)
		print_json(array);
	else
		json_object_put(array);
	return 0;
}
