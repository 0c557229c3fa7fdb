/*
 * @fail pagetable N: the N-th page-table page that the next mremap needs cannot be had, nor one behind it.
 *
 * The process of the case goes into a memory cgroup of its own.  While an mremap is made it may have N - 1
 * pages more than it has, and nobody may be killed for another: then the allocation fails.  What the
 * kernel had set aside is given back before, and what it needs for VMAs is at hand, so that only page
 * tables count.  Other allocations than those are not made to fail: a fault would wait for ever.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"

#define ROOT "/sys/fs/cgroup"
#define GROUP ROOT "/case"
#define CONSOLE_LEVEL "/proc/sys/kernel/printk"

/* In the order of engine/base/failures.py KINDS. */
enum { PAGE_TABLE };
enum { GRACE = 20000 /* microseconds */ };

/* VMAs: of a page of 4 KiB no more than 64 are made. */
#define MAX_PRODDED (page_bytes / 64)
#define PRODDED_MORE (page_bytes / 1024)

#define UNLIMITED (1ULL << 62)

static u64 left; /* the attempt that fails; 0: none */
static u64 prodded;
static char console_before[64];

static bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Open all the time: what an open file takes is counted, too. */
static int usage_fd = -1, limit_fd = -1;

static u64 bytes_in_use(void)
{
	char number[32] = "";

	if (pread(usage_fd, number, sizeof number - 1, 0) <= 0)
		give_up("memory.current");
	return strtoull(number, NULL, 10);
}

static void allow(u64 bytes)
{
	char value[32];
	int length = snprintf(value, sizeof value, "%llu", (unsigned long long)bytes);

	if (pwrite(limit_fd, value, (size_t)length, 0) != length)
		give_up("memory.max");
}

/* In 6.1 there is a page to be had now and then behind the last one; between that and 6.12 nobody has looked. */
static bool counts_exactly(void)
{
	struct utsname name;
	int version, release;

	return !uname(&name) && sscanf(name.release, "%d.%d", &version, &release) == 2 &&
	       (version > 6 || (version == 6 && release >= 12));
}

/* Can processes of ours be short of memory?  The controller of cgroup v2 is needed. */
bool has_shortage(void)
{
	static int has = -1;

	if (has < 0) {
		char *level = read_file(CONSOLE_LEVEL);

		if (level)
			snprintf(console_before, sizeof console_before, "%.*s", (int)strcspn(level, "\n"), level);
		has = machine_is_ours && counts_exactly() && put(ROOT "/cgroup.subtree_control", "+memory") &&
		      (!mkdir(GROUP, 0755) || errno == EEXIST) && !access(GROUP "/memory.max", W_OK);
	}
	return has;
}

static void prod(void)
{
	u64 blocked = arena_start + arena_bytes + page_bytes;

	madvise(at(blocked + 2 * prodded++ * page_bytes), page_bytes, MADV_DODUMP);
}

/*
 * Has the kernel take one page for the VMAs to come, and no more: of a page that it took before, part is left,
 * and nobody knows how much.  VMAs outside the arena are cut until it is, and then some more: if all of it were
 * left, the VMAs that the call frees would make up a page that can be had after all.
 */
static void provide_for_vmas(void)
{
	u64 before = bytes_in_use();

	allow(before + page_bytes);
	for (u64 i = 0; i < MAX_PRODDED && bytes_in_use() == before; i++)
		prod();
	for (u64 i = 0; i < PRODDED_MORE; i++)
		prod();
}

static void squeeze(u64 least, u64 pages)
{
	u64 before;

	do { /* what the kernel has set aside is given back, now or when RCU lets it */
		before = bytes_in_use();
		allow(least * page_bytes);
		usleep(GRACE);
	} while (bytes_in_use() != before);
	provide_for_vmas();
	allow(bytes_in_use() + pages * page_bytes);
}

static void relax(void)
{
	allow(UNLIMITED);
}

/* Before a call that moves. */
void begin_shortage(void)
{
	if (left)
		squeeze(0, left - 1);
}

/* Behind it: whether it failed is its result.  It was the only one: nobody counts attempts that succeed. */
void end_shortage(void)
{
	if (!left)
		return;
	relax();
	left = 0;
}

/* By who survives the case. */
void end_shortages(void)
{
	if (*console_before)
		put(CONSOLE_LEVEL, console_before);
}

/* @fail KIND N */
int64_t fail_later(const u64 *a)
{
	if (a[0] != PAGE_TABLE)
		return -ENOTSUP;
	if (usage_fd < 0) {
		usage_fd = open(GROUP "/memory.current", O_RDONLY | O_CLOEXEC);
		limit_fd = open(GROUP "/memory.max", O_WRONLY | O_CLOEXEC);
		if (usage_fd < 0 || limit_fd < 0)
			return -errno;
		relax(); /* whatever became of the process before */
		/* The kernel would tell at length of those that it may not kill. */
		if (!put("/proc/self/oom_score_adj", "-1000") || !put(GROUP "/cgroup.procs", "0") || !put(CONSOLE_LEVEL, "1"))
			return -errno;
		squeeze(1ULL << 20, MAX_PRODDED); /* once for nothing: what this needs itself is there then */
		relax();
	}
	left = left && left < a[1] ? left : a[1]; /* while it is short, the next ones fail, too */
	return 0;
}
