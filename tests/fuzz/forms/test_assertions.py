"""Lines that assert something of the state, and results that are asserted by kernel."""

import pytest

from fuzz.case import Assertion, ByKernel, CaseError
from fuzz.forms.text import dump, parse

READS = """\
mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0x10000
@vma 0x10000-0x14000 rw-p sd -lo
@unmapped linux-6.1: 0x0-0x10000
munmap(0x10000, 0x1000) = 0 | linux-5.0: -EINVAL | linux-6.1: OUT
touch(0x11000, 0x1000) = linux-6.1: SEGV[0x11000, 0x12000)
@page 0x11000 1 present -uffd-wp
"""


def test_read_and_written_alike() -> None:
    case = parse(READS)
    assert case.assertions == (
        Assertion(1, "@vma", None, 0x10000, 0x14000, ("rw-p", "sd", "-lo")),
        Assertion(1, "@unmapped", "linux-6.1", 0, 0x10000, ()),
        Assertion(3, "@page", None, 0x11000, 0x11000, ("1", "present", "-uffd-wp")),
    )
    assert case.calls[1].result == ByKernel(0, (("linux-5.0", "-EINVAL"), ("linux-6.1", "OUT")))
    assert dump(case) == READS


@pytest.mark.parametrize(
    ("kernel", "results"),
    [
        ("linux-5.0", ("-EINVAL", None)),
        ("linux-6.18", (0, None)),
        ("linux-6.1", ("OUT", "SEGV")),
        ("linux-6.1-may_retry", ("OUT", "SEGV")),
    ],
)
def test_the_result_of_a_kernel_goes_before_that_of_all(
    kernel: str, results: tuple[object, object]
) -> None:
    unmapped, touched = (call.asserted(kernel) for call in parse(READS).calls[1:])
    assert (unmapped, touched and "SEGV") == results


def test_other_calls_assert_nothing_between_them() -> None:
    case = parse(READS)
    assert not case.with_calls(case.calls[1:]).assertions
    assert not case.program().assertions


def test_what_stands_behind_no_call_cannot_be_written() -> None:
    case = parse(READS)
    for after in (0, 4):
        stray = case.assertions[0]._replace(after=after)
        with pytest.raises(ValueError, match="assertions stand behind calls"):
            dump(parse(READS.replace("@", "# @")).__class__(case.calls, assertions=(stray,)))


@pytest.mark.parametrize(
    ("line", "caret", "why"),
    [
        ("@vma 0x10-0x1000 rw-p", "     ^", "0x10 is not a multiple of the page size"),
        ("@vma 0x1000-0x1001 rw-p", "            ^", "0x1001 is not a multiple"),
        ("@vma 0x1000 rw-p", "     ^", "expected START-END"),
        ("@vma 0x2000-0x1000 rw-p", "     ^", "the range is empty"),
        ("@vma 0x0-0x1000", "^", "something is missing: @vma [KERNEL:] START-END rwxp"),
        ("@vma 0x0-0x1000 sd", "                ^", "expected the access as in /proc/PID/maps"),
        ("@vma 0x0-0x1000 rw-p xx", "                     ^", "unknown word 'xx'; known"),
        ("@unmapped 0x0-0x1000 sd", "                     ^", "unexpected 'sd'"),
        ("@page linux-9.9: 0x0 1", "      ^", "unknown kernel 'linux-9.9'"),
        ("@page", "^", "something is missing"),
        ("@page 0x0 01", "          ^", "unknown word '01'"),
        ("@page 0x0 dirty", "          ^", "unknown word 'dirty'; known"),
        ("touch(0x0, 0x1000) = 0 | 0", "                         ^", "expected KERNEL: RESULT"),
        ("touch(0x0, 0x1000) = 0 |", "                        ^", "expected KERNEL: RESULT"),
        ("touch(0x0, 0x1000) = linux-6.1:", "                               ^", "missing here"),
        ("fork() = linux-6.1: 0 | linux-6.1: 0", "                        ^", "duplicate result"),
        ("fork() = 0 | linux-9.9: 0", "             ^", "unknown kernel 'linux-9.9'"),
        ("fork() = 0 | linux-6.1: no", "                        ^", "'no' is not a result"),
    ],
)
def test_error_points_at(line: str, caret: str, why: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse(f"munmap(0x0, 0x1000)\n{line}\n", "a.case")
    error = caught.value
    assert why in error.why
    assert (error.line, error.column) == (2, len(caret))


def test_before_the_first_call_there_is_nothing_to_assert() -> None:
    with pytest.raises(CaseError, match="nothing can be asserted before the first call"):
        parse("@limit map_count 10\n@vma 0x0-0x1000 rw-p\nfork()\n")
