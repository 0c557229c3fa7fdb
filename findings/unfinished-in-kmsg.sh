#!/bin/sh
# Programs that boot a machine write to /dev/kmsg: a line of their own between the kernel's.
#
# Guess: each write is a record, as Documentation/ABI/testing/dev-kmsg says ("every write() to the opened
# device node places a log entry"), and a newline at its end is a matter of taste; and dprintf, which is
# one write of a formatted text, does what write does.
# Seen, Linux 6.18.44 (and on serial consoles 6.1.176), glibc 2.36: a record without a newline is seen by nobody,
# no console, no reader of /dev/kmsg, however long one waits, until somebody writes the next one: the ring
# buffer keeps it open, so that it may be continued (prb_commit, and prb_final_commit only behind a
# newline).  So the last words of a program that then waits, or turns the machine off, may never be
# read.  And dprintf fails with EINVAL: glibc asks for the position first, for which all that cannot seek
# answers ESPIPE, but this device EINVAL (devkmsg_llseek).
#
# Needs root, a C compiler and /dev/kmsg; two lines of the lowest level stay in the kernel's log.
#
# usage: unfinished-in-kmsg.sh
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.c" <<'PROGRAM'
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static int in, out;

/* How many of our records have come since. */
static int seen(void)
{
	char record[8192];
	ssize_t n;
	int found = 0;

	while ((n = read(in, record, sizeof record - 1)) > 0 || (n < 0 && errno == EPIPE))
		if (n > 0) {
			record[n] = 0;
			found += strstr(record, "unfinished-in-kmsg") != NULL;
		}
	return found;
}

static void put(const char *text)
{
	assert(write(out, text, strlen(text)) == (ssize_t)strlen(text));
}

int main(void)
{
	struct utsname system;
	int before, later, next;

	uname(&system);
	in = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	out = open("/dev/kmsg", O_WRONLY);
	if (in < 0 || out < 0)
		return perror("/dev/kmsg"), 2;
	lseek(in, 0, SEEK_END);
	put("<7>unfinished-in-kmsg: the first");
	before = seen();
	usleep(500000);
	later = seen();
	put("<7>unfinished-in-kmsg: the second\n");
	next = seen();
	printf("Linux %s, glibc %s\n", system.release, gnu_get_libc_version());
	printf("records seen behind one without a newline: %d, half a second later: %d, behind the next: %d\n", before,
	       later, next);
	assert(before == 0 && later == 0 && next == 2);
	assert(dprintf(out, "<7>unfinished-in-kmsg: a third\n") < 0 && errno == EINVAL);
	printf("dprintf: %s\n", strerror(errno));
	return 0;
}
PROGRAM
cc -o "$folder/seen" "$folder/seen.c"
"$folder/seen"
echo "as described"
