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
