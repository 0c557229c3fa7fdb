/* The huge pages of hugetlb in stock: as many as the model has (engine/state/hugepool.py). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent.h"

#define HUGE_PAGES 32
#define SETTING "/proc/sys/vm/nr_hugepages"

/* A field of /proc/meminfo, which was read; 0 if it is not there. */
static int64_t pages_of(const char *field)
{
	char *line = strstr(text, field);

	return line ? strtoll(line + strlen(field), NULL, 10) : 0;
}

/* How many are missing of those that a case may have. */
static int64_t missing(void)
{
	if (!read_file("/proc/meminfo"))
		return HUGE_PAGES;
	return HUGE_PAGES - (pages_of("HugePages_Free:") - pages_of("HugePages_Rsvd:"));
}

bool has_huge_pages(void)
{
	return !missing();
}

/* Kernels lose some for good: pages that stay reserved for nobody. */
void refill_stock(void)
{
	char total[32];
	int64_t more = machine_is_ours ? missing() : 0;
	int fd;

	if (!more)
		return;
	snprintf(total, sizeof total, "%" PRId64, pages_of("HugePages_Total:") + more);
	fd = open(SETTING, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, total, strlen(total)) < 0)
		give_up(SETTING);
	close(fd);
}
