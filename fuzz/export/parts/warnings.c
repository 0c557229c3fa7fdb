static int kernel_log = -1;

/*
 * From here on: the kernel says what it has a WARN_ON_ONCE for once, until
 * it is told to forget that.
 */
static void begin_warnings(void)
{
	need_root();
	write_file("/sys/kernel/debug/clear_warn_once", "1");
	kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kernel_log < 0)
		skip("the kernel's log cannot be read: /dev/kmsg");
	lseek(kernel_log, 0, SEEK_END);
}

/* Has it warned since? */
static int kernel_warned(void)
{
	char line[2048];
	int warned = 0;
	ssize_t n;

	while ((n = read(kernel_log, line, sizeof line - 1)) > 0 ||
	       (n < 0 && errno == EPIPE)) {
		line[n > 0 ? n : 0] = 0;
		warned |= strstr(line, "WARNING:") || strstr(line, "BUG:");
	}
	return warned;
}
