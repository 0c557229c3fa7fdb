/*
 * The files of a case: in memory, with descriptors that cases have letters for (engine/calls/file.py).
 * Maps of BPF have such descriptors, too.
 */
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

/* An array of BPF that can be mapped; its descriptor, or -errno. */
static int open_map(u64 bytes)
{
	/* The begin of union bpf_attr, for BPF_MAP_CREATE: older headers lack the flag. */
	struct {
		uint32_t type, key_bytes, value_bytes, entries, flags;
		char zeroes[100];
	} wanted = {
		.type = 2, /* BPF_MAP_TYPE_ARRAY */
		.key_bytes = 4,
		.value_bytes = 8,
		.entries = (uint32_t)(bytes / 8 + !!(bytes % 8)),
		.flags = 1 << 10, /* BPF_F_MMAPABLE */
	};
	int fd = (int)syscall(SYS_bpf, 0 /* BPF_MAP_CREATE */, &wanted, sizeof wanted);

	return fd < 0 ? -errno : fd;
}

bool has_maps(void)
{
	static int has = -1;
	int fd;

	if (has < 0) {
		fd = open_map(page_bytes);
		has = fd >= 0;
		if (has)
			close(fd);
	}
	return has && has_files();
}

/* bpf_map(fd, size): all of them have one inode. */
int64_t make_map(const u64 *a)
{
	int map, error = 0;

	if (a[0] - FIRST_FD >= MAX_FILES)
		return -EBADF;
	map = open_map(a[1]);
	if (map < 0)
		return map;
	if (dup3(map, (int)a[0], O_CLOEXEC) < 0)
		error = -errno;
	close(map);
	return error;
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
