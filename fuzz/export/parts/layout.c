static void block(unsigned long start, unsigned long end)
{
	if (start < end &&
	    (unsigned long)mmap((void *)start, end - start, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS |
					MAP_NORESERVE |
					MAP_FIXED_NOREPLACE,
				-1, 0) == start) {
		/* Together these keep it from being merged with anything.
		 */
		madvise((void *)start, end - start, MADV_DONTDUMP);
		madvise((void *)start, end - start, MADV_WIPEONFORK);
	}
}

/*
 * The first address behind user space: nothing can be mapped there, be it
 * free or not.
 */
static unsigned long user_top(void)
{
	unsigned long here = (unsigned long)&user_top / PAGE,
		      there = 1UL << (sizeof(long) == 8 ? 45 : 20);

	while (there - here > 1) {
		unsigned long middle = here + (there - here) / 2;
		void *got = mmap((void *)(middle * PAGE), PAGE, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS |
					 MAP_FIXED_NOREPLACE,
				 -1, 0);
		bool exists = (unsigned long)got == middle * PAGE ||
			      (got == MAP_FAILED && errno == EEXIST);

		if (got != MAP_FAILED)
			munmap(got, PAGE);
		if (exists)
			here = middle;
		else
			there = middle;
	}
	return there * PAGE;
}

/* As vm.mmap_min_addr usually is. */
#define LOWEST 0x10000UL

/*
 * Occupies all of the address space but the arena: so the kernel chooses
 * addresses there.
 */
static void occupy_the_rest(void)
{
	static struct {
		unsigned long start, end;
	} gaps[512];
	static char line[512];
	unsigned long from, to, low = LOWEST, top = user_top(),
				end = ARENA + ARENA_BYTES;
	FILE *maps = fopen("/proc/self/maps", "re");
	size_t n = 0;

	while (maps && n < 511 && fgets(line, sizeof line, maps)) {
		if (sscanf(line, "%lx-%lx", &from, &to) != 2 ||
		    from >= top)
			continue;
		gaps[n].start = low;
		gaps[n++].end =
			strstr(line, "[stack]") ? from - 256 * PAGE : from;
		low = to;
	}
	if (maps)
		fclose(maps);
	gaps[n].start = low;
	gaps[n++].end = top;
	for (size_t i = 0; i < n; i++) {
		if (gaps[i].end <= ARENA || gaps[i].start >= end) {
			block(gaps[i].start, gaps[i].end);
		} else {
			block(gaps[i].start, ARENA);
			block(end, gaps[i].end);
		}
	}
}

/* Where the stack has no limit the kernel chooses addresses from below. */
static void need_addresses_from_above(void)
{
	struct rlimit stack;

	if (!getrlimit(RLIMIT_STACK, &stack) &&
	    stack.rlim_cur == RLIM_INFINITY)
		skip("the stack must have a limit: ulimit -s 8192");
}

/* As far as a mapping with MAP_GROWSDOWN may grow. */
static void limit_stack(void)
{
	struct rlimit stack;

	getrlimit(RLIMIT_STACK, &stack);
	stack.rlim_cur = 8UL << 20;
	if (setrlimit(RLIMIT_STACK, &stack))
		skip("the stack must be allowed 8 MiB: ulimit -Hs");
}
