/*
 * The same in <linux/userfaultfd.h> since Linux 7.3, with struct
 * uffdio_rwprotect.
 */
#ifndef UFFDIO_RWPROTECT
#define UFFDIO_RWPROTECT _IOWR(0xAA, 0x09, struct uffdio_writeprotect)
#define UFFDIO_RWPROTECT_MODE_RWP (1ULL << 0)
#endif

#ifndef UFFD_PAGEFAULT_FLAG_RWP
#define UFFD_PAGEFAULT_FLAG_RWP (1 << 3)
#endif

/* Since Linux 5.13. */
#ifndef UFFDIO_CONTINUE
#define UFFDIO_CONTINUE _IOWR(0xAA, 0x07, struct uffdio_continue)
struct uffdio_continue {
	struct uffdio_range range;
	__u64 mode;
	__s64 mapped;
};
#endif

static unsigned char zeroes[SLOT];

/*
 * Answers at once: a page that is missing becomes one of zeroes, one that
 * is protected is no more.
 */
static void answer_fault(int uffd, unsigned long long addr,
			 unsigned long long flags)
{
	unsigned long long sizes[] = { PAGE, SLOT };
	struct uffdio_range range = { 0, 0 };

	for (int i = 0; i < 2; i++) {
		struct uffdio_writeprotect protect = { .mode = 0 };
		struct uffdio_continue go_on = { .mode = 0 };
		struct uffdio_zeropage zero = { .mode = 0 };
		struct uffdio_copy copy = { .src = (uintptr_t)zeroes,
					    .len = sizes[i] };
		int failed;

		range.start = addr / sizes[i] * sizes[i];
		range.len = sizes[i];
		protect.range = go_on.range = zero.range = range;
		copy.dst = range.start;
		if (flags & UFFD_PAGEFAULT_FLAG_WP)
			failed =
				ioctl(uffd, UFFDIO_WRITEPROTECT, &protect);
		else if (flags & UFFD_PAGEFAULT_FLAG_RWP)
			failed = ioctl(uffd, UFFDIO_RWPROTECT, &protect);
		else if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
			failed = ioctl(uffd, UFFDIO_CONTINUE, &go_on);
		else
			failed = (i ||
				  ioctl(uffd, UFFDIO_ZEROPAGE, &zero)) &&
				 ioctl(uffd, UFFDIO_COPY, &copy);
		if (!failed)
			return;
	}
	ioctl(uffd, UFFDIO_WAKE, &range);
}

/* What the monitor has heard, in memory that it shares. */
static char *heard;

static void hear(int uffd)
{
	struct uffd_msg message;
	char *end = heard + strlen(heard);

	if (read(uffd, &message, sizeof message) != sizeof message)
		return;
	if (message.event == UFFD_EVENT_PAGEFAULT) {
		answer_fault(uffd, message.arg.pagefault.address,
			     message.arg.pagefault.flags);
		return;
	}
	if (end > heard + 4000)
		return;
	if (end > heard)
		end += sprintf(end, ", ");
	if (message.event == UFFD_EVENT_FORK) {
		sprintf(end, "fork");
		close((int)message.arg.fork.ufd);
	} else if (message.event == UFFD_EVENT_REMAP) {
		sprintf(end, "remap 0x%llx 0x%llx 0x%llx",
			message.arg.remap.from - ARENA,
			message.arg.remap.to - ARENA,
			message.arg.remap.len);
	} else {
		sprintf(end, "%s 0x%llx 0x%llx",
			message.event == UFFD_EVENT_REMOVE ? "remove" :
							     "unmap",
			message.arg.remove.start - ARENA,
			message.arg.remove.end - ARENA);
	}
}

static int uffds[16], n_uffds, channel[2];

/*
 * The monitor shares open files: it is told the number of each
 * userfaultfd, and -1 that its word is wanted.
 */
static void attend(void)
{
	struct pollfd waiting[17] = { { .fd = channel[0],
					.events = POLLIN } };
	int n = 1, told;

	for (;;) {
		poll(waiting, (nfds_t)n, -1);
		for (int i = 1; i < n; i++)
			if (waiting[i].revents)
				hear(waiting[i].fd);
		if (!(waiting[0].revents & POLLIN) ||
		    read(channel[0], &told, sizeof told) != sizeof told)
			continue;
		if (told >= 0)
			waiting[n++] = (struct pollfd){ .fd = told,
							.events = POLLIN };
		else if (write(channel[0], &told, sizeof told) !=
			 sizeof told)
			_exit(1);
	}
}

static pid_t monitor;

/*
 * A process of its own answers, so that nothing of it lies in the memory
 * that is looked at.
 */
static void begin_monitor(void)
{
	pid_t self = getpid();

	heard = mmap((void *)(ARENA - (1UL << 24)), PAGE,
		     PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (heard == MAP_FAILED ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, channel))
		skip("no memory, or no socket, for a monitor");
	monitor = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0,
				 0);
	if (monitor < 0)
		skip("no process for a monitor");
	if (!monitor) {
		end_with(self);
		attend();
	}
}

/* It has gone, so that nothing of it is counted in the next run. */
static void end_monitor(void)
{
	kill(monitor, SIGKILL);
	waitpid(monitor, NULL, 0);
}

/* It is done with what came before. */
static void wait_for_monitor(void)
{
	int word = -1;

	if (write(channel[1], &word, sizeof word) != sizeof word ||
	    read(channel[1], &word, sizeof word) != sizeof word)
		skip("the monitor is gone");
}

/*
 * The events that the monitor was told of: "remap FROM TO LENGTH, unmap
 * START END" and the like; "none".
 */
static const char *uffd_events(void)
{
	wait_for_monitor();
	return *heard ? heard : "none";
}

static unsigned long long features_of[16];

static int last_uffd = -1;

/* The userfaultfd with these features: its number, or -errno. */
static int uffd_with(unsigned long long features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int uffd, error;

	for (int i = 0; i < n_uffds; i++)
		if (features_of[i] == features)
			return uffds[i];
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0)
		skip("userfaultfd(2) cannot be used: run it as root, or "
		     "write 1 to vm.unprivileged_userfaultfd");
	if (ioctl(uffd, UFFDIO_API, &api)) {
		error = errno;
		close(uffd);
		return -error;
	}
	if (write(channel[1], &uffd, sizeof uffd) != sizeof uffd)
		skip("the monitor is gone");
	wait_for_monitor();
	features_of[n_uffds] = features;
	uffds[n_uffds++] = uffd;
	return uffd;
}

static long long uffd_register(unsigned long addr, unsigned long length,
			       unsigned long long mode,
			       unsigned long long features)
{
	struct uffdio_register wanted = { .range = { addr, length },
					  .mode = mode };
	int uffd = uffd_with(features);

	if (uffd < 0)
		return uffd;
	if (ioctl(uffd, UFFDIO_REGISTER, &wanted))
		return -errno;
	last_uffd = uffd;
	return 0;
}

static long long protect_by_uffd(unsigned long request, unsigned long addr,
				 unsigned long length, unsigned long mode)
{
	struct uffdio_writeprotect wanted = { .range = { addr, length },
					      .mode = mode };
	int uffd = last_uffd < 0 ? uffd_with(0) : last_uffd;

	if (uffd < 0)
		return uffd;
	return ioctl(uffd, request, &wanted) ? -errno : 0;
}

/* UFFDIO_WRITEPROTECT: protects, or ends it (0). */
static long long uffd_wp(unsigned long addr, unsigned long length, int on)
{
	return protect_by_uffd(UFFDIO_WRITEPROTECT, addr, length,
			       on ? UFFDIO_WRITEPROTECT_MODE_WP : 0);
}

/* UFFDIO_RWPROTECT: the same for any access. */
static long long uffd_rwp(unsigned long addr, unsigned long length, int on)
{
	return protect_by_uffd(UFFDIO_RWPROTECT, addr, length,
			       on ? UFFDIO_RWPROTECT_MODE_RWP : 0);
}
