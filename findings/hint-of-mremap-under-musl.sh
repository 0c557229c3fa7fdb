#!/bin/sh
# mremap(2) with MREMAP_DONTUNMAP takes a fifth argument, where the memory would best go, a hint as that of
# mmap(2).  What becomes of it in C?
#
# Guess: mremap of a C library is the system call; who passes five arguments has the kernel see five.
# Seen, x86-64, Linux 6.18.44, the same program: with glibc (2.36, 2.41, 2.43 and 2.44 as
# Debian packs them) memory goes to the free address that was asked for; with the musl of ziglang 0.15.1 it
# goes elsewhere: its mremap reads the fifth argument only if MREMAP_FIXED is set, and passes 0.  Nothing
# is said: the call succeeds.  The flag is of 2020 (Linux 5.7); with MREMAP_FIXED the libraries agree.
#
# usage: hint-of-mremap-under-musl.sh [PYTHON]          default: python3; needs cc with glibc
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/hint.c" <<'PROGRAM'
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static const char *asked(int flags)
{
	char *room = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(room, 3 * 4096);
	char *moved = mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | flags, room + 4096);
	return moved == MAP_FAILED ? "refused" : moved == room + 4096 ? "heeded" : "ignored";
}

int main(void)
{
	printf("hint %s, with MREMAP_FIXED %s\n", asked(0), asked(MREMAP_FIXED));
	return 0;
}
PROGRAM
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ziglang==0.15.1
cc -o "$folder/glibc" "$folder/hint.c"
ZIG_GLOBAL_CACHE_DIR=$folder/cache ZIG_LOCAL_CACHE_DIR=$folder/cache \
	"$folder/venv/bin/python" -m ziglang cc -target x86_64-linux-musl -o "$folder/musl" "$folder/hint.c"
glibc=$("$folder/glibc")
musl=$("$folder/musl")
echo "$(uname -sr)"
echo "  $(getconf GNU_LIBC_VERSION): $glibc"
echo "  musl of ziglang 0.15.1: $musl"
test "$glibc" = "hint heeded, with MREMAP_FIXED heeded"
test "$musl" = "hint ignored, with MREMAP_FIXED heeded"
echo "as described"
