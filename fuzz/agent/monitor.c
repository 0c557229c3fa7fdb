/*
 * Userfaultfds, one for each set of features, and the monitor: the process that forked the one in
 * which a case runs.  It gets each userfaultfd by a message, and answers at once: a page that is missing
 * becomes the zero page, one that is protected is no more, an event is noted.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

/* Older headers lack them. */
#ifndef UFFDIO_CONTINUE
#define UFFDIO_CONTINUE _IOWR(0xAA, 0x07, struct continue_range)
struct continue_range {
	struct uffdio_range range;
	u64 mode;
	int64_t mapped;
};
#endif

/* Since 7.3. */
#ifndef UFFDIO_RWPROTECT
#define UFFDIO_RWPROTECT _IOWR(0xAA, 0x09, struct uffdio_writeprotect) /* as struct uffdio_rwprotect */
#define UFFDIO_RWPROTECT_MODE_RWP (1ULL << 0)
#define UFFD_PAGEFAULT_FLAG_RWP (1 << 3)
#endif

enum { MAX_CONTEXTS = 64, MAX_EVENTS = 1024 };

struct event {
	u64 kind, first, second, length;
};
struct events {
	size_t n;
	struct event event[MAX_EVENTS];
};

static int channel[2]; /* the monitor's end, the other one */
static int contexts[MAX_CONTEXTS];
static u64 features_of[MAX_CONTEXTS];
static size_t n_contexts, last_context;
static struct events told;

void open_channel(void)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel))
		give_up("socketpair");
}

/* Of the process that runs the case: the other end is the monitor's. */
void be_attended(void)
{
	close(channel[0]);
}

void close_channel(void)
{
	close(channel[1]);
}

/* --- the monitor ------------------------------------------------------------------------------------ */

/* Answers a request about the page at `addr`, of whatever size it is there. */
static void answer_fault(int uffd, u64 addr, u64 flags)
{
	u64 sizes[] = {page_bytes, slot_bytes};
	struct uffdio_range range;

	for (int i = 0; i < 2; i++) {
		int failed;

		range = (struct uffdio_range){round_down(addr, sizes[i]), sizes[i]};
		if (flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_RWP)) {
			struct uffdio_writeprotect protect = {.range = range};

			failed = ioctl(uffd, flags & UFFD_PAGEFAULT_FLAG_WP ? UFFDIO_WRITEPROTECT : UFFDIO_RWPROTECT,
				       &protect);
		} else if (flags & UFFD_PAGEFAULT_FLAG_MINOR) {
			struct uffdio_continue go_on = {.range = range};

			failed = ioctl(uffd, UFFDIO_CONTINUE, &go_on);
		} else {
			/* Hugetlb has no zero page, and none is put where a mark is that protects the absent page. */
			struct uffdio_zeropage zero = {.range = range};
			struct uffdio_copy copy = {.dst = range.start, .src = (uintptr_t)zeroes(), .len = range.len};

			failed = (i || ioctl(uffd, UFFDIO_ZEROPAGE, &zero)) && ioctl(uffd, UFFDIO_COPY, &copy);
		}
		if (!failed)
			return;
	}
	ioctl(uffd, UFFDIO_WAKE, &range); /* it may try again */
}

static void note(u64 kind, u64 first, u64 second, u64 length)
{
	if (told.n < MAX_EVENTS)
		told.event[told.n++] = (struct event){kind, first, second, length};
}

static void answer(int uffd)
{
	struct uffd_msg message;

	while (read(uffd, &message, sizeof message) == sizeof message) {
		switch (message.event) {
		case UFFD_EVENT_PAGEFAULT:
			answer_fault(uffd, message.arg.pagefault.address, message.arg.pagefault.flags);
			break;
		case UFFD_EVENT_FORK:
			note(message.event, 0, 0, 0);
			close((int)message.arg.fork.ufd);
			break;
		case UFFD_EVENT_REMAP:
			note(message.event, message.arg.remap.from, message.arg.remap.to, message.arg.remap.len);
			break;
		default:
			note(message.event, message.arg.remove.start, message.arg.remove.end, 0);
		}
	}
}

/* A message is a userfaultfd, or, with none, asks for the events.  False: there will be no more. */
static bool hear(void)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec vec = {&byte, 1};
	struct msghdr message = {.msg_iov = &vec, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof control};
	struct cmsghdr *head;

	if (recvmsg(channel[0], &message, MSG_CMSG_CLOEXEC) <= 0)
		return false;
	head = CMSG_FIRSTHDR(&message);
	if (head)
		memcpy(&contexts[n_contexts++], CMSG_DATA(head), sizeof(int));
	else if (send(channel[0], &told, offsetof(struct events, event) + told.n * sizeof *told.event, MSG_NOSIGNAL) < 0)
		return false;
	return true;
}

/* Until the process at the other end is gone. */
void attend(void)
{
	close(channel[1]);
	for (bool heard = true; heard;) {
		struct pollfd waiting[MAX_CONTEXTS + 1] = {{.fd = channel[0], .events = POLLIN}};
		size_t n = n_contexts;

		for (size_t i = 0; i < n; i++)
			waiting[i + 1] = (struct pollfd){.fd = contexts[i], .events = POLLIN};
		if (poll(waiting, n + 1, -1) < 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (waiting[i + 1].revents & POLLIN)
				answer(contexts[i]);
		if (waiting[0].revents)
			heard = hear();
	}
	for (size_t i = 0; i < n_contexts; i++)
		close(contexts[i]);
	close(channel[0]);
	n_contexts = told.n = 0;
}

/* --- the process that runs the case ------------------------------------------------------------------ */

static int open_context(u64 features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0)
		return -errno;
	if (!ioctl(uffd, UFFDIO_API, &api))
		return uffd;
	api.api = (u64)errno;
	close(uffd);
	return -(int)api.api;
}

bool has_userfaultfd(void)
{
	int uffd = open_context(0);

	if (uffd < 0)
		return false;
	close(uffd);
	return true;
}

/* Has this process one? */
bool uses_userfaultfd(void)
{
	return n_contexts;
}

static void hand_over(int uffd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec vec = {&byte, 1};
	struct msghdr message = {.msg_iov = &vec, .msg_iovlen = 1, .msg_control = control,
				 .msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &uffd, sizeof uffd);
	if (sendmsg(channel[1], &message, MSG_NOSIGNAL) != 1)
		give_up("the monitor");
}

/* The userfaultfd with these features: its index, or -errno. */
static int context_with(u64 features)
{
	int uffd;

	for (size_t i = 0; i < n_contexts; i++)
		if (features_of[i] == features)
			return (int)i;
	if (n_contexts == MAX_CONTEXTS)
		return -ENFILE;
	uffd = open_context(features);
	if (uffd < 0)
		return uffd;
	hand_over(uffd);
	contexts[n_contexts] = uffd;
	features_of[n_contexts] = features;
	return (int)n_contexts++;
}

/* uffd_register(addr, length, mode, features) */
int64_t register_memory(const u64 *a)
{
	struct uffdio_register wanted = {.range = {a[0], a[1]}, .mode = a[2]};
	int context = context_with(a[3]);

	if (context < 0)
		return context;
	if (ioctl(contexts[context], UFFDIO_REGISTER, &wanted))
		return -errno;
	last_context = (size_t)context;
	return 0;
}

/* Any userfaultfd of the process will do. */
static int64_t protect(unsigned long request, u64 start, u64 length, u64 mode)
{
	struct uffdio_writeprotect wanted = {.range = {start, length}, .mode = mode};
	int context = n_contexts ? (int)last_context : context_with(0);

	if (context < 0)
		return context;
	return ioctl(contexts[context], request, &wanted) ? -errno : 0;
}

/* uffd_wp(addr, length, on) */
int64_t write_protect(const u64 *a)
{
	return protect(UFFDIO_WRITEPROTECT, a[0], a[1], a[2] ? UFFDIO_WRITEPROTECT_MODE_WP : 0);
}

/* uffd_rwp(addr, length, on) */
int64_t read_write_protect(const u64 *a)
{
	return protect(UFFDIO_RWPROTECT, a[0], a[1], a[2] ? UFFDIO_RWPROTECT_MODE_RWP : 0);
}

/* Lets the process read all that is mapped, where a monitor would be told of it, or a signal. */
void end_read_protection(u64 start, u64 end)
{
	if (n_contexts)
		protect(UFFDIO_RWPROTECT, start, end - start, 0);
}

/* What the monitor was told so far, as a list. */
void say_events(void)
{
	if (n_contexts && (send(channel[1], "", 1, MSG_NOSIGNAL) != 1 || recv(channel[1], &told, sizeof told, 0) <= 0))
		give_up("the monitor");
	say("[");
	for (size_t i = 0; i < told.n; i++) {
		const struct event *event = &told.event[i];

		if (i)
			say(",");
		if (event->kind == UFFD_EVENT_FORK) {
			say("[\"fork\"]");
			continue;
		}
		say("[\"%s\",", event->kind == UFFD_EVENT_REMAP ? "remap" : event->kind == UFFD_EVENT_REMOVE ? "remove" : "unmap");
		say_signed((int64_t)(event->first - arena_start));
		say(",");
		say_signed((int64_t)(event->second - arena_start));
		if (event->kind == UFFD_EVENT_REMAP) {
			say(",");
			say_number(event->length);
		}
		say("]");
	}
	say("]");
}
