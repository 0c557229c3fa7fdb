#define CGROUPS "/sys/fs/cgroup"

static char group[128];

static int limit_fd = -1, usage_fd = -1;

static const char *in_group(const char *name)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/%s", group, name);
	return path;
}

static long long bytes_in_use(void)
{
	char number[32] = "";

	if (pread(usage_fd, number, sizeof number - 1, 0) <= 0)
		skip("the memory cgroup does not say what is in use");
	return strtoll(number, NULL, 10);
}

/* -1: without a limit. */
static bool allow(long long bytes)
{
	char value[32];
	int length = snprintf(value, sizeof value, "%lld",
			      bytes < 0 ? 1LL << 60 : bytes);

	return pwrite(limit_fd, value, (size_t)length, 0) == length;
}

static void leave_group(void)
{
	allow(-1);
	write_file(CGROUPS "/cgroup.procs", "0");
	rmdir(group);
}

/*
 * An area that is cut into VMAs, so that the kernel needs memory for
 * these.
 */
static char *spare;

#define SPARE_PAGES 4096

static void prod(void)
{
	static unsigned long cut = 1;

	madvise(spare + cut * PAGE, PAGE, MADV_DODUMP);
	cut += 2;
}

/*
 * What the kernel has set aside is given back; then it takes one page for
 * the VMAs to come, and no more: VMAs are cut elsewhere until it has.
 */
static void squeeze(void)
{
	long long before;

	do {
		before = bytes_in_use();
		allow((long long)PAGE);
		usleep(20000);
	} while (bytes_in_use() != before);
	allow(before + (long long)PAGE);
	for (int i = 0; i < 64 && bytes_in_use() == before; i++)
		prod();
	for (int i = 0; i < 4; i++)
		prod();
}

/*
 * From here on the process is in a memory cgroup of its own, in which it
 * may be refused memory: nobody may be killed for it.  Page tables and
 * VMAs count there.
 */
static void begin_shortage(void)
{
	need_root();
	snprintf(group, sizeof group, CGROUPS "/shortage-%d",
		 (int)getpid());
	if (!write_file(CGROUPS "/cgroup.subtree_control", "+memory") ||
	    mkdir(group, 0755))
		skip("the memory controller of cgroup v2 is needed, "
		     "at " CGROUPS);
	limit_fd = open(in_group("memory.max"), O_WRONLY | O_CLOEXEC);
	usage_fd = open(in_group("memory.current"), O_RDONLY | O_CLOEXEC);
	if (limit_fd < 0 || usage_fd < 0 ||
	    !write_file("/proc/self/oom_score_adj", "-1000") ||
	    !write_file(in_group("cgroup.procs"), "0"))
		skip("a memory cgroup cannot be used");
	atexit(leave_group);
	spare = mmap((void *)(unsigned long)(ARENA + (1ULL << 40)),
		     SPARE_PAGES * PAGE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			     MAP_FIXED,
		     -1, 0);
	madvise(spare, SPARE_PAGES * PAGE, MADV_DONTDUMP);
	squeeze(); /* what this needs itself is there from now on */
	allow(-1);
}

/*
 * An mremap that may have so many page tables more, and no other: the next
 * one fails, and those behind it.
 */
static long long sys_mremap_with_tables(int tables, unsigned long addr,
					unsigned long old_size,
					unsigned long new_size,
					unsigned long flags,
					unsigned long new_addr)
{
	long long result;

	squeeze();
	allow(bytes_in_use() + tables * (long long)PAGE);
	result = sys_mremap(addr, old_size, new_size, flags, new_addr);
	allow(-1);
	return result;
}
