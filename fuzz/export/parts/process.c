static pid_t children[256];

static int n_children;

/* Has a child end with its parent, also if that was there no more. */
static void end_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
}

/* A child that does nothing. */
static long long fork_child(void)
{
	pid_t self = getpid();
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!child) {
		end_with(self);
		for (;;)
			pause();
	}
	if (child < 0)
		return -errno;
	children[n_children++] = child;
	return 0;
}

/* All of them end. */
static long long end_children(void)
{
	while (n_children) {
		kill(children[--n_children], SIGKILL);
		waitpid(children[n_children], NULL, 0);
	}
	return 0;
}

static long long clear_soft_dirty(void)
{
	return write_file("/proc/self/clear_refs", "4") ? 0 : -errno;
}
