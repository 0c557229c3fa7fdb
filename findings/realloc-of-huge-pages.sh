#!/bin/sh
# glibc can take the memory of malloc from reserved huge pages (GLIBC_TUNABLES=glibc.malloc.hugetlb=2).
# A large block is a mapping of its own: realloc makes it smaller with mremap(2), free unmaps it.
#
# Guess: what may be given to mremap may be given to munmap; after free the pages are back.
# Seen, Linux 6.18.44, x86-64: of a mapping of huge pages mremap takes any length and rounds it up to
# whole huge pages, munmap refuses what is not whole (EINVAL); so a mapping of three, made smaller to
# three quarters of two, has two, and munmap of the same length does nothing.  glibc 2.36 and 2.41
# (Debian 12 and 13) do just that: realloc from 5 to 3 MiB passes mremap a length of whole small pages,
# free passes it to munmap, which fails, and free says nothing.  Two huge pages are lost for each such
# block.  With glibc 2.43 and 2.44 (Debian, testing) the length is one of whole huge pages, and
# nothing is lost.
#
# usage: realloc-of-huge-pages.sh      needs cc, glibc, 8 free huge pages of 2 MiB (vm.nr_hugepages)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.c" <<'PROGRAM'
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIB (1L << 20)

static int huge_pages(void)
{
	char line[512];
	unsigned long start, end, bytes = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "anon_hugepage") && sscanf(line, "%lx-%lx", &start, &end) == 2)
			bytes += end - start;
	fclose(maps);
	return bytes / (2 * MIB);
}

static int by_hand(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << 26; /* of 2 MiB */
	char *block = mmap(NULL, 6 * MIB, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (block == MAP_FAILED)
		return 2;
	printf("%d", mremap(block, 6 * MIB, 3 * MIB, 0) == block ? huge_pages() : -1);
	printf(" %s", munmap(block, 3 * MIB) ? strerrorname_np(errno) : "done");
	printf(" %d\n", huge_pages());
	return 0;
}

static int by_malloc(void)
{
	mallopt(M_MMAP_THRESHOLD, MIB);
	int before = huge_pages(); /* what stdio has taken */
	char *block = malloc(5 * MIB);

	memset(block, 1, 5 * MIB);
	if (huge_pages() == before)
		return 2;
	printf("%d", huge_pages() - before);
	block = realloc(block, 3 * MIB);
	printf(" %d", huge_pages() - before);
	free(block);
	printf(" %d\n", huge_pages() - before);
	return 0;
}

int main(int argc, char **argv)
{
	(void)argv;
	return argc > 1 ? by_malloc() : by_hand();
}
PROGRAM
cc -o "$folder/seen" "$folder/seen.c"
by_hand=$("$folder/seen") || { echo "cannot tell here: no free huge pages of 2 MiB"; exit 1; }
by_malloc=$(GLIBC_TUNABLES=glibc.malloc.hugetlb=2 "$folder/seen" malloc) || { echo "cannot tell here: no free huge pages"; exit 1; }
libc=$(getconf GNU_LIBC_VERSION)
echo "$(uname -sr), $libc"
echo "  huge pages after mremap to 3 MiB, munmap of 3 MiB, huge pages: $by_hand"
echo "  huge pages after malloc, realloc, free: $by_malloc"
test "$by_hand" = "2 EINVAL 2"
case $libc in
"glibc 2.36" | "glibc 2.41") test "$by_malloc" = "3 2 2" ;;
"glibc 2.43" | "glibc 2.44") test "$by_malloc" = "3 2 0" ;;
*) echo "  (seen with glibc 2.36, 2.41, 2.43 and 2.44 only)" ;;
esac
echo "as described"
