/*
 * shortage: what the running kernel does when memory runs out in the middle of an mremap.
 *
 * A process in a memory cgroup of its own, which the kernel may not kill, is allowed so many pages
 * more and no other.  Page tables and VMAs count: the next one beyond that cannot be allocated, and
 * the call fails half way.  Numbers are tried from 0 on, each in a new process.
 *
 * Usage: shortage CGROUP DEFECT     CGROUP: directory of an empty cgroup (v1, memory)
 * Output: what was seen if the defect shows, else nothing.
 * Exit:   0; 70 killed by a signal; 71 this system cannot be measured (reason on stderr).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#define PAGE 4096UL
#define SLOT (PAGE * 512)
#define ARENA (1UL << 44)
#define MOST 64	 /* numbers to try */
#define SECONDS 5 /* for a try */
#define ROUNDS 3 /* of them: now and then the kernel has something set aside after all */
#define RW (PROT_READ | PROT_WRITE)

/* Of a try: what the call came to.  Of the program: see above. */
enum { GRANTED, REFUSED, SHOWN, EXIT_SIGNAL = 70, EXIT_SYSTEM = 71 };

static int limit_fd, usage_fd, pagemap_fd;
static bool refused; /* was the call? */

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "shortage: %s: %s\n", what, strerror(errno));
	_exit(EXIT_SYSTEM);
}

static int open_in(const char *directory, const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		give_up(path);
	return fd;
}

/* --- how much memory there is ----------------------------------------------------------------- */

static long usage(void)
{
	char text[32] = "";

	if (pread(usage_fd, text, sizeof text - 1, 0) <= 0)
		give_up("memory.usage_in_bytes");
	return atol(text);
}

/* Allow `pages` more than are in use, and give back what the kernel has set aside for later. */
static void squeeze(long pages)
{
	char text[32];
	long before, now = usage();
	int length;

	do {
		before = now;
		if (pwrite(limit_fd, "4096", 4, 0) != -1 || errno != EBUSY)
			give_up("memory.limit_in_bytes: no memory seems to be in use");
		usleep(1000);
		now = usage();
	} while (now != before);
	length = snprintf(text, sizeof text, "%ld", now + pages * (long)PAGE);
	if (pwrite(limit_fd, text, (size_t)length, 0) != length)
		give_up("memory.limit_in_bytes");
}

static void relax(void)
{
	if (pwrite(limit_fd, "-1", 2, 0) != 2)
		give_up("memory.limit_in_bytes");
}

/* --- memory ----------------------------------------------------------------------------------- */

static char *map(unsigned long offset, size_t length)
{
	char *wanted = (char *)ARENA + offset;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

	if (mmap(wanted, length, RW, flags, -1, 0) != wanted)
		give_up("mmap");
	return wanted;
}

static uint64_t pagemap(const char *page)
{
	uint64_t entry;
	off_t at = (off_t)((uintptr_t)page / PAGE * sizeof entry);

	if (pread(pagemap_fd, &entry, sizeof entry, at) != sizeof entry)
		give_up("/proc/self/pagemap");
	return entry;
}

static bool is_present(const char *page)
{
	return pagemap(page) >> 63 & 1;
}

static bool is_write_protected(const char *page)
{
	return pagemap(page) >> 57 & 1;
}

static bool is_mapped(char *page)
{
	unsigned char resident;

	return !mincore(page, PAGE, &resident);
}

static bool granted(char *from, size_t length, char *to)
{
	refused = mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to;
	return !refused;
}

/* --- the defects: each returns what was seen of it, or NULL ----------------------------------- */

/* Two pages under different tables are protected; the first moves, is put back, and is no more. */
static const char *uffd_rollback(long allowed)
{
	char *page = map(SLOT - PAGE, 2 * PAGE);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = { .range = { (uintptr_t)page, 2 * PAGE },
					.mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect protect = { .range = area.range,
					       .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int monitor = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	bool moved, lost;

	page[0] = page[PAGE] = 1;
	if (monitor < 0 || ioctl(monitor, UFFDIO_API, &api) ||
	    ioctl(monitor, UFFDIO_REGISTER, &area) || ioctl(monitor, UFFDIO_WRITEPROTECT, &protect))
		give_up("userfaultfd");
	if (!is_write_protected(page) || !is_write_protected(page + PAGE))
		give_up("pages are not write-protected");
	squeeze(allowed);
	moved = granted(page, 2 * PAGE, (char *)ARENA + 3 * SLOT - PAGE);
	relax();
	lost = !moved && is_present(page) && !is_write_protected(page);
	return lost ? "it failed, and a page is not write-protected for its userfaultfd any more" : NULL;
}

/*
 * What moves begins with a page that has no table; behind it are a page and, further up, another.
 * When the other cannot move, the way back begins with the page that needs a table.
 */
static const char *rollback_short(long allowed)
{
	size_t length = SLOT + 2 * PAGE;
	char *from = map(2 * SLOT - PAGE, length), *page = from + PAGE, *other = page + SLOT;
	bool moved;

	*page = 41;
	*other = 42;
	squeeze(allowed);
	moved = granted(from, length, (char *)ARENA + 16 * SLOT);
	relax();
	return !moved && *page != 41 ? "it failed, and a page of private memory has lost its contents" : NULL;
}

/* The VMA of the copy can be had, those into which the source is cut cannot. */
static const char *not_cut_off(long allowed)
{
	char *from = map(2 * SLOT, 3 * PAGE), *to = (char *)ARENA + 16 * SLOT;
	bool moved;

	from[0] = from[PAGE] = from[2 * PAGE] = 1;
	*map(17 * SLOT - PAGE, PAGE) = 1; /* there is a table */
	squeeze(1);
	for (long n = 0; n < allowed; n++) /* use that page up, VMA by VMA */
		mmap((char *)ARENA + 32 * SLOT + 2 * n * PAGE, PAGE, RW,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	moved = granted(from + PAGE, PAGE, to);
	relax();
	return moved && is_mapped(from + PAGE) ? "it succeeded, and the source is still mapped" : NULL;
}

static const struct defect {
	const char *name;
	const char *(*try)(long allowed);
} defects[] = {
	{ "uffd-rollback", uffd_rollback },
	{ "rollback-short", rollback_short },
	{ "not-cut-off", not_cut_off },
};

static _Noreturn void try(const struct defect *defect, const char *cgroup, long allowed)
{
	int tasks = open_in(cgroup, "tasks", O_WRONLY);
	const char *seen;
	cpu_set_t here;

	/* What another CPU has set aside would be given back some time later. */
	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	if (sched_setaffinity(0, sizeof here, &here))
		give_up("sched_setaffinity");
	limit_fd = open_in(cgroup, "memory.limit_in_bytes", O_WRONLY);
	usage_fd = open_in(cgroup, "memory.usage_in_bytes", O_RDONLY);
	pagemap_fd = open_in("/proc/self", "pagemap", O_RDONLY);
	if (write(tasks, "0", 1) != 1)
		give_up("tasks");
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL))
		give_up("prctl");
	/* A fault that gets no memory would sleep until there is some: there must be none, or an end. */
	if (mlockall(MCL_CURRENT))
		give_up("mlockall");
	alarm(SECONDS);
	*map(SLOT * 256, PAGE) = 1; /* the upper tables are there */
	seen = defect->try(allowed);
	if (seen)
		puts(seen);
	exit(seen ? SHOWN : refused ? REFUSED : GRANTED);
}

int main(int count, char **words)
{
	const struct defect *defect = defects, *end = defects + sizeof defects / sizeof *defects;
	int came_to[SHOWN] = { 0 };

	if (count != 3) {
		fprintf(stderr, "usage: shortage CGROUP DEFECT\n");
		return EXIT_SYSTEM;
	}
	while (defect < end && strcmp(defect->name, words[2]))
		defect++;
	if (defect == end) {
		errno = EINVAL;
		give_up(words[2]);
	}
	for (long number = 0; number < ROUNDS * MOST; number++) {
		pid_t child = fork();
		int status;

		if (!child)
			try(defect, words[1], number % MOST);
		if (child < 0 || waitpid(child, &status, 0) != child)
			give_up("fork");
		if (WIFSIGNALED(status)) {
			fprintf(stderr, "shortage: killed: %s\n", strsignal(WTERMSIG(status)));
			return EXIT_SIGNAL;
		}
		if (WEXITSTATUS(status) == SHOWN)
			return 0;
		if (WEXITSTATUS(status) > SHOWN)
			return EXIT_SYSTEM;
		came_to[WEXITSTATUS(status)]++;
	}
	if (!came_to[GRANTED] || !came_to[REFUSED]) {
		fprintf(stderr, "shortage: memory ran out %s: is kernel memory counted?\n",
			came_to[GRANTED] ? "never" : "always");
		return EXIT_SYSTEM;
	}
	return 0;
}
