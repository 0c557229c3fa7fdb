/*
 * The bits of /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst.
 */
#define PRESENT (1ULL << 63)
#define SWAPPED (1ULL << 62)
#define GUARD (1ULL << 58)
#define UFFD_WP (1ULL << 57)
#define SOFT_DIRTY (1ULL << 55)

static unsigned long long pagemap(unsigned long addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned long long entry = 0;

	if (pread(fd, &entry, sizeof entry,
		  (off_t)(addr / PAGE * sizeof entry)) != sizeof entry)
		skip("/proc/self/pagemap cannot be read");
	close(fd);
	return entry;
}

/* PAGEMAP_SCAN: <linux/fs.h> has it since Linux 6.7. */
struct scan_region {
	unsigned long long start, end, categories;
};

struct scan_arg {
	unsigned long long size, flags, start, end, walk_end, vec, vec_len,
		max_pages;
	unsigned long long category_inverted, category_mask,
		category_anyof_mask, return_mask;
};

#define SCAN _IOWR('f', 16, struct scan_arg)
#define SCAN_HUGE (1 << 6)

/* Is a page part of a huge page that is mapped as a whole? */
static bool is_huge(unsigned long addr)
{
	struct scan_region region = { 0, 0, 0 };
	struct scan_arg arg = { .size = sizeof arg,
				.start = addr,
				.end = addr + PAGE,
				.vec = (uintptr_t)&region,
				.vec_len = 1,
				.category_mask = SCAN_HUGE,
				.return_mask = SCAN_HUGE };
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int n = ioctl(fd, SCAN, &arg);

	close(fd);
	if (n < 0)
		skip("whether a page is huge can be seen since Linux 6.7 "
		     "(PAGEMAP_SCAN)");
	return n == 1;
}

static bool page_is(unsigned long addr, const char *word)
{
	unsigned long long entry = pagemap(addr);

	if (!strcmp(word, "none"))
		return !(entry & (PRESENT | SWAPPED | GUARD));
	if (!strcmp(word, "huge"))
		return is_huge(addr);
	return entry & (!strcmp(word, "present") ? PRESENT :
			!strcmp(word, "swapped") ? SWAPPED :
			!strcmp(word, "guard")	 ? GUARD :
			!strcmp(word, "uffd-wp") ? UFFD_WP :
						   SOFT_DIRTY);
}

/*
 * How a page is.  Returns the words that are asked, with a `-` before
 * those that are not true of it.
 */
static const char *page(unsigned long addr, const char *asked)
{
	static char found[512];
	size_t used = 0;

	for (const char *at = asked; *at; at += strcspn(at, " ")) {
		char word[16] = "";

		at += strspn(at, " ");
		at += *at == '-';
		memcpy(word, at, strcspn(at, " "));
		used += (size_t)sprintf(
			found + used, "%s%s%s", used ? " " : "",
			page_is(addr, word) ? "" : "-", word);
	}
	return found;
}

/*
 * The number that a page begins with, whatever its protection; -errno if
 * nothing is there.
 */
static long long content(unsigned long addr)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	unsigned long number = 0;
	long long result = pread(fd, &number, sizeof number,
				 (off_t)addr) == sizeof number ?
				   (long long)number :
				   -errno;

	close(fd);
	return result;
}

/*
 * Of pages side by side, the numbers that they begin with: "3 to 7" if
 * they
 * count up, "0 * 5" if they are the same.
 */
static const char *contents(unsigned long addr, unsigned long pages)
{
	static char found[8192];
	size_t used = 0;

	for (unsigned long i = 0, end; i < pages; i = end) {
		long long first = content(addr + i * PAGE);
		long long step = first > 0;
		const char *comma = i ? ", " : "";

		for (end = i + 1; end < pages; end++)
			if (content(addr + end * PAGE) !=
			    first + step * (long long)(end - i))
				break;
		if (used > sizeof found - 64)
			break;
		if (end == i + 1)
			used += (size_t)sprintf(found + used, "%s%lld",
				comma,
						first);
		else if (step)
			used += (size_t)sprintf(
				found + used, "%s%lld to %lld", comma,
				first,
				first + (long long)(end - i) - 1);
		else
			used += (size_t)sprintf(found + used,
				"%s%lld * %lu",
						comma, first, end - i);
	}
	return found;
}
