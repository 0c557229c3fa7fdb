/* What /proc says: bytes of page tables, VMAs, complaints of the kernel. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent.h"

#define MAPS "/proc/self/maps"
#define SMAPS "/proc/self/smaps"

struct vma vmas[MAX_VMAS];
size_t n_vmas;
char text[4 << 20];

/* Those of VmFlags that are told, in this order. */
static const char *const told[] = {"lo", "um", "uw", "ui", "ur", "sl", "sd", "ht", "dc", "gd", "ac", "nr"};

static int status_fd = -1, maps_fd = -1, smaps_fd = -1, pagemap_fd = -1, memory_fd = -1;

int open_proc(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		give_up(path);
	return fd;
}

/* They are those of the process that opens them. */
void open_process_files(void)
{
	const int old[] = {status_fd, maps_fd, smaps_fd, pagemap_fd, memory_fd};

	for (size_t i = 0; i < sizeof old / sizeof *old; i++)
		if (old[i] >= 0)
			close(old[i]);
	status_fd = open_proc("/proc/self/status");
	maps_fd = open_proc(MAPS);
	smaps_fd = open_proc(SMAPS);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC); /* gVisor has none */
	memory_fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
}

int pagemap(void)
{
	return pagemap_fd;
}

int own_memory(void)
{
	return memory_fd;
}

/* Reads a whole file of /proc into `text`; returns its length. */
size_t slurp(int fd)
{
	size_t used = 0;
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET) < 0)
		give_up("lseek in /proc");
	while ((n = read(fd, text + used, sizeof text - 1 - used)) > 0)
		used += (size_t)n;
	if (n < 0 || used == sizeof text - 1)
		give_up("read of /proc");
	text[used] = 0;
	return used;
}

/* The contents of a file, in `text`; NULL if this kernel does not have it. */
char *read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	slurp(fd);
	close(fd);
	return text;
}

static void read_status(void)
{
	ssize_t n = pread(status_fd, text, sizeof text - 1, 0);

	if (n <= 0)
		give_up("/proc/self/status");
	text[n] = 0;
}

/* The number behind a word of the file that was read last; 0 if this kernel does not have that. */
u64 number_behind(const char *word)
{
	char *found = strstr(text, word);

	return found ? strtoull(found + strlen(word), NULL, 10) : 0;
}

u64 status_kib(const char *field)
{
	read_status();
	return number_behind(field);
}

bool tells_page_tables(void)
{
	read_status();
	return strstr(text, "\nVmPTE:");
}

u64 page_table_bytes(void)
{
	return status_kib("\nVmPTE:") * 1024;
}

/* Reads hex digits; returns what follows them. */
char *hex(char *p, u64 *value)
{
	u64 v = 0;

	for (;; p++) {
		if (*p >= '0' && *p <= '9')
			v = v << 4 | (u64)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			v = v << 4 | (u64)(*p - 'a' + 10);
		else
			break;
	}
	*value = v;
	return p;
}

/* One header line of maps or smaps; false if the line is something else. */
bool parse_vma(char *line, struct vma *vma)
{
	char *p = hex(line, &vma->start);

	if (p == line || *p != '-')
		return false;
	p = hex(p + 1, &vma->end) + 1;
	memcpy(vma->prot, p, 4);
	vma->prot[4] = 0;
	p = hex(p + 5, &vma->offset) + 1;
	p = strchr(p, ' ') + 1; /* device */
	vma->inode = strtoull(p, NULL, 10);
	vma->flags[0] = 0;
	vma->locked = vma->huge = vma->pages = false;
	return true;
}

static void parse_flags(const char *line, struct vma *vma)
{
	for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
		const char flag[] = {' ', told[i][0], told[i][1], 0};

		if (strstr(line, flag)) {
			strcat(vma->flags, flag + !*vma->flags);
			vma->locked |= i == 0;
		}
	}
}

/* Emulators write such a file when it is opened, as it is then. */
static int renewed(int *fd, const char *path)
{
	if (emulated) {
		close(*fd);
		*fd = open_proc(path);
	}
	return *fd;
}

char *all_maps(void)
{
	slurp(maps_fd);
	return text;
}

/* How many VMAs there are, in the arena and outside; the kernel's own page counts for nothing. */
u64 vmas_in_all(void)
{
	struct vma vma;
	u64 count = 0;

	for (char *line = all_maps(); *line; line = strchr(line, '\n') + 1)
		count += parse_vma(line, &vma) && vma.start < user_top;
	return count;
}

/* Fills `vmas` with what intersects the arena. */
void read_vmas(bool from_smaps)
{
	u64 arena_end = arena_start + arena_bytes;
	struct vma *vma = NULL, other;
	char *line, *next;

	slurp(from_smaps ? renewed(&smaps_fd, SMAPS) : renewed(&maps_fd, MAPS));
	n_vmas = 0;
	for (line = text; *line; line = next) {
		next = strchr(line, '\n');
		next = next ? next + 1 : line + strlen(line);
		if (parse_vma(line, &other)) {
			vma = NULL;
			if (other.end <= arena_start || other.start >= arena_end)
				continue;
			if (n_vmas == MAX_VMAS)
				give_up("too many mappings");
			vma = &vmas[n_vmas++];
			*vma = other;
			if (vma->start < arena_start)
				vma->start = arena_start;
			if (vma->end > arena_end)
				vma->end = arena_end;
		} else if (vma && !strncmp(line, "VmFlags:", 8)) {
			char saved = *next;

			*next = 0;
			parse_flags(line, vma);
			*next = saved;
		} else if (vma && (!strncmp(line, "AnonHugePages:", 14) ||
				   !strncmp(line, "ShmemPmdMapped:", 15) ||
				   !strncmp(line, "FilePmdMapped:", 14) ||
				   !strncmp(line, "Private_Hugetlb:", 16) ||
				   !strncmp(line, "Shared_Hugetlb:", 15))) {
			vma->huge |= strtoull(strchr(line, ':') + 1, NULL, 10) != 0;
			vma->pages |= vma->huge;
		} else if (vma && (!strncmp(line, "Rss:", 4) || !strncmp(line, "Swap:", 5))) {
			vma->pages |= strtoull(strchr(line, ':') + 1, NULL, 10) != 0;
		}
	}
}

/* True if the kernel complained since the last call: a new taint bit, or a message in its log. */
bool kernel_complained(void)
{
	static int tainted_fd = -1, kmsg_fd = -1;
	static u64 tainted_before;
	char taint[32] = "", message[2048];
	bool complained = false;
	u64 tainted;
	ssize_t n;

	if (tainted_fd < 0) {
		tainted_fd = open_proc("/proc/sys/kernel/tainted");
		kmsg_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (kmsg_fd >= 0)
			lseek(kmsg_fd, 0, SEEK_END);
	}
	if (pread(tainted_fd, taint, sizeof taint - 1, 0) > 0) {
		tainted = strtoull(taint, NULL, 10);
		complained = tainted != tainted_before;
		tainted_before = tainted;
	}
	if (kmsg_fd < 0)
		return complained;
	while ((n = read(kmsg_fd, message, sizeof message - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n <= 0)
			continue; /* messages were overwritten before we read them */
		message[n] = 0;
		if (strstr(message, "WARNING:") || strstr(message, "BUG:") || strstr(message, "BUG "))
			complained = true;
	}
	return complained;
}
