#!/bin/sh
# Is a line of strace one call?  Who reads a log that `strace -f` has written to the terminal depends on that.
#
# Guess: "strace: Process N attached" is a line of its own, or at worst within the line of the clone that made N.
# Seen, strace 6.1 (Debian 6.1-0.1), 6.13 (6.13+ds-1) and 7.2 (7.2+ds-1+b1), x86-64: it is also within the line of
# whatever call another thread is in the middle of, `[pid 7] munmap(0x7f..., 4096strace: Process 9 attached`, and the
# rest of that call, `) = 0`, is a line without a name and without a number.  With -o FILE every line is whole.
#
# usage: strace-cuts-other-lines.sh [STRACE]        default: strace; needs a C compiler
set -eu
strace=${1:-strace}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/threads.c" <<'PROGRAM'
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

static void *work(void *unused)
{
	for (int i = 0; i < 200; i++)
		munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
	return unused;
}

int main(void)
{
	pthread_t threads[8];

	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 8; i++)
			pthread_create(&threads[i], NULL, work, NULL);
		for (int i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
	}
	return 0;
}
PROGRAM
${CC:-cc} -O1 -pthread -o "$folder/threads" "$folder/threads.c"
cut='m[a-z]*map(.*strace: Process [0-9]* attached$'
calls=trace=mmap,munmap,clone,clone3
"$strace" --version | head -n 1
"$strace" -f -e "$calls" "$folder/threads" 2> "$folder/terminal"
"$strace" -f -o "$folder/file" -e "$calls" "$folder/threads" 2> "$folder/notices"
within=$(grep -c "$cut" "$folder/terminal" || true)
rests=$(grep -c '^) *= ' "$folder/terminal" || true)
whole=$(grep -c "$cut" "$folder/file" || true)
echo "  on the terminal: $within lines of mmap and munmap are cut; $rests lines begin with the rest of a call"
echo "  with -o: $whole lines are cut"
[ "$within" -gt 0 ] && [ "$rests" -gt 0 ] && [ "$whole" -eq 0 ] || { echo "not as described"; exit 1; }
echo "as described"
