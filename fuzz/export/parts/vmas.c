/*
 * What is mapped from `start` up to `end`: each mapping as /proc/PID/maps
 * has it, cut to the range.
 */
static const char *mapped(unsigned long start, unsigned long end)
{
	static char found[16384], line[512];
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long from, to;
	size_t used = 0;
	char access[5];

	found[0] = 0;
	while (maps && fgets(line, sizeof line, maps)) {
		if (sscanf(line, "%lx-%lx %4s", &from, &to, access) != 3 ||
		    from >= end || to <= start)
			continue;
		from = from < start ? start : from;
		to = to > end ? end : to;
		if (used < sizeof found - 64)
			used += (size_t)sprintf(
				found + used, "%s0x%lx-0x%lx %s",
				used ? ", " : "", from - ARENA, to - ARENA,
				access);
	}
	if (maps)
		fclose(maps);
	return used ? found : "nothing";
}

/* All that the calls have mapped. */
static const char *all_mapped(void)
{
	return mapped(ARENA, ARENA + ARENA_BYTES);
}

/*
 * Which of some flags the mapping at an address has: `asked` are two
 * letters each, as VmFlags of /proc/PID/smaps has them.  Returns the same
 * words, with a `-` before those that it has not.
 */
static const char *vma_flags(unsigned long addr, const char *asked)
{
	static char found[512], line[512];
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long from, to;
	bool here = false;
	size_t used = 0;

	while (smaps && fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = addr >= from && addr < to;
		else if (here && !strncmp(line, "VmFlags:", 8))
			break;
	}
	if (smaps)
		fclose(smaps);
	for (const char *word = asked; *word; word += strcspn(word, " ")) {
		char flag[4] = " ";

		word += strspn(word, " -");
		memcpy(flag + 1, word, 2);
		used += (size_t)sprintf(
			found + used, "%s%s%s", used ? " " : "",
			here && strstr(line, flag) ? "" : "-", flag + 1);
	}
	return found;
}
