/* So many bytes may be mapped beyond what the program has. */
static void limit_address_space(unsigned long bytes)
{
	unsigned long own =
		(unsigned long)number_in("/proc/self/status", "VmSize:") *
		1024;
	struct rlimit limit = { own + bytes, own + bytes };

	setrlimit(RLIMIT_AS, &limit);
}

/* So many bytes may be locked; a capability would lift that. */
static void limit_locked(unsigned long bytes)
{
	struct __user_cap_header_struct header = {
		_LINUX_CAPABILITY_VERSION_3, 0
	};
	struct __user_cap_data_struct data[2];
	struct rlimit limit = { bytes, bytes };

	if (syscall(SYS_capget, &header, data))
		skip("capget failed");
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, data) ||
	    setrlimit(RLIMIT_MEMLOCK, &limit))
		skip("so much memory may not be locked: ulimit -l");
}

static long long count_vmas(void)
{
	static char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");
	long long count = 0;

	while (maps && fgets(line, sizeof line, maps))
		count += !strstr(line, "[vsyscall]");
	if (maps)
		fclose(maps);
	return count;
}

/*
 * So many mappings may be made: all others that vm.max_map_count allows
 * are made here, above the arena.
 */
static void limit_mappings(long long count)
{
	long long most = number_in("/proc/sys/vm/max_map_count", ""), left;
	unsigned long pages = (unsigned long)most + 4;
	char *area = mmap((void *)(unsigned long)(ARENA + (1ULL << 40)),
			  pages * PAGE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				  MAP_FIXED,
			  -1, 0);

	left = most - count - count_vmas();
	if (area == MAP_FAILED || left < 0 || left > 1 << 20)
		skip("vm.max_map_count must be about 65530");
	for (char *at = area + PAGE; left > 1; at += 2 * PAGE, left -= 2)
		mprotect(at, PAGE, PROT_READ);
	if (left)
		mprotect(area + (pages - 1) * PAGE, PAGE, PROT_READ);
}
