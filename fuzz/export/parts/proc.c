/* The file that was read last, or the front of it. */
static char file_text[1 << 16];

static void read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;
	size_t used = 0;

	while (fd >= 0 && (n = read(fd, file_text + used,
				    sizeof file_text - 1 - used)) > 0)
		used += (size_t)n;
	file_text[used] = 0;
	if (fd >= 0)
		close(fd);
}

/* The number behind a word of a file; 0 if it is not there. */
static long long number_in(const char *path, const char *word)
{
	const char *found;

	read_file(path);
	found = strstr(file_text, word);
	return found ? strtoll(found + strlen(word), NULL, 10) : 0;
}

static bool write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) ==
				       (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return done;
}

/* KiB of locked memory. */
static long long locked_kib(void)
{
	return number_in("/proc/self/status", "VmLck:");
}

/* KiB in swap. */
static long long swapped_kib(void)
{
	return number_in("/proc/self/status", "VmSwap:");
}

/* KiB of page tables, those of the program itself included. */
static long long all_tables_kib(void)
{
	return number_in("/proc/self/status", "VmPTE:");
}

/* What of it is the program's own. */
static long long own_tables_kib;

static void begin_tables(void)
{
	all_tables_kib(); /* what this needs itself is there from now on */
	own_tables_kib = all_tables_kib();
}

/* KiB of page tables that the calls have made. */
static long long tables_kib(void)
{
	return all_tables_kib() - own_tables_kib;
}

/* Of the whole system, in KiB: memory that was promised. */
static long long all_committed_kib(void)
{
	return number_in("/proc/meminfo", "Committed_AS:");
}

static long long committed_before;

static void begin_committed(void)
{
	committed_before = all_committed_kib();
}

/* Pages that the calls have added. */
static long long committed_pages(void)
{
	return (all_committed_kib() - committed_before) /
	       ((long long)PAGE / 1024);
}

static long long free_huge_before, reserved_huge_before;

static void begin_huge(void)
{
	free_huge_before = number_in("/proc/meminfo", "HugePages_Free:");
	reserved_huge_before =
		number_in("/proc/meminfo", "HugePages_Rsvd:");
}

/* Huge pages that the calls took. */
static long long used_huge(void)
{
	return free_huge_before -
	       number_in("/proc/meminfo", "HugePages_Free:");
}

/* Huge pages that are promised since. */
static long long reserved_huge(void)
{
	return number_in("/proc/meminfo", "HugePages_Rsvd:") -
	       reserved_huge_before;
}
