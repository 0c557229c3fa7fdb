/* Of several runs all but the first. */
static bool silent;

/*
 * Writes to standard output, at once: what is told of a call stands before
 * the next one in a trace.  32 bytes at a time: strace shows no more of a
 * write unless it is told to.
 */
__attribute__((format(printf, 1, 2)))
static void tell(const char *format, ...)
{
	static char text[1 << 16];
	va_list args;
	int at = 0, length;
	ssize_t n;

	va_start(args, format);
	length = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (length >= (int)sizeof text)
		length = sizeof text - 1;
	fflush(stdout);
	while (!silent && at < length) {
		n = write(1, text + at,
			  (size_t)(length - at < 32 ? length - at : 32));
		if (n < 0 && errno != EINTR)
			return;
		at += n < 0 ? 0 : (int)n;
	}
}

#define TELL_LINE(line) tell(MARK "%s\n", line)

/* A call of which nothing is expected. */
#define TELL(call) tell(MARK "%s = %s\n", #call, shown(call))

/* By this a trace of the program is known for one. */
static void introduce(void)
{
	tell(MARK "pmdfuzz " GEOMETRY ": AT(0) is 0x%lx\n", AT(0));
}
