// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sizes and file parts as people write them. Pure: no system call, so that the
 * unit tests run it anywhere.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "ublk_bpf.h"

#define MAX_BYTES	0x7fffffffffffffffULL	/* file positions are signed */

static int suffix_shift(char c)
{
	switch (tolower((unsigned char)c)) {
	case 'k':
		return 10;
	case 'm':
		return 20;
	case 'g':
		return 30;
	case 't':
		return 40;
	default:
		return -EINVAL;
	}
}

/* The number that @text starts with; *text goes behind it. */
static int parse_number(const char **text, __u64 *value)
{
	const char *at = *text;

	if (!isdigit((unsigned char)*at))
		return -EINVAL;
	for (*value = 0; isdigit((unsigned char)*at); at++) {
		unsigned int digit = *at - '0';

		if (*value > (MAX_BYTES - digit) / 10)
			return -ERANGE;
		*value = *value * 10 + digit;
	}
	*text = at;
	return 0;
}

int ublk_bpf_parse_size(const char *text, __u64 *bytes)
{
	__u64 value;
	int shift = 0, ret;

	ret = parse_number(&text, &value);
	if (ret)
		return ret;
	if (*text) {
		shift = suffix_shift(*text++);
		if (shift < 0 || *text)
			return -EINVAL;
	}
	if (value > MAX_BYTES >> shift)
		return -ERANGE;
	*bytes = value << shift;
	return 0;
}

int ublk_bpf_parse_time(const char *text, __u64 *ns)
{
	static const struct { const char *unit; __u64 ns; } units[] = {
		{ "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 },
	};
	__u64 value;
	unsigned int i;
	int ret;

	ret = parse_number(&text, &value);
	if (ret)
		return ret;
	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text, units[i].unit))
			continue;
		if (value > MAX_BYTES / units[i].ns)
			return -ERANGE;
		*ns = value * units[i].ns;
		return 0;
	}
	return -EINVAL;
}

int ublk_bpf_parse_share(const char *text, __u64 *share)
{
	__u64 value, unit = 100;
	int ret;

	ret = parse_number(&text, &value);
	if (ret)
		return ret;
	if (value > 100)
		return -ERANGE;
	if (*text == '.') {
		if (!isdigit((unsigned char)*++text))
			return -EINVAL;
		for (; isdigit((unsigned char)*text); text++) {
			if (unit == 100000000000ULL)
				return -ERANGE;	/* finer than it is kept */
			value = value * 10 + (*text - '0');
			unit *= 10;
		}
	}
	if (strcmp(text, "%"))
		return -EINVAL;
	if (value > unit)
		return -ERANGE;
	*share = ((unsigned __int128)value << 32) / unit;
	return 0;
}

static const char *word_value(const char *word, const char *name)
{
	size_t len = strlen(name);

	return strncmp(word, name, len) ? NULL : word + len;
}

int ublk_bpf_parse_file(const char *text, struct ublk_bpf_file *file)
{
	struct ublk_bpf_file result = { .path = strdup(text) };
	bool have_start = false, have_length = false;
	int ret = 0;

	if (!result.path)
		return -ENOMEM;

	/* From the end, until a word is none of ours: the rest is the name. */
	for (;;) {
		char *comma = strrchr(result.path, ',');
		const char *value;

		if (!comma)
			break;
		value = word_value(comma, ",start=");
		if (value) {
			ret = have_start ? -EINVAL :
				ublk_bpf_parse_size(value, &result.start);
			have_start = true;
		} else {
			value = word_value(comma, ",length=");
			if (!value)
				break;
			ret = have_length ? -EINVAL :
				ublk_bpf_parse_size(value, &result.bytes);
			if (!ret && !result.bytes)
				ret = -EDOM;
			have_length = true;
		}
		if (ret)
			goto bad;
		*comma = '\0';
	}
	if (!*result.path) {
		ret = -EINVAL;
		goto bad;
	}
	if (result.start + result.bytes > MAX_BYTES) {
		ret = -ERANGE;
		goto bad;
	}
	*file = result;
	return 0;

bad:
	free(result.path);
	return ret;
}
