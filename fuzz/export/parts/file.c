/* A file in memory, all hole, with a descriptor that is given. */
static long long make_file(int fd, unsigned long size)
{
	int file = (int)syscall(SYS_memfd_create, "case", 0);
	long long result;

	if (file < 0)
		skip("memfd_create(2) is needed");
	result = result_of(syscall(SYS_dup3, file, fd, O_CLOEXEC));
	close(file);
	return result < 0		  ? result :
	       ftruncate(fd, (off_t)size) ? -errno :
					    0;
}

static long long sys_ftruncate(int fd, unsigned long length)
{
	return ftruncate(fd, (off_t)length) ? -errno : 0;
}

static long long sys_fallocate(int fd, int mode, unsigned long offset,
			       unsigned long length)
{
	return fallocate(fd, mode, (off_t)offset, (off_t)length) ? -errno :
								   0;
}

/* An array of BPF that can be mapped, with a descriptor that is given. */
static long long make_map(int fd, unsigned long size)
{
	struct {
		unsigned int type, key_bytes, value_bytes, entries, flags;
		char rest[100];
	} wanted = {
		.type = 2, /* BPF_MAP_TYPE_ARRAY */
		.key_bytes = 4,
		.value_bytes = 8,
		.entries = (unsigned int)((size + 7) / 8),
		.flags = 1 << 10, /* BPF_F_MMAPABLE */
	};
	int map = (int)syscall(SYS_bpf, 0 /* BPF_MAP_CREATE */, &wanted,
			       sizeof wanted);
	long long result;

	if (map < 0 && size)
		skip("bpf(2) is needed, and the right to make a map");
	if (map < 0)
		return -errno;
	result = result_of(syscall(SYS_dup3, map, fd, O_CLOEXEC));
	close(map);
	return result < 0 ? result : 0;
}
