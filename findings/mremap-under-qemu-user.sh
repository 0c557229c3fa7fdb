#!/bin/sh
# Where is memory after mremap(2) under qemu-user?  And when is /proc/self/maps of such a process written?
#
# Guess: what shrinks stays where it is, also with MREMAP_MAYMOVE, and so does what may grow in place, as on
# Linux; a file of /proc that is open says what is so when it is read.
# Seen, qemu-user 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18), 10.0.13, 11.1.3, x86-64 on x86-64: with MREMAP_MAYMOVE
# it moves whenever it is called, even to shrink or to stay as long as it is.  Without it, it stays.  maps is
# written when it is opened: reading it again from its beginning shows what was then.
#
# usage: mremap-under-qemu-user.sh [QEMU]         default: qemu-x86_64-static; needs a C compiler, a static libc
set -eu
qemu=${1:-qemu-x86_64-static}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/moves.c" <<'PROGRAM'
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char *place = (char *)0x20000000;

/* How mremap from `old` pages to `new` ends, with room behind them. */
static const char *moves(int old, int new, int flags)
{
	char *got, *p;

	p = mmap(place, old * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	got = mremap(p, old * 4096, new * 4096, flags);
	if (got == MAP_FAILED)
		return "fails";
	munmap(got, new * 4096);
	return got == p ? "stays" : "moves";
}

int main(void)
{
	static char text[1 << 16];
	int fd = open("/proc/self/maps", O_RDONLY);
	ssize_t n;

	printf("shrink %s, grow %s, as long %s, shrink without the flag %s; ", moves(3, 1, MREMAP_MAYMOVE),
	       moves(1, 3, MREMAP_MAYMOVE), moves(2, 2, MREMAP_MAYMOVE), moves(3, 1, 0));
	mmap(place, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	lseek(fd, 0, SEEK_SET);
	n = read(fd, text, sizeof text - 1);
	text[n < 0 ? 0 : n] = 0;
	printf("maps: %s\n", strstr(text, "20000000-20001000 ") ? "as it is" : "as it was");
	return 0;
}
PROGRAM
${CC:-cc} -O2 -static -o "$folder/moves" "$folder/moves.c"
"$qemu" --version | head -n 1
linux=$("$folder/moves")
echo "  Linux $(uname -r): $linux"
[ "$linux" = "shrink stays, grow stays, as long stays, shrink without the flag stays; maps: as it is" ]
emulated=$("$qemu" "$folder/moves")
echo "  qemu-user: $emulated"
[ "$emulated" = "shrink moves, grow moves, as long moves, shrink without the flag stays; maps: as it was" ] ||
	{ echo "not as described"; exit 1; }
echo "as described"
