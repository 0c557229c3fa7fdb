/* The files of a case: in memory, with descriptors that cases have letters for (engine/calls/file.py). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

enum { FIRST_FD = 200, MAX_FILES = 8 };

static u64 inodes[MAX_CALLS]; /* also of those whose descriptor has another file now */
static size_t n_inodes;

static int open_file(int fd)
{
	int file = (int)syscall(SYS_memfd_create, "case", 1 /* MFD_CLOEXEC */), error = 0;

	if (file < 0)
		return -errno;
	if (dup3(file, fd, O_CLOEXEC) < 0)
		error = -errno;
	close(file);
	return error;
}

bool has_files(void)
{
	static int has = -1;

	if (has < 0) {
		has = !open_file(FIRST_FD + MAX_FILES - 1);
		close_files();
	}
	return has;
}

/* Those of the case before, if it has left any. */
void close_files(void)
{
	for (int fd = FIRST_FD; fd < FIRST_FD + MAX_FILES; fd++)
		close(fd);
	n_inodes = 0;
}

/* What reclaim has dropped of a file is charged for until somebody asks. */
void settle_files(void)
{
	struct stat ignored;

	for (int fd = FIRST_FD; fd < FIRST_FD + MAX_FILES; fd++)
		fstat(fd, &ignored);
}

/* Is it the inode of a file of this case? */
bool is_file(u64 inode)
{
	for (size_t i = 0; i < n_inodes; i++)
		if (inodes[i] == inode)
			return true;
	return false;
}

/* file(fd, size) */
int64_t make_file(const u64 *a)
{
	struct stat made;
	int error;

	if (a[0] - FIRST_FD >= MAX_FILES)
		return -EBADF;
	error = open_file((int)a[0]);
	if (error)
		return error;
	if (fstat((int)a[0], &made))
		return -errno;
	inodes[n_inodes++] = made.st_ino;
	return cut_file(a);
}

/* ftruncate(fd, length) */
int64_t cut_file(const u64 *a)
{
	return ftruncate((int)a[0], (off_t)a[1]) ? -errno : 0;
}

/* fallocate(fd, mode, offset, length) */
int64_t fill_file(const u64 *a)
{
	return fallocate((int)a[0], (int)a[1], (off_t)a[2], (off_t)a[3]) ? -errno : 0;
}
