/*
 * Of the checks by which the defect shows: how many are as they should be,
 * and how many are not.
 */
static int fine, broken;

/*
 * Checks of either kind that came out as nobody expects: then the program
 * did not come to what it is about.
 */
static int others;

static const char *shown(long long value)
{
	static char texts[4][64], *text;
	static int next;

	text = texts[next++ % 4];
	if (value < 0 && value > -4096)
		snprintf(text, sizeof texts[0], "-%lld (%s)", -value,
			 strerror((int)-value));
	else if (value >= (long long)ARENA)
		snprintf(text, sizeof texts[0], "AT(0x%llx)",
			 value - (long long)ARENA);
	else
		snprintf(text, sizeof texts[0],
			 value > 9 ? "0x%llx" : "%lld", value);
	return text;
}

static void expect_text(const char *what, const char *found,
			const char *right)
{
	bool same = !strcmp(found, right);

	others += !same;
	tell("%s = %s%s%s\n", what, found, same ? "" : ", expected ",
	     same ? "" : right);
}

static void decide_text(const char *what, const char *found,
			const char *right, const char *wrong)
{
	bool is_right = !strcmp(found, right),
	     is_wrong = !strcmp(found, wrong);

	fine += is_right;
	broken += is_wrong;
	others += !is_right && !is_wrong;
	tell("%s = %s: %s%s\n", what, found,
	     is_right ? "as it should be" :
	     is_wrong ? "the defect; it should be " :
			"neither with the defect nor ",
	     is_right ? "" : right);
}

/* What a call is to return, whether or not the kernel has the defect. */
#define EXPECT(call, value) expect_text(#call, shown(call), shown(value))

/* By this the defect shows: what should be, and what is there with it. */
#define DECIDE(call, right, wrong)                                        \
	decide_text(#call, shown(call), shown(right), shown(wrong))

/* The same of a text. */
#define EXPECT_TEXT(call, text) expect_text(#call, call, text)

/* The same of a text. */
#define DECIDE_TEXT(call, right, wrong)                                   \
	decide_text(#call, call, right, wrong)

/* How a page is, in words. */
#define EXPECT_PAGE(addr, words)                                          \
	expect_text("page(" #addr ")", page(addr, words), words)

/* The same by which the defect shows. */
#define DECIDE_PAGE(addr, right, wrong)                                   \
	decide_text("page(" #addr ")", page(addr, right), right, wrong)

/* Flags of the mapping at an address. */
#define EXPECT_FLAGS(addr, words)                                         \
	expect_text("vma_flags(" #addr ")", vma_flags(addr, words), words)

/* The same by which the defect shows. */
#define DECIDE_FLAGS(addr, right, wrong)                                  \
	decide_text("vma_flags(" #addr ")", vma_flags(addr, right),       \
		    right, wrong)

static _Noreturn void skip(const char *why)
{
	tell("skipped: %s\n", why);
	exit(4);
}

/*
 * What it has come to: 0 there is no defect, 1 it shows, 2 neither is so.
 */
static int came_to(void)
{
	if (others)
		return 2;
	return broken && !fine ? 1 : fine && !broken ? 0 : 2;
}

/*
 * What another release does otherwise than KERNEL says nothing of either:
 * it may lack what the calls need.
 */
static void skip_on_another_release(void)
{
	size_t length = strlen(RELEASE);
	struct utsname is;

	if (uname(&is) || (!strncmp(is.release, RELEASE, length) &&
			   !isdigit(is.release[length])))
		return;
	tell("skipped: made for " KERNEL
	     "; Linux %s does something else than was expected above\n",
	     is.release);
	exit(4);
}

static int verdict(int status)
{
	static const char *const words[] = {
		"does not show the defect",
		"shows the defect",
		"does something else than kernels with it or without it",
	};

	if (status == 2)
		skip_on_another_release();
	TELL_LINE(words[status]);
	return status;
}

/* No defect is expected. */
static int verdict_as_promised(void)
{
	if (others)
		skip_on_another_release();
	TELL_LINE(others ? "does something else than " KERNEL :
			   "does what " KERNEL " does");
	return others ? 1 : 0;
}

/* Whether the defect is there, no program can see. */
static int verdict_unseen(void)
{
	if (others)
		skip_on_another_release();
	TELL_LINE(others ?
			  "does something else than " KERNEL :
			  "does what " KERNEL " does; whether the defect "
			  "is there cannot be seen");
	return others ? 2 : 4;
}

/*
 * Nobody knows of a kernel that does it right: the defect shows if all is
 * as where it was found.
 */
static int verdict_found(void)
{
	if (others)
		skip_on_another_release();
	TELL_LINE(others ? "does not show it: does something else "
			   "than " KERNEL :
			   "shows the defect");
	return others ? 0 : 1;
}
