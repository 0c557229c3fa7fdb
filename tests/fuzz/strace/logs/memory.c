#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <pthread.h>
#include <unistd.h>
#include <fcntl.h>
/* Every form of call that strace writes in a way of its own. */
static sigjmp_buf back;
static void on_fault(int s) { (void)s; siglongjmp(back, 1); }
static void probe(volatile char *p) { if (!sigsetjmp(back, 1)) *p = 1; }
static void *thread(void *a) {
	usleep((long)a * 5000);
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 3; i++) { p = mremap(p, (1 << 20) + i * 4096, (1 << 20) + (i + 1) * 4096, MREMAP_MAYMOVE); usleep(20000); }
	munmap(p, (1 << 20) + 3 * 4096);
	return a;
}
int main(int argc, char **argv)
{
	char *p, *q, *hint = (char *)0x10000000000;
	if (argc > 1) { p = mmap(NULL, 8192, 3, 34, -1, 0); munmap(p, 8192); return 0; }
	signal(SIGSEGV, on_fault);
	p = mmap(hint, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, 1 << 20);
	q = mremap(p, 4 << 20, 4 << 20, MREMAP_MAYMOVE | MREMAP_FIXED, p + (64 << 20));
	mremap(q, 4 << 20, 4 << 20, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
	mremap(q, 4 << 20, 4 << 20, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, p + (128 << 20));
	mremap(q, 4096, 8192, 0);
	mremap(q, 4096, 8192, MREMAP_FIXED, p);
	syscall(SYS_mremap, q, 4096, 4096, 0x10, 0);
	syscall(SYS_mremap, q, 4096, 4096, MREMAP_MAYMOVE | 0x10, 0);
	mremap(q, (size_t)-4096, 4096, MREMAP_MAYMOVE);
	mmap(p, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	probe(p); probe(p + (512 << 20));
	mmap(p + 8192, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0xffffffff, 0);
	probe(p + 8192);
	mmap(p, 4096, 0x103, MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(p, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0);
	mmap(p, 4096, PROT_READ, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0);
	mmap(p, 4096, PROT_READ | PROT_WRITE, 8 | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(p + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | 0x80 | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(p + (32 << 20), 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB | 21 << 26, -1, 0);
	mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	mmap(p + (20 << 20), 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | MAP_STACK, -1, 0);
	mremap(p + (20 << 20), 0, 1 << 20, MREMAP_MAYMOVE);
	mprotect(p + (20 << 20), 4096, PROT_READ | PROT_EXEC);
	mprotect(p + (20 << 20), 4096, 0x100);
	mprotect(p, 4096, PROT_READ | PROT_GROWSDOWN);
	madvise(p + (6 << 20), 2 << 20, MADV_HUGEPAGE);
	madvise(p + (6 << 20), 4096, 102); madvise(p + (6 << 20), 4096, 103);
	madvise(p + (6 << 20), 4096, -1); madvise(p + (6 << 20), 4096, MADV_DONTNEED);
	mlock(p + (8 << 20), 8192); munlock(p + (8 << 20), 8192); mlock2(p + (8 << 20), 8192, 1); mlock2(p + (8 << 20), 8192, 2);
	munlock(p + (8 << 20), 8192);
	int fd = open("/tmp/a b, c>d", O_RDWR | O_CREAT, 0600);
	ftruncate(fd, 65536);
	q = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0x1000);
	q = mmap(p + (24 << 20), 65536, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
	unlink("/tmp/a b, c>d");
	fd = memfd_create("x, y", 0); ftruncate(fd, 8192);
	q = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	syscall(462, q, 4096, 0);
	syscall(462, q, 4096, 1);
	pid_t child = fork();
	if (!child) { mremap(p + (9 << 20), 4096, 8192, MREMAP_MAYMOVE); execl(argv[0], argv[0], "again", NULL); _exit(0); }
	waitpid(child, NULL, 0);
	child = vfork();
	if (!child) { munmap(p + (5 << 20), 4096); _exit(0); }
	waitpid(child, NULL, 0);
	pthread_t t[2];
	for (int i = 0; i < 2; i++) pthread_create(&t[i], NULL, thread, (void *)(long)i);
	for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
	sbrk(1 << 20); sbrk(-4096);
	char *r = realloc(malloc(1 << 20), 8 << 20);
	memset(r, 1, 8 << 20);
	r = realloc(r, 9 << 20);
	munmap(p, 16 << 20);
	return 0;
}
