/* @limit KIND VALUE: how much a process may have, beyond what the agent itself has. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent.h"

/* In the order of engine/base/limits.py KINDS; the rest is about the whole system. */
enum { MAP_COUNT, ADDRESS_SPACE, LOCKED };

#define SETTING "/proc/sys/vm/max_map_count"

bool machine_is_ours;
static u64 own_bytes, own_vmas;
static char map_count_before[32];

static bool set_map_count(const char *value)
{
	int fd = open(SETTING, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Before the first call of a case in a process of its own. */
void begin_limits(void)
{
	own_bytes = status_kib("\nVmSize:") * 1024;
	own_vmas = vmas_in_all();
}

/* After a case: by who survives it. */
void end_limits(void)
{
	if (machine_is_ours && *map_count_before)
		set_map_count(map_count_before);
}

static int64_t limit_resource(int resource, u64 value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		return -errno;
	limit.rlim_cur = value;
	return setrlimit(resource, &limit) ? -errno : 0;
}

int64_t limit(const u64 *a)
{
	u64 count = own_vmas + a[1];
	char value[32];

	if (a[0] == ADDRESS_SPACE)
		return limit_resource(RLIMIT_AS, own_bytes + a[1]);
	if (a[0] == LOCKED) {
		drop_capability(CAP_IPC_LOCK);
		return limit_resource(RLIMIT_MEMLOCK, a[1]);
	}
	if (a[0] != MAP_COUNT || !machine_is_ours)
		return -ENOTSUP;
	snprintf(value, sizeof value, "%llu", (unsigned long long)(a[1] > INT_MAX / 2 ? INT_MAX : count));
	return set_map_count(value) ? 0 : -errno;
}

/* The names of those that this system does not have, for the hello. */
void say_limits_missing(void)
{
	const struct rlimit endless = {RLIM_INFINITY, RLIM_INFINITY};
	char *before = read_file(SETTING);

	if (before)
		snprintf(map_count_before, sizeof map_count_before, "%s", before);
	/* Where there is a limit already that stays, a greater one cannot be had. */
	say("[\"commit\",\"request\"%s%s]", machine_is_ours ? "" : ",\"map_count\"",
	    setrlimit(RLIMIT_MEMLOCK, &endless) ? ",\"memlock\"" : "");
}
