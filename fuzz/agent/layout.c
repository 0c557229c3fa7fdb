/* The machine's numbers, found at run time, and the arena: the part of user space that cases own. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#define STACK_GAP (256 * page_bytes) /* the kernel keeps this free below a stack */
#define STACK_LIMIT (8ULL << 20) /* how far a mapping with MAP_GROWSDOWN grows */
/*
 * As the model has it (engine/base/geometry.py): 512 GiB, or all there is.  Where a word has 32 bits
 * the program itself lies in the upper part of that, see fuzz/subjects/program.py.
 */
#define ARENA_BYTES (1ULL << 39)
#define ARENA_START (1ULL << 44)
#define ARENA_OF_32_BITS (1ULL << 31)

#define ADVICE_WIPEONFORK 18 /* older headers lack it */

/* Where user space ends with the usual page tables, which is what an emulator has. */
#if defined __x86_64__
#define USUAL_TOP 0x7ffffffff000
#elif defined __i386__
#define USUAL_TOP 0xc0000000
#else
#define USUAL_TOP 0x1000000000000
#endif

u64 page_bytes, slot_bytes, slot_pages, user_top, arena_start, arena_bytes;

/*
 * Random layout, and one from below where the stack is unlimited, last until the next exec: then
 * start anew.
 */
void settle_layout(char **argv)
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

static int64_t map_blocker(u64 start, u64 length)
{
	void *got = mmap(at(start), (size_t)length, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	return got == MAP_FAILED ? -errno : (int64_t)(uintptr_t)got;
}

/* Is there an address space at `addr`, be it occupied? */
static bool exists(u64 addr)
{
	int64_t got = map_blocker(addr, page_bytes);

	if (got == -EEXIST)
		return true;
	if (got < 0)
		return false;
	munmap(at((u64)got), page_bytes);
	return (u64)got == addr;
}

static u64 find_user_top(void)
{
	u64 here = (u64)(uintptr_t)&user_top / page_bytes;
	u64 there = (sizeof(long) == 8 ? 1ULL << 57 : 1ULL << 32) / page_bytes;

	while (there - here > 1) {
		u64 middle = here + (there - here) / 2;

		if (exists(middle * page_bytes))
			here = middle;
		else
			there = middle;
	}
	return there * page_bytes;
}

void measure_layout(void)
{
	char *huge;

	page_bytes = (u64)sysconf(_SC_PAGESIZE);
	huge = read_file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
	slot_bytes = huge ? strtoull(huge, NULL, 10) : page_bytes * (page_bytes / 8);
	slot_pages = slot_bytes / page_bytes;
	user_top = emulated ? USUAL_TOP : find_user_top();
	if (user_top <= ARENA_BYTES) {
		arena_start = 0;
		arena_bytes = user_top < ARENA_OF_32_BITS || sizeof(long) == 8 ? user_top : ARENA_OF_32_BITS;
	} else {
		u64 half = round_down(user_top / 2, ARENA_BYTES);

		arena_start = half < ARENA_START ? half : ARENA_START;
		arena_bytes = ARENA_BYTES;
	}
}

bool inside(u64 addr, u64 length)
{
	return addr >= arena_start && addr - arena_start <= arena_bytes &&
	       length <= arena_bytes - (addr - arena_start);
}

/*
 * Above the default window of arm64 with 52 bits no mapping is longer than that window which does not
 * begin there: one that is refused is tried in halves (arch_get_mmap_end()).
 */
static void block(u64 start, u64 end)
{
	int64_t got;

	if (start >= end)
		return;
	got = map_blocker(start, end - start);
	if (got == -ENOMEM && end - start >= 2 * slot_bytes) {
		u64 middle = round_down(start + (end - start) / 2, page_bytes);

		block(start, middle);
		block(middle, end);
		return;
	}
	if ((u64)got != start) {
		errno = got < 0 ? (int)-got : EEXIST;
		give_up("cannot occupy the address space outside the arena");
	}
	/* Flags no mapping of a case has together: a blocker must never merge with one. */
	madvise(at(start), (size_t)(end - start), MADV_DONTDUMP);
	madvise(at(start), (size_t)(end - start), ADVICE_WIPEONFORK);
}

/*
 * The most bytes that one call may ask for, 0 if there is no limit: with vm.overcommit_memory 0 what there
 * is of memory and swap.  gVisor has that setting, and does not keep to it.
 */
u64 commit_limit(void)
{
	static const char *const fields[] = {"MemTotal:", "SwapTotal:"};
	char *setting = read_file("/proc/sys/vm/overcommit_memory"), *memory;
	u64 limit = 0;
	void *more;

	if (!setting || *setting != '0')
		return 0;
	memory = read_file("/proc/meminfo");
	for (size_t i = 0; memory && i < sizeof fields / sizeof *fields; i++) {
		char *field = strstr(memory, fields[i]);

		limit += field ? strtoull(field + strlen(fields[i]), NULL, 10) * 1024 : 0;
	}
	if (limit >= arena_bytes)
		return 0;
	/* Not in the arena: what qemu-user 7.2 cannot map it leaves reserved. */
	more = mmap(NULL, (size_t)(limit + page_bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (more == MAP_FAILED)
		return limit;
	munmap(more, (size_t)(limit + page_bytes));
	return 0;
}

static _Noreturn void refuse_arena(void)
{
	errno = EEXIST;
	give_up("something is mapped in the arena");
}

/*
 * Occupies a page on each side of the arena, if nothing is there: no mapping of a case reaches beyond it.
 */
void fence(void)
{
	read_vmas(false);
	if (n_vmas)
		refuse_arena();
	map_blocker(arena_start - page_bytes, page_bytes);
	map_blocker(arena_start + arena_bytes, page_bytes);
}

/* Occupies all gaps outside the arena, so that addresses the kernel chooses fall into it. */
void occupy(void)
{
	static struct {
		u64 start, end;
	} gaps[256];
	u64 low, arena_end = arena_start + arena_bytes;
	char *line, *next, *setting;
	size_t n_gaps = 0;
	struct vma vma;

	setting = read_file("/proc/sys/vm/mmap_min_addr");
	low = setting ? round_up(strtoull(setting, NULL, 10), page_bytes) : 0;
	if (low < page_bytes)
		low = page_bytes;
	for (line = all_maps(); *line && n_gaps < 255; line = next) {
		next = strchr(line, '\n') + 1;
		if (!parse_vma(line, &vma) || vma.start >= user_top)
			continue;
		if (vma.start < arena_end && vma.end > arena_start)
			refuse_arena();
		gaps[n_gaps].start = low;
		gaps[n_gaps++].end = strstr(line, "[stack]") && strstr(line, "[stack]") < next
					     ? vma.start - STACK_GAP : vma.start;
		low = vma.end;
	}
	gaps[n_gaps].start = low;
	gaps[n_gaps++].end = user_top;
	for (size_t i = 0; i < n_gaps; i++) {
		u64 start = gaps[i].start, end = gaps[i].end;

		if (end <= arena_start || start >= arena_end) {
			block(start, end);
		} else {
			block(start, arena_start);
			block(arena_end, end);
		}
	}
}
