/* What the kernel does to pages on its own account: swapping, tracking of writes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"

#define ADVICE_PAGEOUT 21 /* older headers lack it */

/* A device with the header of a swap area, which nobody uses; NULL: what is there is used all the time. */
const char *swap_device;

static bool areas_are_used(void)
{
	char *areas = read_file("/proc/swaps"), *line = areas ? strchr(areas, '\n') : NULL;

	return line && line[1];
}

/*
 * Cases that do not swap out have no swap: the model has none for them, and MADV_PAGEOUT finds one, if
 * there is.  False if it cannot be had.
 */
bool begin_swap(void)
{
	if (!swap_device || !swapon(swap_device, 0))
		return true;
	/* An agent that a case killed has left it on. */
	return errno == EBUSY && !swapoff(swap_device) && !swapon(swap_device, 0);
}

void end_swap(void)
{
	if (swap_device && swapoff(swap_device))
		give_up("swapoff");
}

bool has_swap(void)
{
	static int has = -1;

	if (has < 0 && swap_device) {
		swapoff(swap_device); /* an agent before may have died in between */
		has = begin_swap();
		if (has)
			end_swap();
	} else if (has < 0) {
		has = areas_are_used();
	}
	return has;
}

/* Until 6.1 each task keeps the last of what it counts to itself (SPLIT_RSS_COUNTING). */
bool counts_swap(void)
{
	struct utsname name;
	char *p = name.release;
	long major, minor;

	if (uname(&name))
		return false;
	major = strtol(p, &p, 10);
	minor = *p ? strtol(p + 1, NULL, 10) : 0;
	return major > 6 || (major == 6 && minor > 1);
}

static int64_t page_out(u64 start, u64 end)
{
	return raw(SYS_madvise, start, end - start, ADVICE_PAGEOUT, 0, 0, 0);
}

/* One round of it: all mappings in the range, those that will not be paged out left alone. */
static void page_out_all(u64 start, u64 end)
{
	if (page_out(start, end) >= 0)
		return;
	read_vmas(false);
	for (size_t i = 0; i < n_vmas; i++) {
		u64 from = vmas[i].start < start ? start : vmas[i].start, to = vmas[i].end > end ? end : vmas[i].end;

		if (from < to)
			page_out(from, to);
	}
}

/* swapout(addr, length): reclaim comes twice, as what was written since MADV_FREE stays the first time. */
int64_t swap_out(const u64 *a)
{
	u64 end = (uintptr_t)(a[0] + a[1]);

	if (a[0] % page_bytes || a[1] % page_bytes || end < a[0])
		return -EINVAL;
	page_out_all(a[0], end);
	page_out_all(a[0], end);
	return 0;
}

int64_t clear_soft_dirty(const u64 *a)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	int64_t result = 0;

	(void)a;
	if (fd < 0 || write(fd, "4", 1) != 1)
		result = -errno;
	if (fd >= 0)
		close(fd);
	return result;
}

/* Without CONFIG_MEM_SOFT_DIRTY no page is ever soft-dirty, not even a new one. */
bool has_soft_dirty(void)
{
	static int has = -1;

	if (has < 0)
		has = (pagemap_entry((uintptr_t)text) & ENTRY_SOFT_DIRTY) != 0;
	return has;
}
