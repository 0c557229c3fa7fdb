/* What is printed: JSON, a line at a time. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "agent.h"

static char out[1 << 20];
static size_t out_used;

void flush(void)
{
	for (size_t done = 0; done < out_used;) {
		ssize_t n = write(1, out + done, out_used - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(0); /* nobody listens any more */
		done += (size_t)n;
	}
	out_used = 0;
}

void say(const char *format, ...)
{
	va_list args;

	if (out_used + 512 > sizeof out)
		flush();
	va_start(args, format);
	out_used += (size_t)vsnprintf(out + out_used, sizeof out - out_used, format, args);
	va_end(args);
}

void say_text(const char *words, size_t length)
{
	if (out_used + length + 1 > sizeof out)
		flush();
	memcpy(out + out_used, words, length);
	out_used += length;
}

void say_number(u64 value)
{
	char digits[20];
	size_t n = sizeof digits;

	do
		digits[--n] = (char)('0' + value % 10);
	while (value /= 10);
	say_text(digits + n, sizeof digits - n);
}

void say_signed(int64_t value)
{
	if (value < 0)
		say_text("-", 1);
	say_number(value < 0 ? -(u64)value : (u64)value);
}

void say_error(int error)
{
	const char *name = strerrorname_np(error);

	if (name)
		say("\"-%s\"", name);
	else
		say("\"-%d\"", error);
}

void add_page(struct runs *runs, u64 page)
{
	struct run *last = runs->n ? &runs->run[runs->n - 1] : NULL;

	if (last && last->first + last->count == page) {
		last->count++;
		return;
	}
	if (runs->n == runs->room) {
		errno = E2BIG;
		give_up("runs of pages");
	}
	runs->run[runs->n++] = (struct run){page, 1};
}

void say_runs(const char *name, const struct runs *runs)
{
	say("\"%s\":[", name);
	for (size_t i = 0; i < runs->n; i++) {
		say(i ? ",[" : "[");
		say_number(runs->run[i].first);
		say_text(",", 1);
		say_number(runs->run[i].count);
		say_text("]", 1);
	}
	say("]");
}
