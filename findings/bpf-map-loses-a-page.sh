#!/bin/sh
# A map of BPF (an array with BPF_F_MMAPABLE) is mapped shared, and a page of the mapping is thrown away with
# MADV_DONTNEED.  What does the next access see?
#
# Guess: what the map holds, as with every file: in a shared mapping that advice is about page tables alone, and a fault
# finds the page again.
# Seen, Linux 6.18.44 (and Debian's 6.1.176, 6.12.117, 6.16.12 and 7.2.13 in virtual machines), x86-64: SIGBUS, for
# reading and for writing, also after mremap, and EFAULT of MADV_POPULATE_READ and _WRITE.  mmap has put in all pages at
# once, and there is no fault handler to do it a second time.  The map is whole: bpf(2), another mapping and a new one
# at the same address show its content.  Debian's 7.3.4 puts in nothing before a fault, and the page comes back.
# PROT_EXEC is EPERM since 6.16 (6.12.117 maps it): files without an inode of their own are noexec from there on.
#
# usage: bpf-map-loses-a-page.sh        needs a C compiler, and root, or the right to make maps (CAP_BPF)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.c" <<'PROGRAM'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static sigjmp_buf back;
static int as_described = 1;
static long page;

static void jump(int signal)
{
	siglongjmp(back, signal);
}

/* The byte at a place, or minus the signal that reading (or writing what is there) is answered with. */
static int look(volatile char *place, int writing)
{
	int signal = sigsetjmp(back, 1);

	if (signal)
		return -signal;
	if (writing)
		*place = 7;
	return *place;
}

/* Whether something is mapped there, which is asked without a fault. */
static int is_present(char *place)
{
	uint64_t entry = 0;
	int file = open("/proc/self/pagemap", O_RDONLY);

	if (pread(file, &entry, sizeof entry, (uintptr_t)place / page * 8) != sizeof entry)
		exit(printf("cannot tell here: /proc/self/pagemap\n"));
	close(file);
	return entry >> 63;
}

static void tell(const char *what, int seen, int expected)
{
	printf("  %-46s %4d%s\n", what, seen, seen == expected ? "" : "  NOT AS DESCRIBED");
	as_described &= seen == expected;
}

int main(void)
{
	struct { /* the begin of union bpf_attr, for BPF_MAP_CREATE */
		uint32_t type, key_bytes, value_bytes, entries, flags;
		char zeroes[100];
	} wanted = {.type = 2 /* ARRAY */, 4, 8, .flags = 1 << 10 /* MMAPABLE */};
	struct { /* and for BPF_MAP_LOOKUP_ELEM */
		uint32_t map, unused;
		uint64_t key, value, flags;
		char zeroes[80];
	} lookup = {0};
	struct utsname system;
	int major = 0, minor = 0, map, faults, noexec;
	uint32_t key = 0;
	char value[8] = {0}, *one, *other, *room;

	page = sysconf(_SC_PAGESIZE);
	uname(&system);
	sscanf(system.release, "%d.%d", &major, &minor);
	faults = major * 100 + minor >= 703;
	noexec = major * 100 + minor >= 616;
	printf("Linux %s, %s; signals and errors are negative\n", system.release, system.machine);
	wanted.entries = 2 * page / 8;
	map = (int)syscall(SYS_bpf, 0, &wanted, sizeof wanted);
	if (map < 0)
		return printf("cannot tell here: bpf(2): %s\n", strerror(errno));
	signal(SIGBUS, jump);
	signal(SIGSEGV, jump);
	one = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	other = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, map, 0);
	room = mmap(NULL, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (one == MAP_FAILED || other == MAP_FAILED || room == MAP_FAILED)
		return printf("cannot tell here: mmap: %s\n", strerror(errno));
	tell("mmap: page 0 is present before any access", is_present(one), !faults);
	tell("page 0 is written", look(one, 1), 7);
	tell("MADV_DONTNEED of page 0", madvise(one, page, MADV_DONTNEED) ? -errno : 0, 0);
	tell("reading page 0", look(one, 0), faults ? 7 : -SIGBUS);
	tell("writing page 0", look(one, 1), faults ? 7 : -SIGBUS);
	tell("MADV_POPULATE_READ", madvise(one, page, 22) ? -errno : 0, faults ? 0 : -EFAULT);
	tell("MADV_POPULATE_WRITE", madvise(one, page, 23) ? -errno : 0, faults ? 0 : -EFAULT);
	mremap(one, 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	tell("reading page 0 where mremap has moved it", look(room, 0), faults ? 7 : -SIGBUS);
	tell("reading page 1 there", look(room + page, 0), 0);
	tell("reading page 0 of another mapping", look(other, 0), 7);
	lookup.map = (uint32_t)map;
	lookup.key = (uintptr_t)&key;
	lookup.value = (uintptr_t)value;
	if (syscall(SYS_bpf, 1, &lookup, sizeof lookup))
		return printf("cannot tell here: bpf(2): %s\n", strerror(errno));
	tell("BPF_MAP_LOOKUP_ELEM", value[0], 7);
	mmap(room, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, map, 0);
	tell("reading page 0 after mmap at the same address", look(room, 0), 7);
	one = mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, map, 0);
	tell("mmap with PROT_EXEC", one == MAP_FAILED ? -errno : 0, noexec ? -EPERM : 0);
	return !as_described;
}
PROGRAM
${CC:-cc} -O1 -Wall -o "$folder/seen" "$folder/seen.c"
"$folder/seen"
echo "as described"
