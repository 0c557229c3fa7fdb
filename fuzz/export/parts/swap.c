/*
 * Writes what can be to swap, mapping by mapping; twice, as what was
 * written since MADV_FREE stays the first time.
 */
static long long swap_out(unsigned long addr, unsigned long length)
{
	static char line[512];
	unsigned long from, to, end = addr + length;

	if (addr % PAGE || length % PAGE || end < addr)
		return -EINVAL;
	for (int round = 0; round < 2; round++) {
		FILE *maps = NULL;

		if (!madvise((void *)addr, length, MADV_PAGEOUT))
			continue;
		maps = fopen("/proc/self/maps", "re");
		while (maps && fgets(line, sizeof line, maps)) {
			if (sscanf(line, "%lx-%lx", &from, &to) != 2 ||
			    from >= end || to <= addr)
				continue;
			from = from < addr ? addr : from;
			to = to > end ? end : to;
			madvise((void *)from, to - from, MADV_PAGEOUT);
		}
		if (maps)
			fclose(maps);
	}
	return 0;
}
