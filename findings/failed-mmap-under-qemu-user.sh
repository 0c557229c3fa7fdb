#!/bin/sh
# What does an mmap(2) that fails leave behind under qemu-user?
#
# Guess: nothing; the range is as free as it was, as on Linux.
# Seen, qemu-user 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18), x86-64 on x86-64, vm.overcommit_memory 0: an mmap of
# 4 TiB is -ENOMEM, and from then on its range is taken: a hint into it is passed over, as if something were
# mapped there, though maps shows nothing.  With 10.0.13 and 11.1.3 it is free again.
#
# usage: failed-mmap-under-qemu-user.sh [QEMU]    default: qemu-x86_64-static; needs a C compiler, a static libc
set -eu
qemu=${1:-qemu-x86_64-static}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/fails.c" <<'PROGRAM'
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>

int main(void)
{
	char *place = (char *)0x100000000000, *got;

	got = mmap(place, 1ULL << 42, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("4 TiB %s, ", got == MAP_FAILED ? "refused" : "mapped");
	got = mmap(place, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("then a page %s\n", got == place ? "where it was to be" : "elsewhere");
	return 0;
}
PROGRAM
${CC:-cc} -O2 -static -o "$folder/fails" "$folder/fails.c"
version=$("$qemu" --version | head -n 1)
linux=$("$folder/fails")
echo "  Linux $(uname -r): $linux"
[ "$linux" = "4 TiB refused, then a page where it was to be" ] ||
	{ echo "this machine gives 4 TiB: vm.overcommit_memory must be 0"; exit 2; }
emulated=$("$qemu" "$folder/fails")
echo "  $version: $emulated"
case $version in
*" version 7.2."*) expected="4 TiB refused, then a page elsewhere" ;;
*) expected=$linux ;;
esac
[ "$emulated" = "$expected" ] || { echo "not as described"; exit 1; }
echo "as described"
