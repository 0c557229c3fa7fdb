/*
 * init: the first process of a virtual machine.  It sets the machine up, starts the agent, and passes
 * lines on between the agent and the port of the machine that is named "agent": one at a time, so that
 * an agent that dies takes nothing with it but the case that it is at.
 *
 * /setup says what to do, one thing a line, in this order:
 *        insmod FILE [OPTION=VALUE ...]
 *        write FILE TEXT            a setting; nothing, if this kernel has no such file
 *        mkswap DEVICE              write a swap header
 *        recycle CASES              an agent runs so many cases, then it ends and another is started: what the
 *                                   kernel has to say when an address space goes is said then
 *        run PROGRAM [ARGUMENT ...] the agent
 *
 * First the agent's greeting is passed on, {"hello": ...}; those of later agents are not.  A line that comes in is
 *        ID <TAB> CALLS    a case.  The agent's answer; of an agent that dies {"id": ID, "crash": HOW}, of one
 *                          that cannot work here {"id": ID, "error": WHY}, and the next case has a new one
 *        !end ID           the agent ends, as it does behind every so many cases, and the next case has a new one:
 *                          {"end": 0}.  ID is that of the last case
 *        !signal NUMBER    the agent gets that signal, as one that has an accident: {"signal": NUMBER}
 *        !read FILE        {"read": FILE, "hex": CONTENTS}, or {"read": FILE, "error": WHY}
 *        !write FILE TEXT  {"write": FILE}, or with "error": WHY
 *
 * If the kernel said something in the course of a case, "init: case ID" follows in its log before the case is answered,
 * and "init: the end behind case ID" if it did when an agent ended.
 * What init itself has to say goes to the log, too.  A machine that is of no use ends: "init: cannot go on: WHY".
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_WORDS 32
#define WAIT_STEPS 250 /* of 20 ms each, for a device that is to come */
#define LEAST_BYTES (64ULL << 20) /* that are free; else the machine has lost memory, and another is better */

enum { EXIT_TIME = 70, EXIT_SYSTEM = 71 }; /* of the agent */

static int port = -1, log_in = -1, log_out = -1;

/* To the kernel's log, as a warning: behind whatever the kernel has said until now. */
static __attribute__((format(printf, 1, 2))) void say(const char *format, ...)
{
	char line[512] = "<4>init: ";
	size_t start = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + start, sizeof line - start - 1, format, args);
	va_end(args);
	strcat(line, "\n"); /* without it, no console shows it before there is more (prb_final_commit) */
	if (write(log_out, line, strlen(line)) < 0)
		return; /* there is nobody else to tell */
}

/* The machine is of no use: it ends, and its console says why. */
static _Noreturn void end_machine(const char *why)
{
	say("cannot go on: %s", why);
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static _Noreturn void give_up(const char *what)
{
	char why[256];

	snprintf(why, sizeof why, "%s: %s", what, strerror(errno));
	end_machine(why);
}

static void wait_a_little(void)
{
	usleep(20000);
}

/* --- lines ------------------------------------------------------------------------------------------- */

struct reader {
	int fd;
	char *data;
	size_t used, size, taken; /* `taken` bytes at the beginning were a line before */
};

static void room_for(struct reader *in, size_t more)
{
	if (in->used + more <= in->size)
		return;
	in->size = 2 * (in->used + more);
	in->data = realloc(in->data, in->size);
	if (!in->data)
		give_up("no memory for a line");
}

/* The next line without its end, or NULL when there is none any more; good until the next call. */
static char *read_line(struct reader *in)
{
	size_t looked = 0;
	char *end;
	ssize_t n;

	memmove(in->data, in->data + in->taken, in->used - in->taken);
	in->used -= in->taken;
	in->taken = 0;
	for (;;) {
		end = in->used > looked ? memchr(in->data + looked, '\n', in->used - looked) : NULL;
		if (end) {
			*end = 0;
			in->taken = (size_t)(end - in->data) + 1;
			return in->data;
		}
		looked = in->used;
		room_for(in, 1 << 16);
		n = read(in->fd, in->data + in->used, in->size - in->used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		in->used += (size_t)n;
	}
}

static bool write_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(fd, data, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		length -= (size_t)n;
	}
	return true;
}

/* To be freed. */
static __attribute__((format(printf, 1, 2))) char *formatted(const char *format, ...)
{
	char *text;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		give_up("no memory for an answer");
	va_end(args);
	return text;
}

/* To the host: a line, in one piece; the text is freed. */
static void answer(char *text)
{
	size_t length = strlen(text);

	text[length] = '\n'; /* in place of its end */
	if (!write_all(port, text, length + 1))
		give_up("the port");
	free(text);
}

/* A whole file, or NULL with errno set; to be freed. */
static char *slurp(const char *path, size_t *length)
{
	struct reader in = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
	ssize_t n;

	if (in.fd < 0)
		return NULL;
	do {
		room_for(&in, 1 << 16);
		n = read(in.fd, in.data + in.used, in.size - in.used - 1);
		in.used += n > 0 ? (size_t)n : 0;
	} while (n > 0);
	close(in.fd);
	in.data[in.used] = 0;
	*length = in.used;
	return in.data;
}

/* --- setting up -------------------------------------------------------------------------------------- */

/* As a line: some settings insist on its end. */
static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	char *line = formatted("%s\n", text);
	bool done = fd >= 0 && write_all(fd, line, strlen(line)); /* not dprintf: it seeks first */
	int error = errno;

	if (fd >= 0)
		close(fd);
	free(line);
	errno = error;
	return done;
}

static void insmod(const char *path, const char *options)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, options, 0) && errno != EEXIST))
		say("module %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* The header of include/linux/swap.h (union swap_header). */
static void make_swap(const char *device)
{
	size_t page = (size_t)getpagesize();
	char *header = calloc(1, page);
	uint32_t *info = (uint32_t *)(header + 1024); /* version, last page, bad pages */
	uint64_t bytes = 0;
	int fd;

	for (int i = 0; i < WAIT_STEPS && access(device, W_OK); i++)
		wait_a_little();
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (!header || fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes)) {
		say("no swap: %s: %s", device, strerror(errno));
	} else {
		info[0] = 1;
		info[1] = (uint32_t)(bytes / page - 1);
		memcpy(header + page - 10, "SWAPSPACE2", 10);
		if (pwrite(fd, header, page, 0) != (ssize_t)page || fsync(fd))
			say("no swap: %s: %s", device, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	free(header);
}

static void mount_all(void)
{
	static const struct { const char *type, *path; } mounts[] = {
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
		{"cgroup2", "/sys/fs/cgroup"}, {"debugfs", "/sys/kernel/debug"},
	};

	for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
		mkdir(mounts[i].path, 0755);
		mount(mounts[i].type, mounts[i].path, mounts[i].type, 0, NULL);
	}
	log_out = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	log_in = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/* True if the kernel said something since the last call that its console shows. */
static bool kernel_spoke(void)
{
	char record[8192];
	bool spoke = false;
	ssize_t n;

	while ((n = read(log_in, record, sizeof record - 1)) > 0 || (n < 0 && errno == EPIPE))
		if (n > 0) {
			record[n] = 0;
			spoke |= strtoul(record, NULL, 10) <= 4; /* of the kernel, and at least a warning */
		}
	return spoke;
}

static uint64_t free_bytes(void)
{
	size_t length;
	char *text = slurp("/proc/meminfo", &length);
	char *field = text ? strstr(text, "MemAvailable:") : NULL;
	uint64_t bytes = field ? strtoull(field + 13, NULL, 10) * 1024 : UINT64_MAX;

	free(text);
	return bytes;
}

/* The character device of the port named "agent". */
static int open_port(void)
{
	char name[512], path[512];

	for (int i = 0; i < WAIT_STEPS; i++, wait_a_little()) {
		DIR *ports = opendir("/sys/class/virtio-ports");
		struct dirent *entry;

		while (ports && (entry = readdir(ports))) {
			size_t length;
			char *text;
			int fd;

			snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
			text = entry->d_name[0] == '.' ? NULL : slurp(path, &length);
			if (text && !strncmp(text, "agent", 5)) {
				snprintf(name, sizeof name, "/dev/%s", entry->d_name);
				fd = open(name, O_RDWR | O_CLOEXEC);
				if (fd >= 0)
					return fd;
			}
			free(text);
		}
		if (ports)
			closedir(ports);
	}
	errno = ENODEV;
	give_up("no virtio console (CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_CONSOLE, or their modules)");
}

/* --- the agent --------------------------------------------------------------------------------------- */

static char *program[MAX_WORDS + 1];
static unsigned long recycle = 1, cases; /* of this agent */
static pid_t agent;
static int to_agent = -1;
static struct reader from_agent = {.fd = -1};

static void start_agent(void)
{
	int input[2], output[2];
	int complaints = open("/tmp/complaints", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (complaints < 0 || pipe2(input, O_CLOEXEC) || pipe2(output, O_CLOEXEC))
		give_up("pipes");
	cases = 0;
	agent = fork();
	if (agent < 0)
		give_up("fork");
	if (!agent) {
		dup2(input[0], 0);
		dup2(output[1], 1);
		dup2(complaints, 2);
		signal(SIGPIPE, SIG_DFL);
		execv(program[0], program);
		_exit(EXIT_SYSTEM);
	}
	close(input[0]);
	close(output[1]);
	close(complaints);
	to_agent = input[1];
	from_agent.fd = output[0];
	from_agent.used = from_agent.taken = 0;
}

/* Waits for the agent's end, and for whatever else has ended; returns its status. */
static int reap(void)
{
	int status = 0, ended = 0;
	pid_t pid;

	if (to_agent >= 0)
		close(to_agent);
	close(from_agent.fd);
	to_agent = from_agent.fd = -1;
	while ((pid = waitpid(-1, &status, 0)) > 0)
		if (pid == agent) {
			ended = status;
			break;
		}
	while (waitpid(-1, &status, WNOHANG) > 0)
		;
	agent = 0;
	return ended;
}

/* How it ended, as fuzz/subjects/agent.py tells of an agent; to be freed. */
static char *how_it_ended(int status)
{
	if (WIFSIGNALED(status))
		return formatted("killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
	if (WEXITSTATUS(status) == EXIT_TIME)
		return formatted("takes too long");
	return formatted("ended with exit code %d", WEXITSTATUS(status));
}

/* What the agent said of why it cannot work, fit for JSON; to be freed. */
static char *complaint(void)
{
	size_t length = 0;
	char *text = slurp("/tmp/complaints", &length);

	if (!text)
		give_up("what the agent said");
	while (length && (unsigned char)text[length - 1] <= ' ')
		text[--length] = 0;
	for (char *p = text; *p; p++)
		if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ')
			*p = ' ';
	return text;
}

/* An agent that has greeted.  False if it cannot work: then `why` says so, to be freed. */
static bool agent_is_there(bool tell, char **why)
{
	char *hello;
	int status;

	if (agent)
		return true;
	start_agent();
	hello = read_line(&from_agent);
	if (hello) {
		if (tell)
			answer(strdup(hello));
		return true;
	}
	status = reap();
	*why = complaint();
	if (!**why) {
		free(*why);
		*why = how_it_ended(status);
	}
	return false;
}

/* --- what the host asks ------------------------------------------------------------------------------ */

/* The answer to a case, to be freed.  What died is gone then. */
static char *answer_to(const char *line, int id)
{
	char *why, *found;
	const char *what = "error";
	int status;

	if (agent_is_there(false, &why)) {
		if (write_all(to_agent, line, strlen(line)) && write_all(to_agent, "\n", 1) &&
		    (found = read_line(&from_agent)))
			return strdup(found);
		status = reap();
		if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SYSTEM) {
			why = complaint();
		} else {
			why = how_it_ended(status);
			what = "crash";
		}
	}
	found = formatted("{\"id\": \"%.*s\", \"%s\": \"%s\"}", id, line, what, why);
	free(why);
	return found;
}

/* To what case or end it is put down.  What it warns of once only, it is to warn of again. */
static void tell_if_kernel_spoke(const char *behind, int id, const char *line)
{
	if (kernel_spoke()) {
		say("%scase %.*s", behind, id, line);
		put("/sys/kernel/debug/clear_warn_once", "1");
	}
}

/* Which case it ran last is only to be told. */
static void end_agent(int id, const char *last)
{
	if (agent) {
		close(to_agent);
		to_agent = -1;
		while (read_line(&from_agent))
			; /* its farewell */
		reap();
		tell_if_kernel_spoke("the end behind ", id, last);
	}
}

static void run_case(const char *line)
{
	int id = (int)strcspn(line, "\t");
	char *found = answer_to(line, id);

	tell_if_kernel_spoke("", id, line);
	if (++cases == recycle)
		end_agent(id, line);
	if (!agent && free_bytes() < LEAST_BYTES)
		end_machine("too little memory is left");
	answer(found);
}

static void read_file(const char *path)
{
	size_t length;
	char *text = slurp(path, &length), *hex;

	if (!text) {
		answer(formatted("{\"read\": \"%s\", \"error\": \"%s\"}", path, strerror(errno)));
		return;
	}
	hex = malloc(2 * length + 1);
	if (!hex)
		give_up("no memory for a file");
	for (size_t i = 0; i < length; i++)
		sprintf(hex + 2 * i, "%02x", (unsigned char)text[i]);
	hex[2 * length] = 0;
	answer(formatted("{\"read\": \"%s\", \"hex\": \"%s\"}", path, hex));
	free(hex);
	free(text);
}

/* Cuts off the first word, and returns what comes after it; "" if there is nothing. */
static char *after_word(char *line)
{
	char *rest = line + strcspn(line, " ");

	if (*rest)
		*rest++ = 0;
	return rest;
}

static void obey(char *command)
{
	char *path = after_word(command);

	if (!strcmp(command, "!end")) {
		end_agent((int)strlen(path), path);
		answer(formatted("{\"end\": 0}"));
	} else if (!strcmp(command, "!signal")) {
		int number = atoi(path);

		if (agent)
			kill(agent, number);
		answer(formatted("{\"signal\": %d}", number));
	} else if (!strcmp(command, "!read")) {
		read_file(path);
	} else if (!strcmp(command, "!write")) {
		char *text = after_word(path);

		if (put(path, text))
			answer(formatted("{\"write\": \"%s\"}", path));
		else
			answer(formatted("{\"write\": \"%s\", \"error\": \"%s\"}", path, strerror(errno)));
	} else {
		answer(formatted("{\"error\": \"no such command\"}"));
	}
}

static void set_up(void)
{
	struct reader in = {.fd = open("/setup", O_RDONLY | O_CLOEXEC)};
	char *line;

	while ((line = read_line(&in))) {
		char *argument = after_word(line);

		if (!strcmp(line, "insmod")) {
			char *options = after_word(argument);
			insmod(argument, options);
		} else if (!strcmp(line, "write")) {
			char *text = after_word(argument);
			if (!put(argument, text) && errno != ENOENT)
				say("%s: %s", argument, strerror(errno));
		} else if (!strcmp(line, "mkswap")) {
			make_swap(argument);
		} else if (!strcmp(line, "recycle")) {
			recycle = strtoul(argument, NULL, 10);
		} else if (!strcmp(line, "run")) {
			char *words = strdup(argument);
			size_t n = 0;

			for (char *word = strtok(words, " "); word && n < MAX_WORDS; word = strtok(NULL, " "))
				program[n++] = word;
		}
	}
	if (!program[0] || !recycle)
		end_machine("/setup does not say what to run, or how often");
}

int main(void)
{
	struct reader in = {.fd = -1};
	char *line, *why;

	signal(SIGPIPE, SIG_IGN);
	mount_all();
	set_up();
	in.fd = port = open_port();
	if (!agent_is_there(true, &why))
		end_machine(why);
	kernel_spoke(); /* while it booted */
	while ((line = read_line(&in)))
		if (*line == '!')
			obey(line);
		else
			run_case(line);
	end_machine("the host has gone");
}
