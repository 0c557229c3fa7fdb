/* The calls that there are, how one is read and made. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>

#include "agent.h"

/*
 * The system calls that a case may make, from their declarations in fuzz/calls/: SYSCALLS is a row of
 * SYSCALL(name, returns_address), given by whoever compiles this.
 */
#ifndef SYSCALLS
#error "fuzz/subjects/program.py compiles this, and says which calls there are"
#endif
#define SYSCALL(call, address) \
	{.name = #call, .operands = MAX_OPERANDS, .returns_address = address, .number = SYS_##call},

static bool is_kernel(void)
{
	return !emulated;
}

static const struct kind kinds[] = {
	{.name = "skip"},
	{.name = "touch", .operands = 2},
	{.name = "peek", .operands = 2},
	SYSCALLS
	{.name = "mseal", .operands = 2, .own_process = true, .number = 462}, /* older headers lack it */
	{.name = "file", .operands = 2, .make = make_file, .here = has_files},
	{.name = "bpf_map", .operands = 2, .make = make_map, .here = has_maps},
	{.name = "ftruncate", .operands = 2, .make = cut_file, .here = has_files},
	{.name = "fallocate", .operands = 4, .make = fill_file, .here = has_files},
	{.name = "fork", .own_process = true, .make = make_child},
	{.name = "exit_child", .own_process = true, .make = end_children},
	{.name = "uffd_register", .operands = 4, .own_process = true, .make = register_memory, .here = has_userfaultfd},
	{.name = "uffd_wp", .operands = 3, .own_process = true, .make = write_protect, .here = has_userfaultfd},
	{.name = "uffd_rwp", .operands = 3, .own_process = true, .make = read_write_protect, .here = has_userfaultfd},
	{.name = "swapout", .operands = 2, .swaps = true, .make = swap_out, .here = has_swap},
	{.name = "execve_stack", .operands = 3, .replaces = true, .make = exec_with_stack, .here = has_stack_in_reach},
	{.name = "soft_dirty_clear", .make = clear_soft_dirty, .here = has_soft_dirty},
	{.name = "@fail", .operands = 2, .own_process = true, .make = fail_later, .here = has_shortage},
	{.name = "@limit", .operands = 2, .own_process = true, .make = limit, .here = is_kernel},
};
#define N_KINDS (sizeof kinds / sizeof *kinds)
static const struct kind *const skip = &kinds[0], *const touch = &kinds[1], *const peek = &kinds[2];

static bool locked_at(u64 addr)
{
	read_vmas(true);
	for (size_t i = 0; i < n_vmas; i++)
		if (addr >= vmas[i].start && addr < vmas[i].end)
			return vmas[i].locked;
	return false;
}

bool maps_huge_pages(const struct call *call)
{
	return !strcmp(call->kind->name, "mmap") && call->arg[3] & MAP_HUGETLB;
}

static int64_t system_call(const struct kind *kind, const u64 *a)
{
	int64_t result;

#ifdef SYS_mmap2
	if (kind->number == SYS_mmap) { /* an old call; the new one takes the offset in units of 4096 */
		if (a[5] % page_bytes)
			return -EINVAL;
		return raw(SYS_mmap2, a[0], a[1], a[2], a[3], a[4], a[5] / 4096);
	}
#endif
	if (kind->number == SYS_mremap)
		begin_shortage();
	result = raw(kind->number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (kind->number == SYS_mremap)
		end_shortage();
	return result;
}

/* Makes a call, and prints its result. */
void run_call(const struct call *call)
{
	const struct kind *kind = call->kind;
	int64_t result;

	if (kind == skip || (call->unless_locked && locked_at(call->asked))) {
		say("\"SKIP\"");
		return;
	}
	if (kind == touch || kind == peek) {
		access_pages(call->arg, kind == touch);
		return;
	}
	result = kind->make ? kind->make(call->arg) : system_call(kind, call->arg);
	if (result < 0 && result >= -4095)
		say_error((int)-result);
	else if (!kind->returns_address)
		say_number((u64)result);
	else if (inside((u64)result, 1))
		say_number((u64)result - arena_start);
	else
		say("\"OUT\"");
}

static bool is_word(const char *p, size_t length, const char *word)
{
	return strlen(word) == length && !memcmp(p, word, length);
}

/* Nothing that depends on a system is asked of what stands for one. */
static bool is_here(const struct kind *kind)
{
	return !kind->here || (!emulated && kind->here());
}

static const struct kind *kind_named(const char *p, size_t length)
{
	for (const struct kind *kind = kinds; kind < kinds + N_KINDS; kind++)
		if (is_word(p, length, kind->name) && is_here(kind))
			return kind;
	return NULL;
}

/* An access must lie in the arena, and not fill too much. */
static bool may_access(const u64 *a)
{
	u64 most = MAX_FILLED_PAGES * page_bytes, before = a[0] % page_bytes;

	return !a[1] || (a[1] <= most && a[1] + before <= most && inside(a[0] - before, a[1] + before));
}

/* Reads one call; what follows it, or NULL, with the reason in `*wrong`. */
char *parse_call(char *p, struct call *call, const char **wrong)
{
	size_t length = strcspn(p, " ;");
	unsigned operands;

	memset(call, 0, sizeof *call);
	if (is_word(p, length, "unlocked") && p[length] == ' ') {
		call->unless_locked = true;
		p = hex(p + length + 1, &call->asked);
		p += *p == ' ';
		length = strcspn(p, " ;");
	}
	call->kind = kind_named(p, length);
	if (!call->kind)
		return *wrong = "unknown call", NULL;
	p += length;
	for (operands = 0; *p == ' ' && operands < MAX_OPERANDS; operands++)
		p = hex(p + 1, &call->arg[operands]);
	if ((*p && *p != ';') || (call->kind->number ? operands > call->kind->operands : operands != call->kind->operands))
		return *wrong = "wrong operands", NULL;
	if ((call->kind == touch || call->kind == peek) && !may_access(call->arg))
		return *wrong = "an access outside the arena", NULL;
	return p + (*p == ';');
}

/* The names of the calls, for the hello. */
void say_calls(void)
{
	const char *separator = "";

	for (const struct kind *kind = kinds + 1; kind < kinds + N_KINDS; kind++) {
		if (!is_here(kind))
			continue;
		say("%s\"%s\"", separator, kind->name);
		separator = ",";
	}
}
