/* What the files of the agent share; main.c says what the program does. */
#ifndef AGENT_H
#define AGENT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <sys/types.h>

typedef uint64_t u64; /* an address, too, whatever the word of the machine */

enum { EXIT_TIME = 70, EXIT_SYSTEM = 71 };
enum { MAX_CALLS = 256, MAX_OPERANDS = 6, MAX_FILLED_PAGES = 16384, MAX_VMAS = 4096 };

static inline void *at(u64 addr)
{
	return (void *)(uintptr_t)addr;
}

static inline u64 round_down(u64 value, u64 unit)
{
	return value / unit * unit;
}

static inline u64 round_up(u64 value, u64 unit)
{
	return round_down(value + unit - 1, unit);
}

/* --- main.c ------------------------------------------------------------------------------------- */

extern u64 cases; /* that were run so far */
_Noreturn void give_up(const char *what);
int64_t raw(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
void drop_capability(unsigned capability);

/* --- layout.c: the machine's numbers, and the arena ---------------------------------------------- */

extern u64 page_bytes, slot_bytes, slot_pages; /* a slot is what an entry of a PMD table covers */
extern u64 user_top;			       /* first address behind user space */
extern u64 arena_start, arena_bytes;

void settle_layout(char **argv);
void measure_layout(void);
void occupy(void);
void fence(void);
u64 commit_limit(void);
bool inside(u64 addr, u64 length);

static inline u64 page_of(u64 addr)
{
	return (addr - arena_start) / page_bytes;
}

/* --- output.c ------------------------------------------------------------------------------------ */

void flush(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_text(const char *text, size_t length);
void say_number(u64 value);
void say_signed(int64_t value);
void say_error(int error);

/* Runs of pages that something is true of. */
struct runs {
	size_t n, room;
	struct run {
		u64 first, count;
	} *run;
};
void add_page(struct runs *runs, u64 page);
void say_runs(const char *name, const struct runs *runs);

/* --- proc.c: what /proc says --------------------------------------------------------------------- */

struct vma {
	u64 start, end, offset, inode;
	char prot[5];
	char flags[40]; /* with `from_smaps`: those of VmFlags that are told */
	bool locked, huge, pages; /* with `from_smaps`; huge: a PMD maps a huge page in it; pages: any but zero pages */
};
extern struct vma vmas[MAX_VMAS];
extern size_t n_vmas;
extern char text[4 << 20]; /* the file that was read last */

int open_proc(const char *path);
void open_process_files(void);
size_t slurp(int fd);
char *read_file(const char *path);
u64 number_behind(const char *word);
char *hex(char *p, u64 *value);
bool tells_page_tables(void);
u64 page_table_bytes(void);
u64 status_kib(const char *field);
bool parse_vma(char *line, struct vma *vma);
void read_vmas(bool from_smaps);
char *all_maps(void);
bool kernel_complained(void);
u64 vmas_in_all(void);
int pagemap(void);
int own_memory(void);

/* --- access.c ------------------------------------------------------------------------------------ */

extern u64 last_tag;
void handle_faults(void);
void access_pages(const u64 *operands, bool write);
bool read_page(u64 addr, u64 *value);

/* --- calls.c ------------------------------------------------------------------------------------- */

struct call {
	const struct kind *kind;
	u64 arg[MAX_OPERANDS];
	bool unless_locked; /* what is mapped at `asked` */
	u64 asked;
};
struct kind {
	const char *name;
	unsigned operands;
	bool own_process; /* what it does to a process cannot be undone */
	bool swaps;
	bool replaces; /* the address space: there is nothing to see of it then but the kernel's warning */
	bool returns_address;
	long number;			 /* of a system call: it is made with the operands as they are */
	int64_t (*make)(const u64 *arg); /* of any other: what it returns, or -errno */
	bool (*here)(void);		 /* can it be made on this system?  NULL: always */
};
bool maps_huge_pages(const struct call *call);
char *parse_call(char *p, struct call *call, const char **wrong);
void run_call(const struct call *call);
void say_calls(void);

/* --- own.c: a process for one case; its children --------------------------------------------------- */

typedef void (*work)(const void *argument);
void in_own_process(work work, const void *argument);
int64_t make_child(const u64 *operands);
int64_t end_children(const u64 *operands);

/* --- monitor.c: userfaultfds, and who answers them -------------------------------------------------- */

void open_channel(void);
void close_channel(void);
void attend(void);
void be_attended(void);
bool has_userfaultfd(void);
bool uses_userfaultfd(void);
int64_t register_memory(const u64 *operands);
int64_t write_protect(const u64 *operands);
int64_t read_write_protect(const u64 *operands);
void end_read_protection(u64 start, u64 end);
void say_events(void);

/* --- file.c ---------------------------------------------------------------------------------------- */

bool has_files(void);
void close_files(void);
void settle_files(void);
bool is_file(u64 inode);
int64_t make_file(const u64 *operands);
bool has_maps(void);
int64_t make_map(const u64 *operands);
int64_t cut_file(const u64 *operands);
int64_t fill_file(const u64 *operands);

/* --- limits.c --------------------------------------------------------------------------------------- */

extern bool machine_is_ours; /* settings of the whole system may be changed */
void begin_limits(void);
void end_limits(void);
int64_t limit(const u64 *operands);
void say_limits_missing(void);

/* --- stock.c ---------------------------------------------------------------------------------------- */

bool has_huge_pages(void);
void refill_stock(void);

/* --- memory.c: a shortage of it ---------------------------------------------------------------------- */

bool has_shortage(void);
int64_t fail_later(const u64 *operands);
void begin_shortage(void);
void end_shortage(void);
void end_shortages(void);

/* --- reclaim.c -------------------------------------------------------------------------------------- */

extern const char *swap_device;
bool begin_swap(void);
void end_swap(void);
bool has_swap(void);
bool counts_swap(void);
int64_t swap_out(const u64 *operands);
bool has_soft_dirty(void);
int64_t clear_soft_dirty(const u64 *operands);

/* --- pages.c ------------------------------------------------------------------------------------- */

extern bool use_scan; /* PAGEMAP_SCAN */
void find_zero_pages(void);
void probe_scan(void);
void say_pages(void);
void say_contents(void);
u64 resident_pages(void);
u64 pagemap_entry(u64 addr);
void say_marks(void);
const char *zeroes(void);
#define ENTRY_SOFT_DIRTY (1ULL << 55)
#define ENTRY_UFFD_WP (1ULL << 57)

/* --- case.c -------------------------------------------------------------------------------------- */

struct program {
	const char *id;
	size_t id_length;
	const struct call *calls;
	size_t n;
	bool own_process; /* it must have one */
	bool swaps;
	bool replaces;
	bool maps_huge; /* of hugetlb */
};
extern bool tell_all; /* optional fields, too, of every case */
void set_time_limit(u64 milliseconds);
void give_time(void);
void take_baseline(void);
bool maps_nothing(void);
void run_case(const struct program *program);
void run_line(char *line);
void say_fields(void);

/* --- exec.c: execve_stack ------------------------------------------------------------------------ */

extern unsigned execs; /* that the last execve_stack took */
bool has_stack_in_reach(void);
void tell_stack_end(char **argv);
int64_t exec_with_stack(const u64 *a);

/* --- emulated.c ---------------------------------------------------------------------------------- */

extern bool emulated; /* no kernel answers */
void find_emulator(void);
void run_apart(const struct program *program, struct itimerval limit);

#endif
