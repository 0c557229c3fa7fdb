/*
 * agent: runs case programs on the running Linux kernel and prints what it observes.
 *
 * Input, one case a line:   ID <TAB> call ; call ...
 *        a call is          NAME operand operand ...        a system call of SYSCALLS: its registers
 *                           touch ADDR LEN, peek ADDR LEN   accesses, page by page
 *                           skip                            what is not executed
 *        with `unlocked ADDR` before it, if it is skipped when what is mapped at ADDR is locked.
 *        Numbers are hex, 64 bits, and addresses what they are.
 * Output, one JSON object a line, each written at once: first the hello, which tells what can be
 * asked of whom; of each case id, ret, pt, vmas, pages, pgtable_bytes, rss_pages, warn, and beyond
 * these us (microseconds the case took) and left (bytes of page tables that stayed behind when all of
 * the arena was unmapped; only if there are any); at the end of input the bye, {"bye": cases}: without
 * it the output was cut off.
 *
 * A case owns the arena.  What leaves it is skipped: whoever writes the input decides that
 * (fuzz/calls/arena.py); here nothing is checked twice but accesses.  All other address space is occupied by
 * inaccessible blockers, so that addresses the kernel chooses fall into the arena.  Whatever measuring
 * needs is allocated and touched beforehand: a case that is measured changes page tables of the arena
 * only.  Static, not position independent, without address space randomisation: two runs see the
 * same layout.  Unless keys are kept (-k), what may only be executed can be read on CPUs with protection
 * keys as on those without: see take_protection_keys().
 *
 * Without root it needs PAGEMAP_SCAN (Linux 6.7), and does not see warnings in the kernel's log
 * where that is kept from users; taint bits it always sees.
 *
 * Under programs that stand for a kernel there are other fields: see emulated.c.  A case that seals, forks,
 * registers or limits memory gets a process of its own (own.c).
 *
 * Usage: agent [-t MILLISECONDS] [-S] [-k] [-x] [-g] [-e] [-w DEVICE]
 *        -t: time limit of one case; -S: do without PAGEMAP_SCAN; -k: leave the kernel its protection keys;
 *        -x: tell optional fields of every case (else of those in processes of their own);
 *        -g: the machine is there for us alone, settings of the whole system may be changed;
 *        -e: see and tell no more than under an emulator;
 *        -w: the device, with the header of a swap area, that cases swap out to
 * Exit:  0 end of input; 70 time limit; 71 this system cannot be measured (reason on stderr).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"

#if defined __x86_64__
#define ARCH "x86-64"
#elif defined __i386__
#define ARCH "i386"
#elif defined __aarch64__
#define ARCH "arm64"
#else
#error "no geometry of the model is of this architecture"
#endif

#define DISABLE_ACCESS 1 /* PKEY_DISABLE_ACCESS, which not all have */

u64 cases;

_Noreturn void give_up(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	_exit(EXIT_SYSTEM);
}

/* A system call as it is: the result, or -errno. */
int64_t raw(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	long result = syscall(number, (long)a, (long)b, (long)c, (long)d, (long)e, (long)f);

	return result == -1 ? -errno : sizeof(long) == 8 ? result : (int64_t)(unsigned long)result;
}

void drop_capability(unsigned capability)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	uint32_t bit = 1u << capability % 32;

	if (syscall(SYS_capget, &header, data))
		give_up("capget");
	data[capability / 32].effective &= ~bit;
	data[capability / 32].permitted &= ~bit;
	if (syscall(SYS_capset, &header, data))
		give_up("capset");
}

/*
 * The kernel gives memory that may only be executed a protection key of its own, so that it cannot be
 * read, if the CPU has keys and one is free.  Take them all: what a case shows must not depend on the
 * CPU.  An exec gives them back.
 */
static void take_protection_keys(void)
{
	while (syscall(SYS_pkey_alloc, 0, 0) >= 0)
		;
}

static void expect_protection_keys(void)
{
	long key = syscall(SYS_pkey_alloc, 0, DISABLE_ACCESS);

	if (key < 0)
		give_up("this CPU or kernel has no protection keys");
	syscall(SYS_pkey_free, key);
}

static void touch_everything(void)
{
	char stack[256 * 1024];
	extern char __data_start[], _end[];
	volatile char *end = _end;

	for (size_t i = 0; i < sizeof stack; i += page_bytes)
		((volatile char *)stack)[i] = 0;
	for (volatile char *p = __data_start; p < end; p = at(round_down((uintptr_t)p + page_bytes, page_bytes)))
		*p = *p;
}

static void be_killed_first(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if ((fd < 0 || write(fd, "1000", 4) != 4) && !emulated)
		give_up("/proc/self/oom_score_adj");
	close(fd);
}

/* Who answers, and what can be asked of it. */
static void say_hello(bool keys)
{
	bool root = geteuid() == 0;
	u64 limit = commit_limit();
	struct rlimit lock;
	struct utsname name;

	if (uname(&name) || getrlimit(RLIMIT_MEMLOCK, &lock))
		give_up("uname");
	say("{\"hello\":1,\"arch\":\"%s\",\"release\":\"%s\",\"version\":\"%s\"", ARCH, name.release, name.version);
	say(",\"page_bytes\":");
	say_number(page_bytes);
	say(",\"user_top\":");
	say_number(user_top);
	say(",\"arena\":[");
	say_number(arena_start);
	say(",");
	say_number(arena_bytes);
	say("],\"calls\":[");
	say_calls();
	say("],\"flags\":{\"mmap\":[%s],\"@limit\":", has_huge_pages() ? "" : "\"MAP_HUGETLB\"");
	say_limits_missing();
	say(",\"@fail\":[\"vma\",\"commit\",\"maps\",\"hook\"]");
	say("},\"emulated\":%s,\"fields\":[", emulated ? "true" : "false");
	say_fields();
	say("],");
	if (limit) {
		say("\"commit_limit\":");
		say_number(limit);
		say(",");
	}
	say("\"locks\":%s,\"root\":%s,\"keys\":%s}\n", root || lock.rlim_cur == RLIM_INFINITY ? "true" : "false",
	    root ? "true" : "false", keys ? "true" : "false");
	flush();
}

/* Runs case after case, to the end of the input. */
static void run_all(void)
{
	static char input[256 * 1024];
	size_t used = 0;
	ssize_t n;

	while ((n = read(0, input + used, sizeof input - 1 - used)) > 0 || (n < 0 && errno == EINTR)) {
		char *line = input, *end;

		if (n < 0)
			continue;
		used += (size_t)n;
		input[used] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			run_line(line);
			cases++;
			line = end + 1;
		}
		used -= (size_t)(line - input);
		memmove(input, line, used + 1);
		if (used == sizeof input - 1) {
			errno = E2BIG;
			give_up("line too long");
		}
	}
}

int main(int argc, char **argv)
{
	u64 milliseconds = 10000;
	bool keep_keys = false;
	int option;

	open_process_files();
	tell_stack_end(argv);
	find_emulator();
	if (!emulated)
		settle_layout(argv); /* an exec of itself would leave qemu-user behind */
	while ((option = getopt(argc, argv, "et:Skgxw:")) != -1) {
		if (option == 't')
			milliseconds = strtoull(optarg, NULL, 10);
		else if (option == 'S')
			use_scan = false;
		else if (option == 'k')
			keep_keys = true;
		else if (option == 'x')
			tell_all = true;
		else if (option == 'w')
			swap_device = optarg;
		else if (option == 'e')
			emulated = true;
		else if (option == 'g')
			machine_is_ours = true;
		else
			return EXIT_SYSTEM;
	}
	signal(SIGPIPE, SIG_IGN);
	be_killed_first();
	drop_capability(CAP_SYS_RAWIO); /* which may map what is below vm.mmap_min_addr */
	measure_layout();
	handle_faults();
	set_time_limit(milliseconds);
	if (keep_keys)
		expect_protection_keys();
	else
		take_protection_keys();
	touch_everything();
	if (emulated) {
		fence();
	} else {
		find_zero_pages();
		probe_scan();
		occupy();
		kernel_complained(); /* what it said before is none of our business */
		take_baseline();
	}
	say_hello(keep_keys);
	run_all();
	say("{\"bye\":");
	say_number(cases);
	say("}\n");
	flush();
	return 0;
}
