/* Accesses: touch writes a number to each page, peek reads from it. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include "agent.h"

u64 last_tag;

static volatile u64 ignored; /* valgrind leaves out a read whose result goes nowhere */

static sigjmp_buf fault;
static volatile sig_atomic_t accessing;

static void on_fault(int signal)
{
	if (!accessing)
		_exit(128 + signal);
	siglongjmp(fault, signal);
}

void handle_faults(void)
{
	struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};

	if (sigaction(SIGSEGV, &action, NULL) || sigaction(SIGBUS, &action, NULL))
		give_up("sigaction");
}

/* Reads what a page begins with; false if it cannot be read. */
bool read_page(u64 addr, u64 *value)
{
	bool can = !sigsetjmp(fault, 0);

	accessing = can;
	if (can)
		*value = *(volatile u64 *)at(addr);
	accessing = 0;
	return can;
}

/* Accesses the pages that `operands`, an address and a length, touch; prints which faulted. */
void access_pages(const u64 *operands, bool write)
{
	static struct run segv_runs[MAX_FILLED_PAGES], bus_runs[MAX_FILLED_PAGES];
	static struct runs segv = {0, MAX_FILLED_PAGES, segv_runs}, bus = {0, MAX_FILLED_PAGES, bus_runs};
	volatile u64 addr = round_down(operands[0], page_bytes);
	const volatile u64 end = operands[1] ? round_up(operands[0] + operands[1], page_bytes) : addr;

	segv.n = bus.n = 0;
	for (; addr < end; addr += page_bytes) {
		int signal;

		last_tag += write;
		signal = sigsetjmp(fault, 0);
		if (signal) {
			add_page(signal == SIGBUS ? &bus : &segv, page_of(addr));
			continue;
		}
		accessing = 1;
		if (write)
			*(volatile u64 *)at(addr) = last_tag;
		else
			ignored = *(volatile u64 *)at(addr);
	}
	accessing = 0;
	if (!segv.n && !bus.n) {
		say("0");
		return;
	}
	say("{");
	if (segv.n)
		say_runs("segv", &segv);
	if (segv.n && bus.n)
		say(",");
	if (bus.n)
		say_runs("bus", &bus);
	say("}");
}
