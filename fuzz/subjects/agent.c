/*
 * agent: runs case programs on the running Linux kernel and prints what it observes.
 *
 * Input, one case a line:   ID <TAB> call ; call ...
 *        a call is          NAME operand operand ...        a system call of SYSCALLS: its registers
 *                           touch ADDR LEN, peek ADDR LEN   accesses, page by page
 *                           skip                            what is not executed
 *        with `unlocked ADDR` before it, if it is skipped when what is mapped at ADDR is locked.
 *        Numbers are hex, 64 bits, and addresses what they are.
 * Output, one JSON object a line, each written at once: first the hello, which tells what can be
 * asked of whom; of each case id, ret, pt, vmas, pages, pgtable_bytes, rss_pages, warn, and beyond
 * these us (microseconds the case took) and left (bytes of page tables that stayed behind when all of
 * the arena was unmapped; only if there are any); at the end of input the bye, {"bye": cases}: without
 * it the output was cut off.
 *
 * A case owns the arena [ARENA, ARENA + ARENA_SIZE).  What leaves it is skipped: whoever writes the
 * input decides that (fuzz/calls/arena.py); here nothing is checked twice but accesses.  All other address space is occupied by
 * inaccessible blockers, so that addresses the kernel chooses fall into the arena.  Whatever measuring
 * needs is allocated and touched beforehand: a case that is measured changes page tables of the arena
 * only.  Static, not position independent, without address space randomisation: two runs see the
 * same layout.  Unless keys are kept (-k), what may only be executed can be read on CPUs with protection
 * keys as on those without: see take_protection_keys().
 *
 * Without root it needs PAGEMAP_SCAN (Linux 6.7), and does not see warnings in the kernel's log
 * where that is kept from users; taint bits it always sees.
 *
 * Usage: agent [-t MILLISECONDS] [-S] [-k]
 *        -t: time limit of one case; -S: do without PAGEMAP_SCAN; -k: leave the kernel its protection keys
 * Exit:  0 end of input; 70 time limit; 71 this system cannot be measured (reason on stderr).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

#define PAGE 4096ULL
#define SLOT (PAGE * 512)
#define ARENA (1ULL << 44)
#define ARENA_SIZE (1ULL << 39)
#define USER_TOP 0x7ffffffff000ULL /* first address behind user space, four levels */
#define STACK_GAP (1ULL << 20)	   /* the kernel keeps this free below a stack */
#define STACK_LIMIT (8ULL << 20)   /* how far a mapping with MAP_GROWSDOWN grows */
#define MAX_CALLS 256
#define MAX_POPULATED (16384 * PAGE) /* one call never populates more */

enum { EXIT_TIME = 70, EXIT_SYSTEM = 71 };

#define ADVICE_WIPEONFORK 18 /* older headers lack it */

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	_exit(EXIT_SYSTEM);
}

/* --- system calls without the C library's own checks: the result, or -errno ------------------- */

static int64_t raw(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	register u64 r10 __asm__("r10") = d;
	register u64 r8 __asm__("r8") = e;
	register u64 r9 __asm__("r9") = f;
	int64_t result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

/* --- output ------------------------------------------------------------------------------------ */

static char out[1 << 20];
static size_t out_used;

static void flush(void)
{
	for (size_t done = 0; done < out_used;) {
		ssize_t n = write(1, out + done, out_used - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(0); /* nobody listens any more */
		done += (size_t)n;
	}
	out_used = 0;
}

static __attribute__((format(printf, 1, 2))) void say(const char *format, ...)
{
	va_list args;

	if (out_used + 512 > sizeof out)
		flush();
	va_start(args, format);
	out_used += (size_t)vsnprintf(out + out_used, sizeof out - out_used, format, args);
	va_end(args);
}

static void say_text(const char *text, size_t length)
{
	if (out_used + length + 1 > sizeof out)
		flush();
	memcpy(out + out_used, text, length);
	out_used += length;
}

static void say_number(u64 value)
{
	char digits[20];
	size_t n = sizeof digits;

	do
		digits[--n] = (char)('0' + value % 10);
	while (value /= 10);
	say_text(digits + n, sizeof digits - n);
}

static void say_error(int64_t error)
{
	const char *name = strerrorname_np((int)error);

	if (name)
		say("\"-%s\"", name);
	else
		say("\"-%d\"", (int)error);
}

/* --- what /proc says ----------------------------------------------------------------------------- */

static int status_fd, maps_fd, smaps_fd, pagemap_fd, tainted_fd, kmsg_fd;
static char text[4 << 20];
static unsigned swap_areas;

static int open_proc(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		give_up(path);
	return fd;
}

/* Reads a whole file of /proc into `text`; returns its length. */
static size_t slurp(int fd)
{
	size_t used = 0;
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET) < 0)
		give_up("lseek in /proc");
	while ((n = read(fd, text + used, sizeof text - 1 - used)) > 0)
		used += (size_t)n;
	if (n < 0 || used == sizeof text - 1)
		give_up("read of /proc");
	text[used] = 0;
	return used;
}

static u64 page_table_bytes(void)
{
	ssize_t n = pread(status_fd, text, sizeof text - 1, 0);
	char *field;

	if (n <= 0)
		give_up("/proc/self/status");
	text[n] = 0;
	field = strstr(text, "\nVmPTE:");
	if (!field)
		give_up("no VmPTE in /proc/self/status");
	return strtoull(field + 7, NULL, 10) * 1024;
}

struct vma {
	u64 start, end, offset, inode;
	char prot[5];
	bool locked; /* only after scan_smaps */
	bool huge;   /* only after scan_smaps: a PMD maps a huge page in it */
};

static struct vma vmas[4096];
static size_t n_vmas;

static char *hex(char *p, u64 *value)
{
	u64 v = 0;

	for (;; p++) {
		if (*p >= '0' && *p <= '9')
			v = v << 4 | (u64)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			v = v << 4 | (u64)(*p - 'a' + 10);
		else
			break;
	}
	*value = v;
	return p;
}

/* One header line of maps or smaps; false if the line is something else. */
static bool parse_vma(char *line, struct vma *vma)
{
	char *p = hex(line, &vma->start);

	if (p == line || *p != '-')
		return false;
	p = hex(p + 1, &vma->end) + 1;
	memcpy(vma->prot, p, 4);
	vma->prot[4] = 0;
	p = hex(p + 5, &vma->offset) + 1;
	p = strchr(p, ' ') + 1; /* device */
	vma->inode = strtoull(p, NULL, 10);
	vma->locked = vma->huge = false;
	return true;
}

/* Fills `vmas` with what intersects the arena. */
static void read_vmas(int fd)
{
	char *line, *next;
	struct vma *vma = NULL, other;

	slurp(fd);
	n_vmas = 0;
	for (line = text; *line; line = next) {
		next = strchr(line, '\n');
		next = next ? next + 1 : line + strlen(line);
		if (parse_vma(line, &other)) {
			vma = NULL;
			if (other.end <= ARENA || other.start >= ARENA + ARENA_SIZE)
				continue;
			if (n_vmas == sizeof vmas / sizeof *vmas)
				give_up("too many mappings");
			vma = &vmas[n_vmas++];
			*vma = other;
			if (vma->start < ARENA)
				vma->start = ARENA;
			if (vma->end > ARENA + ARENA_SIZE)
				vma->end = ARENA + ARENA_SIZE;
		} else if (vma && !strncmp(line, "VmFlags:", 8)) {
			char saved = *next;
			*next = 0;
			vma->locked = strstr(line, " lo") != NULL;
			*next = saved;
		} else if (vma && (!strncmp(line, "AnonHugePages:", 14) ||
				   !strncmp(line, "ShmemPmdMapped:", 15) ||
				   !strncmp(line, "FilePmdMapped:", 14))) {
			vma->huge |= strtoull(strchr(line, ':') + 1, NULL, 10) != 0;
		}
	}
}

/* True if the kernel complained since the last call: a new taint bit, or a message in its log. */
static bool kernel_complained(void)
{
	static u64 tainted_before;
	char taint[32] = "", message[2048];
	bool complained = false;
	u64 tainted;
	ssize_t n;

	if (pread(tainted_fd, taint, sizeof taint - 1, 0) > 0) {
		tainted = strtoull(taint, NULL, 10);
		complained = tainted != tainted_before;
		tainted_before = tainted;
	}
	if (kmsg_fd < 0)
		return complained;
	while ((n = read(kmsg_fd, message, sizeof message - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n <= 0)
			continue; /* messages were overwritten before we read them */
		message[n] = 0;
		if (strstr(message, "WARNING:") || strstr(message, "BUG:") || strstr(message, "BUG "))
			complained = true;
	}
	return complained;
}

/* --- the arena ------------------------------------------------------------------------------------- */

static void block(u64 start, u64 end)
{
	int64_t got;

	if (start >= end)
		return;
	got = raw(SYS_mmap, start, end - start, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1ULL, 0);
	if (got != (int64_t)start) {
		errno = got < 0 ? (int)-got : EEXIST;
		give_up("cannot occupy the address space outside the arena");
	}
	/* Flags no mapping of a case has together: a blocker must never merge with one. */
	madvise((void *)start, end - start, MADV_DONTDUMP);
	madvise((void *)start, end - start, ADVICE_WIPEONFORK);
}

static void occupy(void)
{
	static struct { u64 start, end; } gaps[256];
	size_t n_gaps = 0;
	u64 low = PAGE;
	char *line, *next;
	struct vma vma;

	if (raw(SYS_mmap, low, PAGE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1ULL, 0) != (int64_t)low) {
		int fd = open_proc("/proc/sys/vm/mmap_min_addr");
		slurp(fd);
		low = (strtoull(text, NULL, 10) + PAGE - 1) & -PAGE;
		close(fd);
	} else {
		munmap((void *)low, PAGE);
	}
	slurp(maps_fd);
	for (line = text; *line && n_gaps < 255; line = next) {
		next = strchr(line, '\n') + 1;
		if (!parse_vma(line, &vma) || vma.start >= USER_TOP)
			continue;
		if (vma.start < ARENA + ARENA_SIZE && vma.end > ARENA) {
			errno = EEXIST;
			give_up("something is mapped in the arena");
		}
		gaps[n_gaps].start = low;
		gaps[n_gaps++].end = strstr(line, "[stack]") && strstr(line, "[stack]") < next
					     ? vma.start - STACK_GAP : vma.start;
		low = vma.end;
	}
	gaps[n_gaps].start = low;
	gaps[n_gaps++].end = USER_TOP;
	for (size_t i = 0; i < n_gaps; i++) {
		u64 start = gaps[i].start, end = gaps[i].end;
		if (start >= end)
			continue;
		if (end <= ARENA || start >= ARENA + ARENA_SIZE) {
			block(start, end);
		} else {
			block(start, ARENA);
			block(ARENA + ARENA_SIZE, end);
		}
	}
}

static bool inside(u64 addr, u64 length)
{
	return addr >= ARENA && addr - ARENA <= ARENA_SIZE && length <= ARENA_SIZE - (addr - ARENA);
}

static bool locked_at(u64 addr)
{
	read_vmas(smaps_fd);
	for (size_t i = 0; i < n_vmas; i++)
		if (addr >= vmas[i].start && addr < vmas[i].end)
			return vmas[i].locked;
	return false;
}

/* --- calls ------------------------------------------------------------------------------------------- */

/*
 * The system calls that a case may make, from their declarations in fuzz/calls/: SYSCALLS is a row of
 * SYSCALL(name, returns_address), given by whoever compiles this.
 */
#ifndef SYSCALLS
#error "fuzz/subjects/agent.py compiles this, and says which calls there are"
#endif
#define SYSCALL(name, returns_address) {#name, SYS_##name, returns_address},
static const struct { const char *name; long number; bool returns_address; } syscalls[] = {SYSCALLS};
#define N_SYSCALLS (sizeof syscalls / sizeof *syscalls)

struct call {
	enum { SKIP, TOUCH, PEEK, SYSTEM } what;
	size_t syscall; /* of SYSTEM: its index */
	unsigned operands;
	u64 arg[6];
	bool unless_locked; /* what is mapped at `asked` */
	u64 asked;
};

static sigjmp_buf fault;
static volatile sig_atomic_t accessing;

static void on_fault(int signal)
{
	if (!accessing)
		_exit(128 + signal);
	siglongjmp(fault, signal);
}

static void on_alarm(int signal)
{
	(void)signal;
	_exit(EXIT_TIME);
}

static u64 last_tag;

struct runs {
	struct { u64 first, count; } run[MAX_POPULATED / PAGE];
	size_t n;
};
static struct runs segv, bus;

static void add_page(struct runs *runs, u64 page)
{
	if (runs->n && runs->run[runs->n - 1].first + runs->run[runs->n - 1].count == page)
		runs->run[runs->n - 1].count++;
	else
		runs->run[runs->n].first = page, runs->run[runs->n++].count = 1;
}

static void say_runs(const char *name, const struct runs *runs)
{
	say("\"%s\":[", name);
	for (size_t i = 0; i < runs->n; i++)
		say("%s[%llu,%llu]", i ? "," : "", (unsigned long long)runs->run[i].first,
		    (unsigned long long)runs->run[i].count);
	say("]");
}

static void access_pages(const u64 *a, bool write)
{
	volatile u64 addr = a[0] & -PAGE;
	const volatile u64 end = a[1] ? (a[0] + a[1] + PAGE - 1) & -PAGE : addr;

	segv.n = bus.n = 0;
	for (; addr < end; addr += PAGE) {
		int signal;

		last_tag += write;
		signal = sigsetjmp(fault, 0);
		if (signal) {
			add_page(signal == SIGBUS ? &bus : &segv, (addr - ARENA) / PAGE);
			continue;
		}
		accessing = 1;
		if (write)
			*(volatile u64 *)addr = last_tag;
		else
			(void)*(volatile u64 *)addr;
	}
	accessing = 0;
	if (!segv.n && !bus.n) {
		say_text("0", 1);
		return;
	}
	say("{");
	if (segv.n)
		say_runs("segv", &segv);
	if (segv.n && bus.n)
		say(",");
	if (bus.n)
		say_runs("bus", &bus);
	say("}");
}

static void run_call(const struct call *call)
{
	const u64 *a = call->arg;
	int64_t result;

	if (call->what == SKIP || (call->unless_locked && locked_at(call->asked))) {
		say("\"SKIP\"");
		return;
	}
	if (call->what != SYSTEM) {
		access_pages(a, call->what == TOUCH);
		return;
	}
	result = raw(syscalls[call->syscall].number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (result < 0 && result >= -4095)
		say_error(-result);
	else if (!syscalls[call->syscall].returns_address)
		say_number((u64)result);
	else if (inside((u64)result, 1))
		say_number((u64)result - ARENA);
	else
		say("\"OUT\"");
}

/* --- pages ---------------------------------------------------------------------------------------- */

/* linux/fs.h of 6.7 and later. */
struct region {
	u64 start, end, categories;
};
struct scan {
	u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan)
#define IS_FILE (1 << 2)
#define IS_PRESENT (1 << 3)
#define IS_SWAPPED (1 << 4)
#define IS_PFNZERO (1 << 5)
#define IS_HUGE (1 << 6)
#define IS_GUARD (1 << 8)

/* Bits of an entry of /proc/self/pagemap. */
#define ENTRY_PRESENT (1ULL << 63)
#define ENTRY_SWAPPED (1ULL << 62)
#define ENTRY_FILE (1ULL << 61)
#define ENTRY_EXCLUSIVE (1ULL << 56) /* mapped once */
#define ENTRY_GUARD (1ULL << 58)
#define ENTRY_PFN ((1ULL << 55) - 1)

static bool use_scan = true;
static bool pfns_hidden; /* from whoever is not root */
static u64 scan_mask = IS_FILE | IS_PRESENT | IS_SWAPPED | IS_PFNZERO | IS_HUGE | IS_GUARD;
static u64 zero_pfn, huge_zero_pfn;
static struct region regions[8192];
static u64 entries[64 * 512];

/* The run of pages that is being put together. */
static u64 run_first, run_count, run_tag, rss;
static char run_state;
static bool first_run;

static void end_run(void)
{
	if (!run_count)
		return;
	if (!first_run)
		say_text(",", 1);
	first_run = false;
	say_text("[", 1);
	say_number(run_first);
	say_text(",", 1);
	say_number(run_count);
	say(",\"%c\",", run_state);
	say_number(run_tag);
	say_text("]", 1);
	if (strchr("PSHT", run_state))
		rss += run_count;
	run_count = 0;
}

static void add_run(u64 addr, u64 count, char state)
{
	bool tagged = strchr("PSHT", state) != NULL;

	for (u64 i = 0; i < count; i++, addr += PAGE) {
		u64 page = (addr - ARENA) / PAGE, tag = tagged ? *(volatile u64 *)addr : 0;

		if (run_count && run_state == state && run_first + run_count == page &&
		    tag == (run_tag ? run_tag + run_count : 0)) {
			run_count++;
			continue;
		}
		end_run();
		run_first = page, run_count = 1, run_state = state, run_tag = tag;
	}
}

static u64 entry_at(u64 addr)
{
	u64 entry = 0;

	if (pread(pagemap_fd, &entry, sizeof entry, (off_t)(addr / PAGE * 8)) != sizeof entry)
		give_up("/proc/self/pagemap");
	return entry;
}

static char not_present_state(u64 entry)
{
	if (entry & ENTRY_GUARD)
		return 'G';
	return (entry & 31) < swap_areas ? 'W' : 'G'; /* markers use swap types above the real ones */
}

static bool is_huge_zero(u64 addr)
{
	u64 entry = entry_at(addr), pfn = entry & ENTRY_PFN;

	if (pfns_hidden)
		return !(entry & ENTRY_EXCLUSIVE); /* nobody else can map a huge page of ours */
	return huge_zero_pfn && pfn - huge_zero_pfn < 512;
}

static size_t scan_regions(u64 *start, u64 end)
{
	struct scan scan = {
		.size = sizeof scan, .start = *start, .end = end, .vec = (u64)regions,
		.vec_len = sizeof regions / sizeof *regions, .return_mask = scan_mask,
		.category_anyof_mask = scan_mask & (IS_PRESENT | IS_SWAPPED | IS_GUARD),
	};
	int n = ioctl(pagemap_fd, SCAN_IOCTL, &scan);

	if (n < 0)
		give_up("PAGEMAP_SCAN");
	*start = scan.walk_end;
	return (size_t)n;
}

static void pages_by_scan(u64 start, u64 end)
{
	while (start < end) {
		size_t n = scan_regions(&start, end);

		for (size_t i = 0; i < n; i++) {
			u64 c = regions[i].categories, addr = regions[i].start;
			u64 count = (regions[i].end - addr) / PAGE;

			if (c & IS_PRESENT && c & IS_HUGE) {
				for (; addr < regions[i].end; addr += SLOT)
					add_run(addr, (regions[i].end - addr < SLOT ? regions[i].end - addr : SLOT) / PAGE,
						c & IS_FILE ? 'T' : is_huge_zero(addr) ? 'z' : 'H');
			} else if (c & IS_PRESENT) {
				add_run(addr, count, c & IS_FILE ? 'S' : c & IS_PFNZERO ? 'Z' : 'P');
			} else if (c & IS_GUARD) {
				add_run(addr, count, 'G');
			} else {
				for (; addr < regions[i].end; addr += PAGE)
					add_run(addr, 1, not_present_state(entry_at(addr)));
			}
		}
	}
}

/*
 * Kernels without PAGEMAP_SCAN do not say which page is mapped by a huge entry.  A slot whose 512
 * pages are contiguous and aligned in memory may be: it is made a mapping of its own, and smaps asked.
 * Only for that moment, or it would be one with its neighbour when that is asked about.
 */
static bool maps_huge(u64 slot)
{
	bool huge = false;

	madvise((void *)slot, SLOT, MADV_DONTDUMP);
	read_vmas(smaps_fd);
	for (size_t i = 0; i < n_vmas; i++)
		if (slot >= vmas[i].start && slot < vmas[i].end)
			huge = vmas[i].huge;
	madvise((void *)slot, SLOT, MADV_DODUMP);
	return huge;
}

static void pages_by_entries(u64 start, u64 end)
{
	static char states[64 * 512];

	for (u64 next; start < end; start = next) {
		u64 limit = (start & -SLOT) + sizeof entries / sizeof *entries * PAGE, count;

		next = limit < end ? limit : end;
		count = (next - start) / PAGE;
		if (pread(pagemap_fd, entries, count * 8, (off_t)(start / PAGE * 8)) != (ssize_t)(count * 8))
			give_up("/proc/self/pagemap");
		for (u64 i = 0; i < count; i++) {
			u64 e = entries[i], pfn = e & ENTRY_PFN;

			if (e & ENTRY_PRESENT)
				states[i] = e & ENTRY_FILE ? 'S' : pfn == zero_pfn ? 'Z' : 'P';
			else
				states[i] = e & (ENTRY_SWAPPED | ENTRY_GUARD) ? not_present_state(e) : 0;
		}
		for (u64 slot = (start + SLOT - 1) & -SLOT; slot + SLOT <= next; slot += SLOT) {
			u64 i = (slot - start) / PAGE, pfn = entries[i] & ENTRY_PFN, k = 0;

			while (k < 512 && entries[i + k] & ENTRY_PRESENT && (entries[i + k] & ENTRY_PFN) == pfn + k)
				k++;
			if (k < 512 || pfn % 512)
				continue;
			if (pfn == huge_zero_pfn)
				memset(states + i, 'z', 512);
			else if (maps_huge(slot))
				memset(states + i, states[i] == 'S' ? 'T' : 'H', 512);
		}
		for (u64 i = 0; i < count; i++)
			if (states[i])
				add_run(start + i * PAGE, 1, states[i]);
	}
}

static void say_vmas(void)
{
	static u64 objects[sizeof vmas / sizeof *vmas];
	size_t n_objects = 0;

	for (size_t i = 0; i < n_vmas; i++) {
		const struct vma *vma = &vmas[i];
		size_t object = 0;

		say("%s[%llu,%llu,\"%s\"", i ? "," : "", (unsigned long long)(vma->start - ARENA),
		    (unsigned long long)(vma->end - ARENA), vma->prot);
		if (vma->prot[3] == 's') {
			while (object < n_objects && objects[object] != vma->inode)
				object++;
			if (object == n_objects)
				objects[n_objects++] = vma->inode;
			say(",%zu,%llu", object, (unsigned long long)vma->offset);
		}
		say("]");
	}
}

static void say_pages(void)
{
	size_t n = n_vmas; /* maps_huge() reads the list anew: keep what is needed of it */
	static struct { u64 start, end; } range[sizeof vmas / sizeof *vmas];

	for (size_t i = 0; i < n; i++) {
		range[i].start = vmas[i].start, range[i].end = vmas[i].end;
		/* All else is recorded by now: make readable what is not. */
		if (vmas[i].prot[0] != 'r')
			mprotect((void *)vmas[i].start, vmas[i].end - vmas[i].start, PROT_READ);
	}
	if (!use_scan)
		madvise((void *)ARENA, ARENA_SIZE, MADV_DODUMP); /* see maps_huge() */
	first_run = true;
	if (use_scan)
		pages_by_scan(ARENA, ARENA + ARENA_SIZE);
	else
		for (size_t i = 0; i < n; i++)
			pages_by_entries(range[i].start, range[i].end);
	end_run();
}

/* --- a case ----------------------------------------------------------------------------------------- */

static u64 baseline;
static struct itimerval time_limit;

static u64 microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000 + (u64)now.tv_nsec / 1000;
}

static void run_case(const char *id, size_t id_length, const struct call *calls, size_t n)
{
	static const struct itimerval never;
	static u64 page_tables[MAX_CALLS];
	u64 started = microseconds(), left;
	bool warn;

	last_tag = rss = 0;
	setitimer(ITIMER_REAL, &time_limit, NULL);
	say("{\"id\":\"");
	say_text(id, id_length);
	say("\",\"ret\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			say(",");
		run_call(&calls[i]);
		page_tables[i] = page_table_bytes() - baseline;
	}
	say("],\"pt\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			say_text(",", 1);
		say_number(page_tables[i]);
	}
	read_vmas(maps_fd);
	say("],\"vmas\":[");
	say_vmas();
	say("],\"pages\":[");
	say_pages();
	munmap((void *)ARENA, ARENA_SIZE);
	left = page_table_bytes() - baseline;
	warn = kernel_complained();
	setitimer(ITIMER_REAL, &never, NULL);
	say("],\"pgtable_bytes\":%llu,\"rss_pages\":%llu,\"warn\":%s",
	    (unsigned long long)(n ? page_tables[n - 1] : 0), (unsigned long long)rss, warn ? "true" : "false");
	if (left)
		say(",\"left\":%lld", (long long)left);
	say(",\"us\":%llu", (unsigned long long)(microseconds() - started));
	say("}\n");
	flush();
}

static void bad_input(const char *id, size_t id_length, const char *why)
{
	say("{\"id\":\"");
	say_text(id, id_length);
	say("\",\"error\":\"%s\"}\n", why);
	flush();
}

static bool is_word(const char *p, size_t length, const char *word)
{
	return strlen(word) == length && !memcmp(p, word, length);
}

/* An access must lie in the arena, and fit into `segv` and `bus`. */
static bool may_access(const u64 *a)
{
	return !a[1] || (a[1] <= MAX_POPULATED && inside(a[0] & -PAGE, a[1] + a[0] % PAGE) &&
			 a[1] + a[0] % PAGE <= MAX_POPULATED);
}

/* Reads one call; what follows it, or NULL, with the reason in `*wrong`. */
static char *parse_call(char *p, struct call *call, const char **wrong)
{
	size_t length = strcspn(p, " ;");

	memset(call, 0, sizeof *call);
	if (is_word(p, length, "unlocked") && p[length] == ' ') {
		call->unless_locked = true;
		p = hex(p + length + 1, &call->asked);
		p += *p == ' ';
		length = strcspn(p, " ;");
	}
	while (call->syscall < N_SYSCALLS && !is_word(p, length, syscalls[call->syscall].name))
		call->syscall++;
	if (call->syscall < N_SYSCALLS)
		call->what = SYSTEM;
	else if (is_word(p, length, "touch"))
		call->what = TOUCH;
	else if (is_word(p, length, "peek"))
		call->what = PEEK;
	else if (!is_word(p, length, "skip"))
		return *wrong = "unknown call", NULL;
	for (p += length; *p == ' ' && call->operands < 6; call->operands++)
		p = hex(p + 1, &call->arg[call->operands]);
	if (*p && *p != ';')
		return *wrong = "wrong operands", NULL;
	if (call->what == SKIP ? call->operands != 0 : call->what != SYSTEM && call->operands != 2)
		return *wrong = "wrong operands", NULL;
	if (call->what != SYSTEM && !may_access(call->arg))
		return *wrong = "an access outside the arena", NULL;
	return p + (*p == ';');
}

/* Runs the case in `line`, which is modified. */
static void run_line(char *line)
{
	static struct call calls[MAX_CALLS];
	char *tab = strchr(line, '\t'), *p;
	const char *wrong = NULL;
	size_t n = 0;

	if (!tab) {
		bad_input("", 0, "no TAB behind the name");
		return;
	}
	for (p = tab + 1; p && *p;) {
		if (n == MAX_CALLS)
			wrong = "too many calls", p = NULL;
		else
			p = parse_call(p, &calls[n++], &wrong);
	}
	if (wrong)
		bad_input(line, (size_t)(tab - line), wrong);
	else
		run_case(line, (size_t)(tab - line), calls, n);
}

/* --- start ------------------------------------------------------------------------------------------- */

/* Finds the zero pages' numbers, unless they are hidden.  Keeps the huge one mapped: so it stays. */
static void find_zero_pages(void)
{
	char *area = mmap(NULL, 3 * SLOT, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *slot = (char *)(((u64)area + SLOT - 1) & -SLOT);

	if (area == MAP_FAILED)
		give_up("mmap");
	madvise(area, 3 * SLOT, MADV_NOHUGEPAGE);
	(void)*(volatile char *)slot;
	zero_pfn = entry_at((u64)slot) & ENTRY_PFN;
	pfns_hidden = !zero_pfn;
	/* In another slot: where a table is there already, even an empty one, no huge page comes. */
	slot += SLOT;
	madvise(area, 3 * SLOT, MADV_HUGEPAGE);
	(void)*(volatile char *)slot;
	huge_zero_pfn = entry_at((u64)slot) & ENTRY_PFN;
	if (pfns_hidden || huge_zero_pfn == zero_pfn || huge_zero_pfn % 512)
		huge_zero_pfn = 0; /* transparent huge pages are off */
}

static void probe_scan(void)
{
	struct scan scan = {.size = sizeof scan, .start = ARENA, .end = ARENA + SLOT,
			    .vec = (u64)regions, .vec_len = 1};

	scan.return_mask = scan_mask;
	if (ioctl(pagemap_fd, SCAN_IOCTL, &scan) >= 0)
		return;
	scan_mask &= ~(u64)IS_GUARD; /* older than 6.15 */
	scan.return_mask = scan_mask;
	if (ioctl(pagemap_fd, SCAN_IOCTL, &scan) < 0)
		use_scan = false; /* older than 6.7 */
}

static void count_swap_areas(void)
{
	int fd = open("/proc/swaps", O_RDONLY | O_CLOEXEC);

	swap_areas = 0;
	if (fd < 0)
		return; /* a kernel without swap */
	slurp(fd);
	for (char *p = strchr(text, '\n'); p && p[1]; p = strchr(p + 1, '\n'))
		swap_areas++;
	close(fd);
}

/*
 * The kernel gives memory that may only be executed a protection key of its own, so that it cannot be
 * read, if the CPU has keys and one is free.  Take them all: what a case shows must not depend on the
 * CPU.  An exec gives them back.
 */
static void take_protection_keys(void)
{
	while (syscall(SYS_pkey_alloc, 0, 0) >= 0)
		;
}

static void expect_protection_keys(void)
{
	int key = (int)syscall(SYS_pkey_alloc, 0, PKEY_DISABLE_ACCESS);

	if (key < 0)
		give_up("this CPU or kernel has no protection keys");
	syscall(SYS_pkey_free, key);
}

static void touch_everything(void)
{
	char stack[256 * 1024];
	extern char __data_start[], _end[];
	const char *end = _end;

	for (size_t i = 0; i < sizeof stack; i += PAGE)
		((volatile char *)stack)[i] = 0;
	for (volatile char *p = __data_start; p < end; p = (volatile char *)(((u64)p + PAGE) & -PAGE))
		*p = *p;
}

static void handle(int signal, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_NODEFER};

	if (sigaction(signal, &action, NULL))
		give_up("sigaction");
}

/*
 * Random layout, and one from below where the stack is unlimited, last until the next exec: then
 * start anew.
 */
static void settle_layout(char **argv)
{
	struct rlimit stack;

	if (getrlimit(RLIMIT_STACK, &stack))
		give_up("getrlimit");
	if (personality(0xffffffff) & ADDR_NO_RANDOMIZE && stack.rlim_cur == STACK_LIMIT)
		return;
	stack.rlim_cur = STACK_LIMIT;
	if (setrlimit(RLIMIT_STACK, &stack))
		give_up("the stack must be allowed 8 MiB (ulimit -Hs)");
	if (personality(ADDR_NO_RANDOMIZE) == -1 || !(personality(0xffffffff) & ADDR_NO_RANDOMIZE))
		give_up("personality(ADDR_NO_RANDOMIZE)");
	execv("/proc/self/exe", argv);
	give_up("/proc/self/exe");
}

/* Who answers, and what can be asked of it. */
static void say_hello(void)
{
	struct rlimit lock;
	struct utsname name;

	if (uname(&name) || getrlimit(RLIMIT_MEMLOCK, &lock))
		give_up("uname");
	say("{\"hello\":1,\"arch\":\"x86-64\",\"release\":\"%s\",\"version\":\"%s\"", name.release, name.version);
	say(",\"page_bytes\":%llu,\"user_top\":%llu,\"arena\":[%llu,%llu],\"calls\":[\"touch\",\"peek\"", PAGE,
	    USER_TOP, ARENA, ARENA_SIZE);
	for (size_t i = 0; i < N_SYSCALLS; i++)
		say(",\"%s\"", syscalls[i].name);
	say("],\"flags\":{\"mmap\":[\"MAP_HUGETLB\"]},\"fields\":[\"ret\",\"pt\",\"vmas\",\"pages\",\"pgtable_bytes\","
	    "\"rss_pages\",\"warn\"]");
	say(",\"locks\":%s,\"root\":%s}\n", geteuid() == 0 || lock.rlim_cur == RLIM_INFINITY ? "true" : "false",
	    geteuid() == 0 ? "true" : "false");
	flush();
}

static char input[256 * 1024];

int main(int argc, char **argv)
{
	u64 milliseconds = 10000;
	bool keep_keys = false;
	unsigned long long cases = 0;
	size_t used = 0;
	int option;

	settle_layout(argv);
	while ((option = getopt(argc, argv, "t:Sk")) != -1) {
		if (option == 't')
			milliseconds = strtoull(optarg, NULL, 10);
		else if (option == 'S')
			use_scan = false;
		else if (option == 'k')
			keep_keys = true;
		else
			return EXIT_SYSTEM;
	}
	time_limit.it_value.tv_sec = (time_t)(milliseconds / 1000);
	time_limit.it_value.tv_usec = (suseconds_t)(milliseconds % 1000 * 1000);

	int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (oom < 0 || write(oom, "1000", 4) != 4)
		give_up("/proc/self/oom_score_adj");
	close(oom);
	status_fd = open_proc("/proc/self/status");
	maps_fd = open_proc("/proc/self/maps");
	smaps_fd = open_proc("/proc/self/smaps");
	pagemap_fd = open_proc("/proc/self/pagemap");
	tainted_fd = open_proc("/proc/sys/kernel/tainted");
	kmsg_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg_fd >= 0)
		lseek(kmsg_fd, 0, SEEK_END);
	handle(SIGSEGV, on_fault);
	handle(SIGBUS, on_fault);
	handle(SIGALRM, on_alarm);
	handle(SIGPIPE, SIG_IGN);
	if (keep_keys)
		expect_protection_keys();
	else
		take_protection_keys();
	touch_everything();
	count_swap_areas();
	find_zero_pages();
	if (use_scan)
		probe_scan();
	if (pfns_hidden && !use_scan) {
		errno = EPERM;
		give_up("root is needed: only root sees page numbers, and there is no PAGEMAP_SCAN");
	}
	occupy();
	/* Once for nothing: what these need themselves is in place from now on. */
	kernel_complained();
	page_table_bytes();
	baseline = page_table_bytes();
	say_hello();

	for (;;) {
		ssize_t n = read(0, input + used, sizeof input - 1 - used);
		char *line = input, *end;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			say("{\"bye\":%llu}\n", cases);
			flush();
			return 0;
		}
		used += (size_t)n;
		input[used] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			run_line(line);
			cases++;
			line = end + 1;
		}
		used -= (size_t)(line - input);
		memmove(input, line, used + 1);
		if (used == sizeof input - 1) {
			errno = E2BIG;
			give_up("line too long");
		}
	}
}
