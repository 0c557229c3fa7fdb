static const char *shown(long long value)
{
	static char texts[4][64], *text;
	static int next;

	text = texts[next++ % 4];
	if (value < 0 && value > -4096)
		snprintf(text, sizeof(texts[0]), "-%lld (%s)", -value,
			 strerror((int)-value));
	else if (value >= (long long)ARENA)
		snprintf(text, sizeof(texts[0]), "AT(0x%llx)",
			 value - (long long)ARENA);
	else
		snprintf(text, sizeof(texts[0]),
			 value > 9 ? "0x%llx" : "%lld", value);
	return text;
}

static void expect_text(const char *what, const char *found,
			const char *right)
{
	bool same = !strcmp(found, right);

	tell(MARK "%s = %s%s%s\n", what, found,
	     same ? "" : ", expected ", same ? "" : right);
	ksft_test_result(same, "%s\n", what);
}

/* What a call is to return. */
#define EXPECT(call, value) expect_text(#call, shown(call), shown(value))

/* The same of a text. */
#define EXPECT_TEXT(call, text) expect_text(#call, call, text)

/* How a page is, in words. */
#define EXPECT_PAGE(addr, words)                                          \
	expect_text("page(" #addr ")", page(addr, words), words)

/* Flags of the mapping at an address. */
#define EXPECT_FLAGS(addr, words)                                         \
	expect_text("vma_flags(" #addr ")", vma_flags(addr, words), words)

static _Noreturn void skip(const char *why)
{
	ksft_exit_skip("%s\n", why);
	exit(KSFT_SKIP);
}
