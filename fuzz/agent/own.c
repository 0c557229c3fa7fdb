/*
 * A process for one case: what seals, forks, registers or limits memory leaves traces in a process that
 * nothing takes away.  It is forked from the one that goes on, which attends to its userfaultfds meanwhile.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

static pid_t children[MAX_CALLS];
static size_t n_children;

static pid_t fork_process(void)
{
	pid_t process = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!process && prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(EXIT_SYSTEM);
	return process;
}

/* Ends as the process did that ran a case, for whoever waits for us to see. */
static _Noreturn void end_likewise(int status)
{
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		kill(getpid(), WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}

/* Has the work done by a process of its own.  Does not return if that does not end well. */
void in_own_process(work work, const void *argument)
{
	int status;
	pid_t process;

	open_channel();
	process = fork_process();
	if (process < 0)
		give_up("fork");
	if (!process) {
		be_attended();
		open_process_files();
		take_baseline();
		begin_limits();
		work(argument);
		flush();
		_exit(0);
	}
	attend();
	while (waitpid(process, &status, 0) < 0 && errno == EINTR)
		;
	end_limits();
	if (has_shortage())
		end_shortages();
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		end_likewise(status);
}

/* fork(): a child that does nothing. */
int64_t make_child(const u64 *a)
{
	pid_t child;

	(void)a;
	if (n_children == MAX_CALLS)
		return -EAGAIN;
	child = fork_process();
	if (!child) {
		close_channel();
		for (;;)
			pause();
	}
	if (child < 0)
		return -errno;
	children[n_children++] = child;
	return 0;
}

/* exit_child(): all of them end. */
int64_t end_children(const u64 *a)
{
	(void)a;
	for (; n_children; n_children--) {
		kill(children[n_children - 1], SIGKILL);
		waitpid(children[n_children - 1], NULL, 0);
	}
	return 0;
}
