/*
 * What stands for a kernel and is none: qemu-user, valgrind, gVisor.  What /proc says of page tables and
 * pages is missing there, or is about the emulator: a case has contents in place of them.  The address
 * space outside the arena is occupied only next to it, as the emulator needs it.  Each case has a process
 * of its own: emulators die of some, and a case must not find what another has left behind.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

bool emulated;

/*
 * Is what answers no kernel, or one that says too little?  An emulator lives in the address space of the
 * program: either the program cannot see all of it, or a file is mapped that is not the program's.
 */
void find_emulator(void)
{
	u64 all = status_kib("\nVmSize:") * 1024, seen = 0, own = 0;
	struct vma vma;

	emulated = !tells_page_tables();
	for (char *line = all_maps(); *line; line = strchr(line, '\n') + 1) {
		if (!parse_vma(line, &vma) || vma.start >> 63) /* [vsyscall] does not count */
			continue;
		seen += vma.end - vma.start;
		own = own ? own : vma.inode; /* the program is mapped lowest */
		emulated |= vma.inode && vma.inode != own;
	}
	emulated |= seen < all;
}

static pid_t child;

static void on_alarm(int signal)
{
	(void)signal;
	kill(child, SIGKILL);
}

/* Waits for the child, `limit` at most.  Returns its status. */
static int await(const struct itimerval *limit)
{
	static const struct itimerval never;
	void (*before)(int) = signal(SIGALRM, on_alarm);
	int status;

	setitimer(ITIMER_REAL, limit, NULL);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			give_up("waitpid");
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, before);
	return status;
}

/*
 * Runs a case in a process of its own.  If that dies of it, prints how.  The time limit is the case's;
 * an emulator that loops does not deliver the alarm, so that more is needed.
 */
void run_apart(const struct program *program, struct itimerval limit)
{
	static volatile bool *answered;
	int status;

	if (!answered)
		answered = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (answered == MAP_FAILED)
		give_up("mmap");
	*answered = false;
	child = fork();
	if (child < 0)
		give_up("fork");
	if (!child) {
		run_case(program);
		*answered = true;
		_exit(0);
	}
	limit.it_value.tv_sec++;
	status = await(&limit);
	if (*answered)
		return;
	say("{\"id\":\"");
	say_text(program->id, program->id_length);
	say("\",\"crash\":\"");
	if (WIFEXITED(status) && WEXITSTATUS(status) != EXIT_TIME)
		say("ended with exit code %d", WEXITSTATUS(status));
	else if (WIFEXITED(status) || WTERMSIG(status) == SIGKILL)
		say("takes longer than %g s", (double)(limit.it_value.tv_sec - 1) + (double)limit.it_value.tv_usec / 1e6);
	else
		say("killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
	say("\"}\n");
	flush();
}
