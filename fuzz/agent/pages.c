/* The pages that are mapped, and how: from PAGEMAP_SCAN, or without it from pagemap and smaps. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

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

#define CHUNK (64 * 512) /* entries read at a time: slots of any page size are as long, or fit */

bool use_scan = true;
static bool pfns_hidden; /* from whoever is not root */
static u64 scan_mask = IS_FILE | IS_PRESENT | IS_SWAPPED | IS_PFNZERO | IS_HUGE | IS_GUARD;
static u64 zero_pfn, huge_zero_pfn;
static struct region regions[8192];
static u64 entries[CHUNK];

#define MAX_READ_PAGES 65536 /* of more than these the contents are not read */
#define CONTENT 0 /* in place of a state, where nothing but the content of a page is known */

/* The run of pages that is being put together. */
static u64 run_first, run_count, run_tag, resident;
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
	if (run_state != CONTENT)
		say(",\"%c\"", run_state);
	say_text(",", 1);
	say_number(run_tag);
	say_text("]", 1);
	if (run_state != CONTENT && strchr("PSHT", run_state))
		resident += run_count;
	run_count = 0;
}

/* What a page that is there begins with.  What is sealed stays unreadable, but not in /proc/self/mem. */
static u64 content(u64 addr)
{
	u64 value = 0;

	if (!read_page(addr, &value) && pread(own_memory(), &value, sizeof value, (off_t)(uintptr_t)at(addr)) != sizeof value)
		give_up("a page that cannot be read");
	return value;
}

static void add_run(u64 addr, u64 count, char state)
{
	bool tagged = state == CONTENT || strchr("PSHT", state);

	for (u64 i = 0; i < count; i++, addr += page_bytes) {
		u64 page = page_of(addr), tag = tagged ? content(addr) : 0;

		if (run_count && run_state == state && run_first + run_count == page &&
		    tag == (run_tag ? run_tag + run_count : 0)) {
			run_count++;
			continue;
		}
		end_run();
		run_first = page, run_count = 1, run_state = state, run_tag = tag;
	}
}

static void read_entries(u64 addr, u64 *into, u64 count)
{
	if (pread(pagemap(), into, count * 8, (off_t)(addr / page_bytes * 8)) != (ssize_t)(count * 8))
		give_up("/proc/self/pagemap");
}

u64 pagemap_entry(u64 addr)
{
	u64 entry;

	read_entries(addr, &entry, 1);
	return entry;
}

/* How many areas are in use while a case swaps out; markers use swap types above theirs. */
static u64 swap_areas(void)
{
	static int64_t areas = -1;

	if (areas < 0) {
		char *p = read_file("/proc/swaps"); /* NULL: a kernel without swap */

		areas = swap_device != NULL;
		for (p = p ? strchr(p, '\n') : NULL; p && p[1]; p = strchr(p + 1, '\n'))
			areas++;
	}
	return (u64)areas;
}

/* What userfaultfd leaves where nothing is cannot be told from a page in swap. */
static char not_present_state(u64 entry)
{
	if (entry & ENTRY_GUARD)
		return 'G';
	return entry & ENTRY_UFFD_WP || (entry & 31) < swap_areas() ? 'W' : 'G';
}

static bool is_huge_zero(u64 addr)
{
	u64 entry = pagemap_entry(addr), pfn = entry & ENTRY_PFN;

	if (pfns_hidden)
		return !(entry & ENTRY_EXCLUSIVE); /* nobody else can map a huge page of ours */
	return huge_zero_pfn && pfn - huge_zero_pfn < slot_pages;
}

static size_t scan_regions(u64 *start, u64 end)
{
	struct scan scan = {
		.size = sizeof scan, .start = *start, .end = end, .vec = (uintptr_t)regions,
		.vec_len = sizeof regions / sizeof *regions, .return_mask = scan_mask,
		.category_anyof_mask = scan_mask & (IS_PRESENT | IS_SWAPPED | IS_GUARD),
	};
	int n = ioctl(pagemap(), SCAN_IOCTL, &scan);

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
			u64 c = regions[i].categories, addr = regions[i].start, stop = regions[i].end;
			u64 count = (stop - addr) / page_bytes;

			if (c & IS_PRESENT && c & IS_HUGE) {
				for (; addr < stop; addr += slot_bytes)
					add_run(addr, (stop - addr < slot_bytes ? stop - addr : slot_bytes) / page_bytes,
						c & IS_FILE ? 'T' : is_huge_zero(addr) ? 'z' : 'H');
			} else if (c & IS_PRESENT) {
				add_run(addr, count, c & IS_FILE ? 'S' : c & IS_PFNZERO ? 'Z' : 'P');
			} else if (c & IS_GUARD) {
				add_run(addr, count, 'G');
			} else {
				for (; addr < stop; addr += page_bytes) {
					u64 entry = pagemap_entry(addr);

					if (entry & ENTRY_SWAPPED) /* not of a mark of hugetlb */
						add_run(addr, 1, not_present_state(entry));
				}
			}
		}
	}
}

/*
 * Kernels without PAGEMAP_SCAN do not say which page is mapped by a huge entry.  A slot whose
 * pages are contiguous and aligned in memory may be: it is made a mapping of its own, and smaps asked.
 * Only for that moment, or it would be one with its neighbour when that is asked about.
 */
static bool maps_huge(u64 slot)
{
	bool huge = false;

	madvise(at(slot), slot_bytes, MADV_DONTDUMP);
	read_vmas(true);
	for (size_t i = 0; i < n_vmas; i++)
		if (slot >= vmas[i].start && slot < vmas[i].end)
			huge = vmas[i].huge;
	madvise(at(slot), slot_bytes, MADV_DODUMP);
	return huge;
}

/* Is a page of private memory there, if only the zero page?  For holes this is quicker than pagemap. */
static bool in_core(u64 start, u64 end)
{
	for (u64 next; start < end; start = next) {
		u64 most = start + (sizeof text - 1) * page_bytes;

		next = most < end ? most : end;
		if (mincore(at(start), next - start, (unsigned char *)text))
			return true;
		if (memchr(text, 1, (next - start) / page_bytes))
			return true;
	}
	return false;
}

/* The same of any memory, and of what is in swap (files have no zero pages); a part of a VMA is made one of its own for that moment. */
static bool has_pages(u64 start, u64 end)
{
	bool has = true;

	madvise(at(start), end - start, MADV_DONTDUMP);
	read_vmas(true);
	for (size_t i = 0; i < n_vmas; i++)
		if (vmas[i].start == start && vmas[i].end == end)
			has = vmas[i].pages || (vmas[i].prot[3] == 'p' && !vmas[i].inode && in_core(start, end));
	madvise(at(start), end - start, MADV_DODUMP);
	return has;
}

/*
 * The parts of all VMAs that are worth reading where there is no PAGEMAP_SCAN: to read pagemap for hundreds of GiB
 * takes longer than a case may.  Marks of userfaultfd are found by reading only.
 */
static struct part {
	u64 start, end;
} parts[4 * MAX_VMAS]; /* the arena has less than 2 * MAX_VMAS that are half as long as a chunk, or longer */
static size_t n_parts;

static void add_parts(u64 start, u64 end)
{
	u64 middle = round_down(start + (end - start) / 2, slot_bytes);

	if (end - start > CHUNK * page_bytes && !uses_userfaultfd()) {
		if (has_pages(start, end)) {
			add_parts(start, middle);
			add_parts(middle, end);
		}
	} else {
		parts[n_parts++] = (struct part){start, end};
	}
}

static void find_parts(void)
{
	static struct part range[MAX_VMAS]; /* the list of VMAs is read anew on the way */
	size_t n = n_vmas;

	for (size_t i = 0; i < n; i++)
		range[i] = (struct part){vmas[i].start, vmas[i].end};
	n_parts = 0;
	for (size_t i = 0; i < n; i++)
		add_parts(range[i].start, range[i].end);
}

static void pages_by_entries(u64 start, u64 end)
{
	static char states[CHUNK];

	for (u64 next; start < end; start = next) {
		u64 limit = round_down(start, slot_bytes) + CHUNK * page_bytes, count;

		next = limit < end ? limit : end;
		count = (next - start) / page_bytes;
		read_entries(start, entries, count);
		for (u64 i = 0; i < count; i++) {
			u64 e = entries[i], pfn = e & ENTRY_PFN;

			if (e & ENTRY_PRESENT)
				states[i] = e & ENTRY_FILE ? 'S' : pfn == zero_pfn ? 'Z' : 'P';
			else
				states[i] = e & (ENTRY_SWAPPED | ENTRY_GUARD) ? not_present_state(e) : 0;
		}
		for (u64 slot = round_up(start, slot_bytes); slot + slot_bytes <= next; slot += slot_bytes) {
			u64 i = (slot - start) / page_bytes, pfn = entries[i] & ENTRY_PFN, k = 0;

			while (k < slot_pages && entries[i + k] & ENTRY_PRESENT && (entries[i + k] & ENTRY_PFN) == pfn + k)
				k++;
			if (k < slot_pages || pfn % slot_pages)
				continue;
			if (pfn == huge_zero_pfn)
				memset(states + i, 'z', slot_pages);
			else if (maps_huge(slot))
				memset(states + i, states[i] == 'S' ? 'T' : 'H', slot_pages);
		}
		for (u64 i = 0; i < count; i++)
			if (states[i])
				add_run(start + i * page_bytes, 1, states[i]);
	}
}

/* Makes all VMAs readable: nothing else of them is told any more. */
static void unprotect(void)
{
	for (size_t i = 0; i < n_vmas; i++) {
		if (vmas[i].prot[0] != 'r')
			mprotect(at(vmas[i].start), vmas[i].end - vmas[i].start, PROT_READ);
		end_read_protection(vmas[i].start, vmas[i].end);
	}
}

/* Prints what is in pages that are not all zero, without knowing which are there; null: too much to read. */
void say_contents(void)
{
	u64 pages = 0, tag;

	for (size_t i = 0; i < n_vmas; i++)
		pages += (vmas[i].end - vmas[i].start) / page_bytes;
	if (pages > MAX_READ_PAGES) {
		say("null");
		return;
	}
	unprotect();
	say("[");
	first_run = true;
	for (size_t i = 0; i < n_vmas; i++)
		for (u64 addr = vmas[i].start; addr < vmas[i].end; addr += page_bytes)
			if (read_page(addr, &tag) && tag)
				add_run(addr, 1, CONTENT);
	end_run();
	say("]");
}

static void add_marks(u64 start, u64 end, struct runs *protected, struct runs *dirty)
{
	for (u64 next; start < end; start = next) {
		u64 count = (end - start) / page_bytes;

		count = count < CHUNK ? count : CHUNK;
		next = start + count * page_bytes;
		read_entries(start, entries, count);
		for (u64 i = 0; i < count; i++) {
			if (!(entries[i] & (ENTRY_PRESENT | ENTRY_SWAPPED | ENTRY_GUARD)))
				continue;
			if (entries[i] & ENTRY_UFFD_WP)
				add_page(protected, page_of(start) + i);
			if (entries[i] & ENTRY_SOFT_DIRTY)
				add_page(dirty, page_of(start) + i);
		}
	}
}

/* Which pages are write-protected for a userfaultfd, and which soft-dirty. */
void say_marks(void)
{
	static struct run protected_runs[MAX_FILLED_PAGES], dirty_runs[MAX_FILLED_PAGES];
	struct runs protected = {0, MAX_FILLED_PAGES, protected_runs}, dirty = {0, MAX_FILLED_PAGES, dirty_runs};

	if (use_scan) {
		for (u64 start = arena_start, end = arena_start + arena_bytes; start < end;) {
			size_t n = scan_regions(&start, end);

			for (size_t i = 0; i < n; i++)
				add_marks(regions[i].start, regions[i].end, &protected, &dirty);
		}
	} else if (!maps_nothing()) {
		find_parts();
		for (size_t i = 0; i < n_parts; i++)
			add_marks(parts[i].start, parts[i].end, &protected, &dirty);
	}
	say_runs("wp", &protected);
	if (has_soft_dirty()) {
		say(",");
		say_runs("sd", &dirty);
	}
}

void say_pages(void)
{
	resident = 0;
	unprotect();
	if (!use_scan)
		madvise(at(arena_start), arena_bytes, MADV_DODUMP); /* see maps_huge() */
	first_run = true;
	if (use_scan) {
		pages_by_scan(arena_start, arena_start + arena_bytes);
	} else if (!maps_nothing()) {
		find_parts();
		for (size_t i = 0; i < n_parts; i++)
			pages_by_entries(parts[i].start, parts[i].end);
	}
	end_run();
}

/* How many pages of its own, or of shared objects, say_pages() has found. */
u64 resident_pages(void)
{
	return resident;
}

/* A slot full of zeroes, which is aligned. */
static u64 zero_slot;
const char *zeroes(void)
{
	return at(zero_slot);
}

/* Finds the zero pages' numbers, unless they are hidden.  Keeps the huge one mapped: so it stays. */
void find_zero_pages(void)
{
	char *area = mmap(NULL, 3 * slot_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u64 slot = round_up((uintptr_t)area, slot_bytes);

	if (area == MAP_FAILED)
		give_up("mmap");
	madvise(area, 3 * slot_bytes, MADV_NOHUGEPAGE);
	(void)*(volatile char *)at(slot);
	zero_pfn = pagemap_entry(slot) & ENTRY_PFN;
	pfns_hidden = !zero_pfn;
	/* In another slot: where a table is there already, even an empty one, no huge page comes. */
	slot += slot_bytes;
	zero_slot = slot;
	madvise(area, 3 * slot_bytes, MADV_HUGEPAGE);
	(void)*(volatile char *)at(slot);
	huge_zero_pfn = pagemap_entry(slot) & ENTRY_PFN;
	if (pfns_hidden || huge_zero_pfn == zero_pfn || huge_zero_pfn % slot_pages)
		huge_zero_pfn = 0; /* transparent huge pages are off */
}

void probe_scan(void)
{
	struct scan scan = {.size = sizeof scan, .start = arena_start, .end = arena_start + slot_bytes,
			    .vec = (uintptr_t)regions, .vec_len = 1};

	scan.return_mask = scan_mask;
	if (use_scan && ioctl(pagemap(), SCAN_IOCTL, &scan) < 0) {
		scan_mask &= ~(u64)IS_GUARD; /* older than 6.15 */
		scan.return_mask = scan_mask;
		use_scan = ioctl(pagemap(), SCAN_IOCTL, &scan) >= 0; /* else older than 6.7 */
	}
	if (pfns_hidden && !use_scan) {
		errno = EPERM;
		give_up("root is needed: only root sees page numbers, and there is no PAGEMAP_SCAN");
	}
}
