static void need_page_size(void)
{
	static char why[64];

	snprintf(why, sizeof why, "pages of %lu bytes are needed", PAGE);
	if (sysconf(_SC_PAGESIZE) != (long)PAGE)
		skip(why);
}

/* Arguments: as `uname -m` prints it. */
static void need_machine(const char *machine)
{
	static char why[64];
	struct utsname name;

	snprintf(why, sizeof why, "a kernel for %s is needed", machine);
	if (uname(&name) || strcmp(name.machine, machine))
		skip(why);
}

static void need_64_bits(void)
{
	if (sizeof(long) < 8)
		skip("addresses of 64 bits are needed: build it for "
		     "another machine");
}

/* Nothing of the program itself may lie where the calls work. */
static void need_free_arena(void)
{
	if (strcmp(all_mapped(), "nothing"))
		skip("the program itself lies in the way: build it with "
		     "-static -no-pie");
}

static void need_root(void)
{
	if (geteuid())
		skip("run it as root");
}

/*
 * A setting that must be so, if this kernel has it; one of several is in
 * brackets.
 */
static void need_setting(const char *path, const char *value)
{
	static char why[256];

	read_file(path);
	snprintf(why, sizeof why, "%s must be %s", path, value);
	if (*file_text && !strstr(file_text, value))
		skip(why);
}

/* Where nobody is refused what there may not be, there is no limit. */
static void need_memory_for(unsigned long long bytes)
{
	long long kib = number_in("/proc/meminfo", "MemTotal:") +
			number_in("/proc/meminfo", "SwapTotal:");

	read_file("/proc/sys/vm/overcommit_memory");
	if (*file_text != '1' && (unsigned long long)kib * 1024 < bytes)
		skip("so much memory is promised only with 1 in "
		     "/proc/sys/vm/overcommit_memory");
}

static void need_no_swap(void)
{
	read_file("/proc/swaps");
	if (strchr(file_text, '\n') && strchr(file_text, '\n')[1])
		skip("no swap must be in use: swapoff -a");
}

static void need_swap(void)
{
	read_file("/proc/swaps");
	if (!strchr(file_text, '\n') || !strchr(file_text, '\n')[1])
		skip("swap must be in use: swapon");
}

static void need_soft_dirty(void)
{
	/* Without CONFIG_MEM_SOFT_DIRTY nothing is ever soft-dirty, not
	 * even a page that was written just now. */
	*file_text = 0;
	if (!(pagemap((unsigned long)file_text) & SOFT_DIRTY))
		skip("a kernel with CONFIG_MEM_SOFT_DIRTY is needed");
}

/*
 * Protection keys would keep memory of PROT_EXEC alone from being read:
 * take them all.
 */
static void take_protection_keys(void)
{
	while (syscall(SYS_pkey_alloc, 0, 0) >= 0)
		;
}

/* With them memory of PROT_EXEC alone cannot be read. */
static void need_protection_keys(void)
{
	long key = syscall(SYS_pkey_alloc, 0, 0);

	if (key < 0)
		skip("a CPU and a kernel with protection keys are needed");
	syscall(SYS_pkey_free, key);
}

#define HUGE_PAGES 32

static long long huge_pages_before = -1;

static void give_huge_pages_back(void)
{
	char value[32];

	snprintf(value, sizeof value, "%lld", huge_pages_before);
	if (huge_pages_before >= 0 &&
	    !write_file("/proc/sys/vm/nr_hugepages", value))
		tell(MARK "/proc/sys/vm/nr_hugepages was %s\n",
		     value);
}

/*
 * As many huge pages must be free, no more and no less; who is root has
 * them made.
 */
static void need_huge_pages(void)
{
	long long total = number_in("/proc/meminfo", "HugePages_Total:");
	long long missing =
		HUGE_PAGES -
		(number_in("/proc/meminfo", "HugePages_Free:") -
		 number_in("/proc/meminfo", "HugePages_Rsvd:"));
	char value[32];

	if (number_in("/proc/meminfo", "Hugepagesize:") !=
	    (long long)SLOT / 1024)
		skip("huge pages of another size are needed");
	if (!missing)
		return;
	snprintf(value, sizeof value, "%lld", total + missing);
	if (write_file("/proc/sys/vm/nr_hugepages", value)) {
		huge_pages_before = total;
		atexit(give_huge_pages_back);
	}
	if (number_in("/proc/meminfo", "HugePages_Free:") -
		    number_in("/proc/meminfo", "HugePages_Rsvd:") !=
	    HUGE_PAGES)
		skip("32 free huge pages are needed: write their number "
		     "to /proc/sys/vm/nr_hugepages");
}
