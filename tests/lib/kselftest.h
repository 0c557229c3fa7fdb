/* Stands in for tools/testing/selftests/kselftest.h of a kernel tree: what exported tests use of it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define KSFT_SKIP 4

static int ksft_plan, ksft_passed, ksft_failed;

static inline void ksft_print_header(void)
{
	printf("TAP version 13\n");
}

static inline void ksft_set_plan(int plan)
{
	ksft_plan = plan;
	printf("1..%d\n", plan);
}

static inline __attribute__((format(printf, 1, 2))) void ksft_print_msg(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	va_end(args);
}

static inline __attribute__((format(printf, 2, 3))) void ksft_test_result(int passed, const char *format, ...)
{
	va_list args;

	ksft_passed += passed;
	ksft_failed += !passed;
	va_start(args, format);
	printf("%s %d ", passed ? "ok" : "not ok", ksft_passed + ksft_failed);
	vprintf(format, args);
	va_end(args);
}

static inline __attribute__((format(printf, 1, 2))) int ksft_exit_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("1..0 # SKIP ");
	vprintf(format, args);
	va_end(args);
	exit(KSFT_SKIP);
}

static inline void ksft_finished(void)
{
	exit(ksft_passed == ksft_plan ? 0 : 1);
}
