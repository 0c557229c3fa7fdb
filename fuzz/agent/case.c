/* One case: its calls are made, and what is there then is told. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/*
 * i386 PAE gives a process its PMD tables when it begins, and takes them at munmap: so that each case has
 * them, it needs a process of its own.
 */
#ifdef __i386__
static const bool tables_at_first = true;
#else
static const bool tables_at_first = false;
#endif

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

/* From now on a case may take as long again. */
void give_time(void)
{
	setitimer(ITIMER_REAL, &time_limit, NULL);
}

/* Once for nothing: what these need themselves is in place from now on. */
void take_baseline(void)
{
	page_table_bytes();
	baseline = page_table_bytes();
}

/* Is no page table there for a case?  Then no page is, either; a huge one may be where PMD tables are from the start. */
bool maps_nothing(void)
{
	return sizeof(long) == 8 && page_table_bytes() == baseline;
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
		if (vma->prot[3] == 's' || is_file(vma->inode)) {
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

bool tell_all;

/* Numbers of this process, or of the whole machine: what a case adds to them is told. */
struct counters {
	u64 locked, swapped;		  /* KiB */
	u64 committed, free_huge, reserved_huge; /* pages; of a machine that is ours alone */
};

static struct counters count_all(void)
{
	struct counters counters = {0};

	counters.locked = status_kib("\nVmLck:");
	counters.swapped = status_kib("\nVmSwap:");
	settle_files();
	if (machine_is_ours && read_file("/proc/meminfo")) {
		counters.committed = number_behind("Committed_AS:") * 1024 / page_bytes;
		counters.free_huge = number_behind("HugePages_Free:");
		counters.reserved_huge = number_behind("HugePages_Rsvd:");
	}
	return counters;
}

static void say_counter(const char *name, u64 before, u64 now)
{
	say(",\"%s\":", name);
	say_signed((int64_t)(now - before));
}

static void say_counters(const struct counters *before)
{
	struct counters now = count_all();

	say_counter("locked", before->locked, now.locked);
	if (counts_swap())
		say_counter("swapped", before->swapped, now.swapped);
	if (machine_is_ours) {
		say_counter("committed_pages", before->committed, now.committed);
		say_counter("used_huge", now.free_huge, before->free_huge);
		say_counter("reserved_huge", before->reserved_huge, now.reserved_huge);
	}
}

static void say_flags(void)
{
	for (size_t i = 0; i < n_vmas; i++)
		say("%s\"%s\"", i ? "," : "", vmas[i].flags);
}

/* What a kernel tells and an emulator does not.  Arguments: bytes of page tables after each call. */
static void say_tables_and_pages(const u64 *page_tables, size_t n)
{
	say(",\"pt\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			say_text(",", 1);
		say_signed((int64_t)page_tables[i]);
	}
	say("],\"pgtable_bytes\":");
	say_signed(n ? (int64_t)page_tables[n - 1] : 0);
	say(",\"pages\":[");
	say_pages();
	say("],\"rss_pages\":");
	say_number(resident_pages());
}

/* The other optional fields.  They come before say_pages(), which makes all readable. */
static void say_more(void)
{
	say(",\"events\":");
	say_events();
	say(",\"flags\":[");
	say_flags();
	say("],");
	say_marks();
}

/*
 * Bytes of page tables that stay behind when all of the arena is unmapped, if any; what is sealed stays.
 * Those that lie where nothing was mapped go then; what is lost for good is not told of the next case.
 * Fewer than before are there if some had been there at first.
 */
static void say_left(void)
{
	int64_t left;

	if (munmap(at(arena_start), arena_bytes))
		return;
	left = (int64_t)(page_table_bytes() - baseline);
	if (!left || (left < 0 && tables_at_first))
		return;
	say(",\"left\":");
	say_signed(left);
	mmap(at(arena_start), arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	munmap(at(arena_start), arena_bytes);
	take_baseline();
}

/* Makes the calls, and tells what is there then. */
static void make_calls(const void *argument)
{
	const struct program *program = argument;
	static u64 page_tables[MAX_CALLS];
	bool all = (tell_all || program->own_process) && !emulated;
	struct counters before = {0};

	close_files();
	if (all)
		before = count_all();
	last_tag = 0;
	give_time();
	say("{\"id\":\"");
	say_text(program->id, program->id_length);
	say("\",\"ret\":[");
	for (size_t i = 0; i < program->n; i++) {
		if (i)
			say(",");
		run_call(&program->calls[i]);
		page_tables[i] = emulated ? 0 : page_table_bytes() - baseline;
	}
	say("]");
	end_children(NULL); /* what they have is not the program's */
	if (program->replaces) {
		say(",\"execs\":");
		say_number(execs);
		munmap(at(arena_start), arena_bytes);
		return;
	}
	if (all)
		say_counters(&before);
	read_vmas(all);
	say(",\"vmas\":[");
	say_vmas();
	say("]");
	if (all)
		say_more();
	if (emulated) {
		say(",\"contents\":");
		say_contents();
		end_children(NULL);
		return;
	}
	say_tables_and_pages(page_tables, program->n);
	say_left();
	close_files();
}

/* Ends what is told of a case, with what the kernel has said meanwhile. */
static void end_observation(u64 started)
{
	static const struct itimerval never;

	setitimer(ITIMER_REAL, &never, NULL);
	if (!emulated)
		say(",\"warn\":%s", kernel_complained() ? "true" : "false");
	say(",\"us\":");
	say_number(microseconds() - started);
	say("}\n");
	flush();
}

void run_case(const struct program *program)
{
	u64 started = microseconds();

	if (program->maps_huge)
		refill_stock();
	if (program->swaps && !begin_swap())
		give_up("swapon");
	if (program->own_process && !emulated)
		in_own_process(make_calls, program);
	else
		make_calls(program);
	if (program->swaps)
		end_swap();
	end_observation(started);
}

/* The names of what is told of each case, for the hello. */
void say_fields(void)
{
	if (emulated) {
		say("\"ret\",\"vmas\",\"contents\"");
		return;
	}
	say("\"ret\",\"pt\",\"vmas\",\"pages\",\"pgtable_bytes\",\"rss_pages\",\"warn\"");
	say(",\"wp\",\"flags\",\"locked\",\"events\"%s%s%s", counts_swap() ? ",\"swapped\"" : "",
	    has_soft_dirty() ? ",\"sd\"" : "",
	    machine_is_ours ? ",\"committed_pages\",\"used_huge\",\"reserved_huge\"" : "");
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
	struct program program = {.id = line, .id_length = (size_t)(tab - line), .calls = calls,
				  .own_process = tables_at_first};
	const char *wrong = NULL;

	if (!tab) {
		bad_input("", 0, "no TAB behind the name");
		return;
	}
	for (p = tab + 1; p && *p;) {
		if (program.n == MAX_CALLS) {
			wrong = "too many calls", p = NULL;
		} else {
			p = parse_call(p, &calls[program.n], &wrong);
			program.own_process |= p && calls[program.n].kind->own_process;
			program.swaps |= p && calls[program.n].kind->swaps;
			program.replaces |= p && calls[program.n].kind->replaces;
			program.maps_huge |= p && maps_huge_pages(&calls[program.n]);
			program.n++;
		}
	}
	if (wrong)
		bad_input(line, program.id_length, wrong);
	else if (emulated)
		run_apart(&program, time_limit);
	else
		run_case(&program);
}
