#!/bin/sh
# Does valgrind make a read that nobody uses?  A program that tries memory by reading it depends on that.
#
# Guess: every load that the program executes is executed, and faults if the page may not be read.
# Seen, valgrind 3.19.0 (Debian 1:3.19.0-1), 3.24.0 and 3.27.1, x86-64: a load whose register is overwritten
# right behind it is left out: a read of a PROT_NONE page does not fault, with --tool=none and with memcheck,
# which does not tell of it either.  With --vex-iropt-register-updates=allregs-at-each-insn it is made.
#
# usage: unused-reads-under-valgrind.sh [VALGRIND]        default: valgrind; needs a C compiler, x86-64
set -eu
valgrind=${1:-valgrind}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/read.c" <<'PROGRAM'
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static void on_fault(int signal)
{
	(void)signal;
	puts("fault");
	fflush(stdout);
	_Exit(0);
}

int main(int argc, char **argv)
{
	char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long value;

	(void)argv;
	signal(SIGSEGV, on_fault);
	if (argc > 1)
		__asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(page) : "memory");
	else
		__asm__ volatile("movq (%1), %0; xorl %k0, %k0" : "=&r"(value) : "r"(page) : "memory");
	puts("no fault");
	return 0;
}
PROGRAM
${CC:-cc} -O2 -o "$folder/read" "$folder/read.c"
seen() { # seen WHAT EXPECTED COMMAND...
	what=$1 expected=$2
	shift 2
	found=$("$@" 2>/dev/null)
	echo "  $what: $found"
	[ "$found" = "$expected" ] || { echo "not as described: $expected"; exit 1; }
}
"$valgrind" --version
each=--vex-iropt-register-updates=allregs-at-each-insn
seen "the processor, unused" "fault" "$folder/read"
seen "valgrind, used" "fault" "$valgrind" -q --tool=none "$folder/read" used
seen "valgrind, unused" "no fault" "$valgrind" -q --tool=none "$folder/read"
seen "memcheck, unused" "no fault" "$valgrind" -q --tool=memcheck "$folder/read"
seen "registers up to date, unused" "fault" "$valgrind" -q --tool=none "$each" "$folder/read"
echo "as described"
