/* One case: its calls are made, and what is there then is told. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

static u64 baseline; /* bytes of page tables without a case */
static struct itimerval time_limit;

static void on_alarm(int signal)
{
	(void)signal;
	_exit(EXIT_TIME);
}

void set_time_limit(u64 milliseconds)
{
	time_limit.it_value.tv_sec = (time_t)(milliseconds / 1000);
	time_limit.it_value.tv_usec = (suseconds_t)(milliseconds % 1000 * 1000);
	signal(SIGALRM, on_alarm);
}

/* Once for nothing: what these need themselves is in place from now on. */
void take_baseline(void)
{
	kernel_complained();
	page_table_bytes();
	baseline = page_table_bytes();
}

static u64 microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000 + (u64)now.tv_nsec / 1000;
}

static void say_vmas(void)
{
	static u64 objects[MAX_VMAS];
	size_t n_objects = 0;

	for (size_t i = 0; i < n_vmas; i++) {
		const struct vma *vma = &vmas[i];
		size_t object = 0;

		say(i ? ",[" : "[");
		say_number(vma->start - arena_start);
		say(",");
		say_number(vma->end - arena_start);
		say(",\"%s\"", vma->prot);
		if (vma->prot[3] == 's') {
			while (object < n_objects && objects[object] != vma->inode)
				object++;
			if (object == n_objects)
				objects[n_objects++] = vma->inode;
			say(",%zu,", object);
			say_number(vma->offset);
		}
		say("]");
	}
}

/* What a kernel tells and an emulator does not.  Arguments: bytes of page tables after each call. */
static void say_tables_and_pages(const u64 *page_tables, size_t n)
{
	int64_t left;
	bool warn;

	say(",\"pt\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			say_text(",", 1);
		say_signed((int64_t)page_tables[i]);
	}
	say("],\"pages\":[");
	say_pages();
	munmap(at(arena_start), arena_bytes);
	left = (int64_t)(page_table_bytes() - baseline);
	warn = kernel_complained();
	say("],\"pgtable_bytes\":");
	say_signed(n ? (int64_t)page_tables[n - 1] : 0);
	say(",\"rss_pages\":");
	say_number(resident_pages());
	say(",\"warn\":%s", warn ? "true" : "false");
	if (left) {
		say(",\"left\":");
		say_signed(left);
	}
}

void run_case(const char *id, size_t id_length, const struct call *calls, size_t n)
{
	static const struct itimerval never;
	static u64 page_tables[MAX_CALLS];
	u64 started = microseconds();

	last_tag = 0;
	setitimer(ITIMER_REAL, &time_limit, NULL);
	say("{\"id\":\"");
	say_text(id, id_length);
	say("\",\"ret\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			say(",");
		run_call(&calls[i]);
		page_tables[i] = emulated ? 0 : page_table_bytes() - baseline;
	}
	read_vmas(false);
	say("],\"vmas\":[");
	say_vmas();
	say("]");
	if (emulated) {
		say(",\"contents\":");
		say_contents();
	} else {
		say_tables_and_pages(page_tables, n);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	say(",\"us\":");
	say_number(microseconds() - started);
	say("}\n");
	flush();
}

/* The names of what is told of each case, for the hello. */
void say_fields(void)
{
	if (emulated)
		say("\"ret\",\"vmas\",\"contents\"");
	else
		say("\"ret\",\"pt\",\"vmas\",\"pages\",\"pgtable_bytes\",\"rss_pages\",\"warn\"");
}

static void bad_input(const char *id, size_t id_length, const char *why)
{
	say("{\"id\":\"");
	say_text(id, id_length);
	say("\",\"error\":\"%s\"}\n", why);
	flush();
}

/* Runs the case in `line`, which is modified. */
void run_line(char *line)
{
	static struct call calls[MAX_CALLS];
	char *tab = strchr(line, '\t'), *p;
	const char *wrong = NULL;
	size_t n = 0;

	if (!tab) {
		bad_input("", 0, "no TAB behind the name");
		return;
	}
	for (p = tab + 1; p && *p;) {
		if (n == MAX_CALLS)
			wrong = "too many calls", p = NULL;
		else
			p = parse_call(p, &calls[n++], &wrong);
	}
	if (wrong)
		bad_input(line, (size_t)(tab - line), wrong);
	else if (emulated)
		run_apart(line, (size_t)(tab - line), calls, n, time_limit);
	else
		run_case(line, (size_t)(tab - line), calls, n);
}
