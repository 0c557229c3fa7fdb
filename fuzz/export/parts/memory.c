/*
 * All addresses are offsets into a part of the address space where nothing
 * else is mapped.
 */
#define AT(offset) ((unsigned long)(ARENA + (offset)))

/*
 * The system calls as they are: libc's wrappers check operands, and leave
 * some out.
 */
static long long result_of(long result)
{
	return result == -1 ? -errno : (long long)(unsigned long)result;
}

static long long sys_mmap(unsigned long addr, unsigned long length,
			  unsigned long prot, unsigned long flags, int fd,
			  unsigned long offset)
{
#ifdef SYS_mmap2
	if (offset % 4096)
		return -EINVAL;
	return result_of(syscall(SYS_mmap2, addr, length, prot, flags, fd,
				 offset / 4096));
#else
	return result_of(
		syscall(SYS_mmap, addr, length, prot, flags, fd, offset));
#endif
}

static long long sys_munmap(unsigned long addr, unsigned long length)
{
	return result_of(syscall(SYS_munmap, addr, length));
}

/* All that the calls have mapped goes. */
static long long unmap_all(void)
{
	return sys_munmap(ARENA, ARENA_BYTES);
}

static long long sys_mprotect(unsigned long addr, unsigned long length,
			      unsigned long prot)
{
	return result_of(syscall(SYS_mprotect, addr, length, prot));
}

static long long sys_mremap(unsigned long addr, unsigned long old_size,
			    unsigned long new_size, unsigned long flags,
			    unsigned long new_addr)
{
	return result_of(syscall(SYS_mremap, addr, old_size, new_size,
				 flags, new_addr));
}

static long long sys_madvise(unsigned long addr, unsigned long length,
			     int advice)
{
	return result_of(syscall(SYS_madvise, addr, length, advice));
}

static long long sys_mlock(unsigned long addr, unsigned long length)
{
	return result_of(syscall(SYS_mlock, addr, length));
}

static long long sys_mlock2(unsigned long addr, unsigned long length,
			    unsigned long flags)
{
	return result_of(syscall(SYS_mlock2, addr, length, flags));
}

static long long sys_munlock(unsigned long addr, unsigned long length)
{
	return result_of(syscall(SYS_munlock, addr, length));
}

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static long long sys_mseal(unsigned long addr, unsigned long length)
{
	return result_of(syscall(SYS_mseal, addr, length, 0));
}
