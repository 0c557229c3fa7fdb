/*
 * execve_stack(): a real exec, of this program, with arguments that make the stack as large as the case says.
 *
 * How far the stack is moved then is chance: so many pages as stack randomization says.  So the exec is
 * made again and again, each time by a process of its own, until it is as far as the case says.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define SELF "/proc/self/exe"
#define STACK_NAME "stack"	   /* what such a process is called */
#define STRING_BYTES (32 * 4096UL) /* MAX_ARG_STRLEN on 32 bits, the zero at its end counted */
#define MAX_STRINGS 64
#define STACK_ALLOWED (64UL << 20) /* a quarter of it may be arguments */
#define MOST_EXECS 100000

unsigned execs;

/* Cases can name the end of user space only where the arena begins at 0 and addresses are no offsets. */
bool has_stack_in_reach(void)
{
	return sizeof(long) == 4 && arena_start == 0;
}

/* In the process that was exec'ed: says where its stack ends, to whoever made it.  Does not return then. */
void tell_stack_end(char **argv)
{
	char *line;
	struct vma vma;

	if (strcmp(argv[0], STACK_NAME))
		return;
	for (line = all_maps(); *line; line = strchr(line, '\n') + 1)
		if (parse_vma(line, &vma) && strstr(line, "[stack]") && strstr(line, "[stack]") < strchr(line, '\n'))
			_exit(write(STDOUT_FILENO, &vma.end, sizeof vma.end) != sizeof vma.end);
	_exit(1);
}

/* Arguments such that the stack begins at `start`: a word is left free at its end, then come the strings. */
static char **arguments_for(u64 start, u64 end)
{
	static char *argv[MAX_STRINGS + 2], full[STRING_BYTES];
	u64 left = end - start - sizeof(long) - sizeof SELF - sizeof STACK_NAME;
	size_t n = 0;

	memset(full, 'x', sizeof full - 1);
	argv[n++] = STACK_NAME;
	for (; left > sizeof full && n < MAX_STRINGS; left -= sizeof full)
		argv[n++] = full;
	argv[n++] = full + (left < sizeof full ? sizeof full - left : 0);
	argv[n] = NULL;
	return argv;
}

/* One exec.  Returns: 0 with the new stack's end, or -errno. */
static int64_t exec_once(char **argv, bool randomly, u64 *end)
{
	static char *const no_environment[] = {NULL};
	static volatile int error;
	struct rlimit stack = {STACK_ALLOWED, STACK_ALLOWED};
	int ends[2], status;
	pid_t process;
	bool told;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	error = 0;
	process = vfork();
	if (!process) {
		/* A capability that root gets back would have the exec clear ADDR_NO_RANDOMIZE. */
		prctl(PR_CAPBSET_DROP, CAP_SYS_RAWIO);
		if (dup2(ends[1], STDOUT_FILENO) < 0 || setrlimit(RLIMIT_STACK, &stack) ||
		    personality(randomly ? 0 : ADDR_NO_RANDOMIZE) == -1 || execve(SELF, argv, no_environment))
			error = errno;
		_exit(1);
	}
	close(ends[1]);
	told = process > 0 && read(ends[0], end, sizeof *end) == sizeof *end;
	close(ends[0]);
	if (process < 0)
		return -errno;
	while (waitpid(process, &status, 0) < 0 && errno == EINTR)
		;
	if (error)
		return -error;
	return told ? 0 : -ENOEXEC;
}

/*
 * Forgets what the kernel said of execs that went elsewhere: the warning that counts is that of the one
 * that the case is about.  Where a warning comes only once (no debugfs) it counts, whose ever it is.
 */
static void forget_warnings(void)
{
	static int again = -2;

	if (again == -2)
		again = open("/sys/kernel/debug/clear_warn_once", O_WRONLY | O_CLOEXEC);
	if (again >= 0 && kernel_complained() && write(again, "1", 1) != 1)
		give_up("clear_warn_once");
}

/* execve_stack(start, end, shift): the stack [start, end) goes down by so many bytes. */
int64_t exec_with_stack(const u64 *a)
{
	u64 start = a[0], end = a[1], shift = a[2], moved;
	char **argv;
	int64_t error;

	if ((start | end | shift) % page_bytes || end != user_top || start >= end)
		return -EINVAL;
	argv = arguments_for(start, end);
	for (execs = 1; execs <= MOST_EXECS; execs++) {
		give_time();
		error = exec_once(argv, shift != 0, &moved);
		if (error)
			return error;
		if (end - moved == shift)
			return 0;
		forget_warnings();
	}
	return -EAGAIN;
}
