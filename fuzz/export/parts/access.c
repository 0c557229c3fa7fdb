#define NO_FAULTS "0"

#define MOST_PAGES 16385

static sigjmp_buf fault;

static void on_fault(int signal)
{
	siglongjmp(fault, signal);
}

static void handle_faults(void)
{
	struct sigaction action = { .sa_handler = on_fault,
				    .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/*
 * Writes a number to a page; NULL: reads from it.  Returns the signal that
 * came of it; 0: none.
 */
static int access_page(unsigned long addr, const unsigned long *number)
{
	int signal = sigsetjmp(fault, 0);

	if (!signal && number)
		*(volatile unsigned long *)addr = *number;
	else if (!signal)
		(void)*(volatile unsigned long *)addr;
	return signal;
}

/*
 * Accesses each page of a range, writes count up.  Returns which could not
 * be accessed; "0": all could.
 */
static const char *access_pages(unsigned long addr, unsigned long length,
				unsigned long *number)
{
	static const int signals[] = { SIGSEGV, SIGBUS };
	static unsigned char came[MOST_PAGES];
	static char text[16384];
	unsigned long start = addr / PAGE * PAGE,
		      pages = length ? (addr + length - start + PAGE - 1) /
					       PAGE :
				       0;
	size_t used = 0;

	for (unsigned long i = 0; i < pages; i++) {
		if (number)
			++*number;
		came[i] = (unsigned char)access_page(start + i * PAGE,
						     number);
	}
	for (int kind = 0; kind < 2; kind++) {
		for (unsigned long i = 0, end; i < pages; i = end) {
			for (end = i + 1;
			     end < pages && came[end] == came[i]; end++)
				;
			if (came[i] == signals[kind] &&
			    used < sizeof text - 64)
				used += (size_t)sprintf(
					text + used, "%s%s[0x%lx, 0x%lx)",
					used ? " " : "",
					kind ? "BUS" : "SEGV",
					start + i * PAGE - ARENA,
					start + end * PAGE - ARENA);
		}
	}
	return used ? text : NO_FAULTS;
}

/* The number that was written last. */
static unsigned long last_number;

/* Writes the next number to each page of a range. */
static const char *touch(unsigned long addr, unsigned long length)
{
	return access_pages(addr, length, &last_number);
}

/* Reads from each page of a range. */
static const char *peek(unsigned long addr, unsigned long length)
{
	return access_pages(addr, length, NULL);
}
