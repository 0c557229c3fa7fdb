"""The text form: what is read, what is written, and where errors point."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import KERNELS
from fuzz.calls.operand import Choice, Operand, Symbols
from fuzz.calls.registry import CALLS, DIRECTIVES, call
from fuzz.case import (
    MAX_CALLS,
    MAX_CASE_BYTES,
    Assertion,
    ByKernel,
    Call,
    Case,
    CaseError,
    Expectation,
    Faults,
)
from fuzz.forms.assertions import FLAG_WORDS, KINDS, PAGE, PAGE_WORDS, UNMAPPED, VMA
from fuzz.forms.results import format_result
from fuzz.forms.text import (
    dump,
    format_call,
    load,
    page_bytes_of,
    parse,
    parse_call,
    signature,
)
from tests.lib.programs import limits_first

STACK_CASE = """\
# overlapping stack move: the emptied source table is met again as destination
@kernel linux-6.1
@expect dest-entry-none
execve_stack(0xbfb00000, 0xc0000000, 0x400000)
"""

MOVES = """\
mmap(0x200000, 0x400000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0x200000
touch(0x200000, 0x3000) = 0
mremap(0x200000, 0x400000, 0x400000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000) = 0x40200000
mremap(0x40200000, 0x1000, 0x1000, MREMAP_FIXED) = -EINVAL
touch(0x40600000, 0x1000) = SEGV[0x40600000, 0x40601000)
"""


# Reading


def test_header_and_comment() -> None:
    case = parse(STACK_CASE)
    assert case.kernel == "linux-6.1"
    assert case.geometry is None
    assert case.expects == (Expectation(None, "dest-entry-none"),)
    assert case.comments[0].startswith("overlapping stack move: ")
    assert case.calls == (Call("execve_stack", (0xBFB00000, 0xC0000000, 0x400000)),)


def test_all_headers_in_any_order() -> None:
    case = parse(
        "@hypothetical # a note\n@found by run 7, seed #3\n@geometry i386-pae\n# why\n"
        "@expect linux-6.18 ok\n@expect chunk-2\n@kernel linux-6.12\n@found again\n"
    )
    assert case == Case(
        (),
        "linux-6.12",
        "i386-pae",
        (Expectation("linux-6.18", "ok"), Expectation(None, "chunk-2")),
        ("by run 7, seed #3", "again"),
        True,
        ("why",),
    )


def test_the_kernel_to_be_like_is_read_and_written() -> None:
    text = "@kernel linux-6.18-realign\n@geometry tiny\n@like linux-6.18\nfork()\n"
    assert parse(text).like == "linux-6.18"
    assert dump(parse(text)) == text
    for wrong, why in [
        ("@like linux-9.9", "unknown kernel"),
        ("@like linux-6.1", "duplicate @like"),
    ]:
        with pytest.raises(CaseError, match=why):
            parse(f"@like linux-6.18\n{wrong}\n" if "dup" in why else wrong)


DIRECTED = """\
# a limit is a header line, a failure a line among the calls
@kernel linux-6.12
@expect ok
@limit as 0x400000
@limit map_count 9
fork()
@fail pagetable 3
mseal(0x0, 0x1000) = 0
"""


def test_directives() -> None:
    case = parse(DIRECTED)
    assert dump(case) == DIRECTED
    assert case.calls[:4] == (
        Call("@limit", (1, 0x400000)),
        Call("@limit", (0, 9)),
        Call("fork", ()),
        Call("@fail", (0, 3)),
    )
    shuffled = "@limit as 4194304\n@expect ok\n@limit map_count 0x9 # few\n@kernel linux-6.12\n"
    assert parse(shuffled + "\t@fail  pagetable\t3\n").calls == (*case.calls[:2], case.calls[3])


def test_limits_out_of_place_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="limits stand before all calls"):
        dump(Case((Call("fork", ()), Call("@limit", (0, 9)))))


def test_calls_with_results() -> None:
    case = parse(MOVES)
    assert case.calls[0] == Call("mmap", (0x200000, 0x400000, 3, 0x32, -1, 0), 0x200000)
    assert [each.result for each in case.calls[1:]] == [
        0,
        0x40200000,
        "-EINVAL",
        Faults(((0x40600, 1),)),
    ]
    assert dump(case) == MOVES


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("munmap(4096, 0x2000)", call("munmap", 4096, 8192)),
        ("\tmunmap( 0x1 ,2 )\t=  0  # note", Call("munmap", (1, 2), 0)),
        ("munmap(0xffffffffffffffff, -0x2000)\r", call("munmap", 2**64 - 1, 2**64 - 0x2000)),
        ("mprotect(0, 1, PROT_NONE)", call("mprotect", 0, 1, 0)),
        ("mprotect(0, 1, PROT_READ | 0x8)", call("mprotect", 0, 1, 9)),
        ("mremap(1, 2, 3, MREMAP_MAYMOVE|8, 5)", call("mremap", 1, 2, 3, 9, 5)),
        ("mremap(1, 2, 3, 0)", call("mremap", 1, 2, 3, 0, 0)),
        ("madvise(1, 2, 9999)", call("madvise", 1, 2, 9999)),
        ("mmap(1, 2, 3, 0x12, 3)", call("mmap", 1, 2, 3, 0x12, 3, 0)),
        ("mmap(1, 2, 3, 0x12, -1, 0x1000)", call("mmap", 1, 2, 3, 0x12, -1, 0x1000)),
        ("mmap(0, 1, 0, 0) = OUT", Call("mmap", (0, 1, 0, 0, -1, 0), "OUT")),
        ("relocate(1, 2, 3) = SKIP", Call("relocate", (1, 2, 3), "SKIP")),
        (
            "peek(0, 0x9000) = SEGV[0x0, 0x1000) SEGV[ 0x3000 , 0x5000 )  BUS[32768, 0x9000)",
            Call("peek", (0, 0x9000), Faults(((0, 1), (3, 2)), ((8, 1),))),
        ),
        ("touch(0, 1) = BUS[0x0, 0x1000)", Call("touch", (0, 1), Faults((), ((0, 1),)))),
    ],
)
def test_line(line: str, expected: Call) -> None:
    assert parse_call(line) == expected


def test_faults_are_counted_in_pages_of_the_geometry() -> None:
    text = "@geometry arm64-64k-42\ntouch(0x0, 0x20000) = SEGV[0x10000, 0x20000)\n"
    case = parse(text)
    assert case.calls[0].result == Faults(((1, 1),))
    assert dump(case) == text


def test_windows_line_ends_and_blank_lines() -> None:
    assert parse("\r\n@kernel linux-6.1\r\n\r\n  \t\nmunmap(1, 2)\r\n") == Case(
        (call("munmap", 1, 2),), "linux-6.1"
    )


def test_only_leading_comments_are_kept() -> None:
    case = parse("#one\n#  two \n@hypothetical\n#\nmunmap(1, 2) # three\n# four\n")
    assert case.comments == ("one", " two", "")
    assert dump(case) == "# one\n#  two\n#\n@hypothetical\nmunmap(0x1, 0x2)\n"


def test_empty_text_is_an_empty_case() -> None:
    assert parse("") == Case()
    assert dump(Case()) == ""


# Writing


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (call("mmap", 0, 1, 0, 0x22), "mmap(0x0, 0x1, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS)"),
        (
            call("mmap", 0, 1, 3, 2, -1, 5),
            "mmap(0x0, 0x1, PROT_READ|PROT_WRITE, MAP_PRIVATE, -1, 0x5)",
        ),
        (
            call("mmap", 0, 1, 1, 0x54000022, -1),
            "mmap(0x0, 0x1, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGE_2MB)",
        ),
        (
            call("mmap", 0, 1, 1, 0x8C000022, -1),  # 35: no size has that number
            "mmap(0x0, 0x1, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|0x8c000000)",
        ),
        (call("mmap", 0, 1, 0x20, 0, 7), "mmap(0x0, 0x1, 0x20, 0, 7)"),
        (call("mremap", 1, 2, 3, 0), "mremap(0x1, 0x2, 0x3, 0)"),
        (call("mremap", 1, 2, 3, 0x11, 4), "mremap(0x1, 0x2, 0x3, MREMAP_MAYMOVE|0x10, 0x4)"),
        (call("madvise", 1, 2, 0), "madvise(0x1, 0x2, MADV_NORMAL)"),
        (call("madvise", 1, 2, 9999), "madvise(0x1, 0x2, 9999)"),
        (call("munmap", 0, 0), "munmap(0x0, 0x0)"),
    ],
)
def test_shown(shown: Call, line: str) -> None:
    assert format_call(shown) == line
    assert parse_call(line) == shown


def test_signatures_read_like_man_pages() -> None:
    assert signature("munmap") == "munmap(addr, len)"
    assert signature("mmap") == "mmap(addr, len, prot, flags[, fd[, offset]])"


@pytest.mark.parametrize(
    "case",
    [
        Case(comments=("two\nlines",)),
        Case(comments=("blank at the end ",)),
        Case(found=("",)),
        Case(found=(" x",)),
        Case((Call("munmap", (1, 1 << 64)),)),
        Case((Call("munmap", (1, -1)),)),
        Case((Call("munmap", (1,)),)),
        Case((Call("mmap", (1, 2, 3, 4, 1 << 31, 0)),)),
        Case((Call("munmap", (1, 2), "EINVAL"),)),
        Case((Call("munmap", (1, 2), -1),)),
        Case((Call("touch", (1, 2), Faults()),)),
        Case(geometry="pdp-11"),
    ],
)
def test_what_text_cannot_express_is_refused(case: Case) -> None:
    with pytest.raises(ValueError, match=r"."):
        dump(case)


# Errors: a line, and under it a caret at the column to blame and what the message says.

ERRORS = """\
# the call and its parentheses
mumap(1, 2)
^ unknown call 'mumap'; did you mean munmap?
  xyzzy(1)
  ^ unknown call 'xyzzy'; known: mmap, munmap
munmap 1, 2)
      ^ expected '(' after munmap
munmap
      ^ expected '(' after munmap
fork)
    ^ expected '(' after fork
munmap(1, 2
           ^ missing ')'
munmap(1, 2 = 0
           ^ missing ')'
touch(1, 2 = SEGV[0x0, 0x1000)
          ^ missing ')'
munmap(1, 2) x
             ^ unexpected 'x' after the call
munmap(1, 2)) = 0
            ^ unexpected ') = 0' after the call
)
^ expected a call, a header line

# commas and counts
munmap(1 2)
         ^ addr: missing ',' before '2'
munmap(1,, 2)
         ^ misplaced ','
munmap(, 2)
       ^ misplaced ','
munmap(1, 2, )
             ^ misplaced ','
munmap(1; 2)
        ^ addr: expected ',' or ')', found ';'
mprotect(1, 2, PROT_READ 3)
                         ^ missing ',' before '3'
munmap()
       ^ too few operands: munmap(addr, len)
munmap( 1 )
          ^ too few operands: munmap(addr, len)
munmap(1, 2,  3)
              ^ too many operands: munmap(addr, len)
mremap(1, 2, 3)
              ^ flags[, new_address])

# numbers
munmap(x, 2)
       ^ addr: expected a number, found 'x'
munmap(1, 0x12g)
          ^ len: '0x12g' is not a number
munmap(1, 0x)
          ^ len: '0x' is not a number
munmap(1, 010)
          ^ a decimal number has no leading zero
munmap(1, 1_000)
          ^ len: '1_000' is not a number
munmap(0x10000000000000000, 2)
       ^ addr: 0x10000000000000000 is out of range
munmap(18446744073709551616, 2)
       ^ out of range
munmap(1, -0x8000000000000001)
          ^ out of range
mmap(1, 2, 3, 4, 2147483648)
                 ^ fd: 2147483648 is out of range
mprotect(1, 2, -1)
               ^ prot: -1 is out of range

# flags
mprotect(1, 2, PROT_RAED)
               ^ did you mean PROT_READ?
mprotect(1, 2, PROT_READ|XY)
                         ^ unknown protection 'XY'; valid: PROT_NONE, PROT_READ, PROT_WRITE
mprotect(1, 2, PROT_READ || 1)
                          ^ misplaced '|'
mprotect(1, 2, PROT_READ|)
                         ^ misplaced '|'
mremap(1, 2, 3, MAP_FIXED)
                ^ unknown remap flags 'MAP_FIXED'; did you mean MREMAP_FIXED?
madvise(1, 2, MADV_DONTNED)
              ^ did you mean MADV_DONTNEED?
madvise(1, 2, MADV_FREE|1)
                       ^ an advice is one value

# results
munmap(1, 2) =
             ^ '=' without a value
munmap(1, 2) = # none
             ^ '=' without a value
munmap(1, 2) = EINVAL
               ^ 'EINVAL' is not a result
munmap(1, 2) = -1
               ^ '-1' is not a result
munmap(1, 2) = 0x1 y
                   ^ unexpected 'y' after the result
munmap(1, 2) = -EINVAL  y
                        ^ unexpected 'y' after the result
munmap(1, 2) = 0x1ffffffffffffffff
               ^ out of range
munmap(1, 2) = 0x1z
               ^ '0x1z' is not a number
munmap(1, 2) = SEGV[0x0, 0x1000)
               ^ only touch and peek report faults
touch(1, 2) = SEGV
              ^ expected SEGV[START, END)
touch(1, 2) = SEGV[0x0, 0x1000]
              ^ expected SEGV[START, END)
touch(1, 2) = SEGV[0x10, 0x1000)
                   ^ 0x10 is not a multiple of the page size
touch(1, 2) = SEGV[0x0, 0x10)
                        ^ 0x10 is not a multiple of the page size
touch(1, 2) = SEGV[0x0, x)
                        ^ expected a number, found 'x'
touch(1, 2) = SEGV[0x1000, 0x1000)
                   ^ the range is empty
touch(1, 2) = BUS[0x0, 0x1000) SEGV[0x1000, 0x2000)
                               ^ SEGV ranges come before BUS ranges
touch(1, 2) = SEGV[0x1000, 0x2000) SEGV[0x2000, 0x3000)
                                        ^ with a gap between them
touch(1, 2) = SEGV[0x0, 0x1000)BUS[0x1000, 0x2000)
                               ^ expected a blank, found 'B'

# headers
@kernal linux-6.1
^ did you mean @kernel?
 @
 ^ unknown header '@'; known: @kernel
@kernel
^ @kernel without a value
@found
^ @found without a value
@kernel linux-9
        ^ unknown kernel 'linux-9'; known: linux-5.0 to linux-7.3
@geometry vax
          ^ unknown geometry 'vax'; known: x86-64
@kernel linux-6.1 again
                  ^ unexpected 'again' after @kernel
@hypothetical yes
              ^ unexpected 'yes' after @hypothetical
@expect linux-9 ok
        ^ unknown kernel 'linux-9'
@expect Not_A_Rule
        ^ expected ok or the name of a rule
@expect linux-6.1 ok x
                     ^ unexpected 'x' after @expect
# directives
@fail
^ something is missing: @fail KIND NTH
@fail pagetables 1
      ^ unknown kind of failure 'pagetables'; known: pagetable, vma, commit, maps, hook
@fail vma 0
          ^ 0 is out of range: 0x1 to 0x100000
@fail vma 1 2
            ^ unexpected '2': @fail KIND NTH
@fail vma 1 = 0
            ^ unexpected '=': @fail KIND NTH
@fails vma 1
^ unknown header '@fails'; did you mean @fail?
@limit as
^ something is missing: @limit NAME VALUE
@limit as -1
          ^ -1 is out of range
@limit stack 1
       ^ unknown limit 'stack'; known: map_count, as, memlock, commit
# calls without operands, and with numbers that have bounds
fork(1)
     ^ too many operands: fork()
touch_on(4, 0x1000)
         ^ cpu: 4 is out of range: 0x0 to 0x3
uffd_wp(0x1000, 0x1000, 2)
                        ^ on: 2 is out of range: 0x0 to 0x1
"""


def errors() -> list[tuple[str, str, str]]:
    """The line, the caret under it and the text beside the caret, for each of ERRORS."""
    lines = [line for line in ERRORS.split("\n") if line and not line.startswith("# ")]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(line, below.split("^")[0] + "^", below.split("^ ")[1]) for line, below in pairs]


@pytest.mark.parametrize(
    ("line", "caret", "why"),
    [
        *errors(),
        ("\u00a0munmap(1, 2)", "^", "expected a call, a header line"),
        (f"munmap({'9' * 5000}, 2)", "       ^", "out of range"),
        ("munmap(1, 2\r)", "           ^", "expected ',' or ')', found '\\r'"),
    ],
)
def test_error_points_at(line: str, caret: str, why: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse(f"# one\n{line}\n# three\n", "a.case")
    error = caught.value
    assert why in error.why
    assert (error.file, error.line, error.column) == ("a.case", 2, len(caret))
    shown = line.rstrip(" ")
    assert error.source == shown
    assert str(error) == f"a.case:2:{len(caret)}: {error.why}\n  {shown}\n  {caret}"


@pytest.mark.parametrize(
    ("text", "line", "column", "why"),
    [
        ("@kernel linux-6.1\n @kernel linux-6.1", 2, 2, "duplicate @kernel"),
        ("@geometry tiny\n@geometry tiny", 2, 1, "duplicate @geometry"),
        ("@hypothetical\n@hypothetical", 2, 1, "duplicate @hypothetical"),
        ("@expect ok\n@expect dest-entry-none", 2, 1, "duplicate @expect"),
        ("@expect linux-6.1 ok\n@expect linux-6.1 ok", 2, 1, "duplicate @expect linux-6.1"),
        ("munmap(1, 2)\n\n  @found it", 3, 3, "header lines come before the first call"),
        ("@fail vma 1\n@limit as 1", 2, 1, "header lines come before the first call"),
        ("@limit as 1\n@limit as 2", 2, 1, "duplicate @limit as"),
        ("munmap(1, 2)\n" * MAX_CALLS + "\n munmap(1, 2)", MAX_CALLS + 2, 2, "more than 256 calls"),
        ("#" * (MAX_CASE_BYTES + 1), 0, 0, "longer than 65536 bytes"),
        ("#" + "\u20ac" * (MAX_CASE_BYTES // 2), 0, 0, "longer than 65536 bytes"),
    ],
)
def test_error_of_a_whole_text(text: str, line: int, column: int, why: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column, caught.value.why) == (line, column, why)


def test_limits_themselves_are_allowed() -> None:
    assert len(parse("munmap(1, 2)\n" * MAX_CALLS).calls) == MAX_CALLS
    assert parse("#" * MAX_CASE_BYTES).calls == ()


# Files


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "stack.case"
    path.write_text(STACK_CASE)
    assert load(path) == load(str(path)) == parse(STACK_CASE)


def test_load_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.case"

    def error() -> tuple[str, int, int]:
        with pytest.raises(CaseError) as caught:
            load(path)
        assert caught.value.file == str(path)
        assert str(caught.value).startswith(str(path))
        return caught.value.why, caught.value.line, caught.value.column

    assert error() == ("cannot be read: No such file or directory", 0, 0)
    path.write_bytes(b"# fine\n# \xe2\x82\xac then \xff\n")
    assert error() == ("not UTF-8", 2, 10)
    path.write_bytes(b"#" * (MAX_CASE_BYTES + 1))
    assert error() == ("longer than 65536 bytes", 0, 0)
    path.write_text("munmap(1)\n")
    assert error() == ("too few operands: munmap(addr, len)", 1, 9)
    path.unlink()
    path.mkdir()
    assert error() == ("cannot be read: Is a directory", 0, 0)


# Properties

WORDS = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**40).map(lambda n: n << 12))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20).map(
    lambda text: text.rstrip(" \t\r")
)


def operand(kind: Operand) -> st.SearchStrategy[int]:
    """Any value an operand of that kind can have; named ones often."""
    low, high = kind.low, kind.high
    if (low, high) != (0, 2**64 - 1):
        return st.one_of(st.just(max(low, -1)), st.integers(low, high))
    if isinstance(kind, Choice) and kind.others:
        return st.one_of(st.sampled_from(sorted(kind.names.values())), WORDS)
    if isinstance(kind, Symbols):
        flags = st.lists(st.sampled_from(sorted(kind.names.values()))).map(
            lambda bits: sum(set(bits))
        )
        return st.one_of(flags, WORDS)
    return st.one_of(st.just(0), WORDS)


@st.composite
def runs(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    """Runs of pages that ascend and do not touch."""
    ends = sorted(draw(st.sets(st.integers(0, 2**36), max_size=6)))
    pairs = zip(ends[::2], ends[1::2], strict=False)
    return tuple((first, end - first) for first, end in pairs)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Any call with any operands and maybe a result."""
    name = draw(st.sampled_from(sorted(CALLS)))
    results = [
        st.none(),
        WORDS,
        st.from_regex(r"\A-E[A-Z0-9]+\Z"),
        st.sampled_from(("SKIP", "OUT")),
    ]
    if name in ("touch", "peek"):
        results.append(st.builds(Faults, runs(), runs()).filter(any))
    args = tuple(draw(operand(param.kind)) for param in CALLS[name].params)
    one, some = st.one_of(results), st.one_of(results[1:])
    named = st.tuples(st.sampled_from(sorted(KERNELS)), some)
    by_kernel = st.lists(named, min_size=1, max_size=2, unique_by=lambda pair: pair[0]).map(tuple)
    asserted = st.one_of(one, st.builds(ByKernel, one, by_kernel))
    return Call(name, args, None if name in DIRECTIVES else draw(asserted))


PAGE_NUMBERS = st.integers(0, 2**30)


@st.composite
def assertions(draw: st.DrawFn, after: int) -> Assertion:
    """One behind so many calls, on pages of 4 KiB, 16 KiB and 64 KiB alike."""
    kind = draw(st.sampled_from(KINDS))
    start = draw(PAGE_NUMBERS) << 16
    end = start if kind == PAGE else start + (draw(PAGE_NUMBERS) + 1 << 16)
    known = {VMA: FLAG_WORDS, UNMAPPED: (), PAGE: PAGE_WORDS}[kind]
    words = [draw(st.sampled_from(("", "-"))) + word for word in known if draw(st.booleans())]
    if kind == VMA:
        words.insert(0, draw(st.sampled_from(("rw-p", "---s", "r-xp"))))
    elif kind == PAGE:
        words.insert(0, str(draw(PAGE_NUMBERS)))
    kernel = draw(st.one_of(st.none(), st.sampled_from(sorted(KERNELS))))
    return Assertion(after, kind, kernel, start, end, tuple(words))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One with a few assertions behind calls that are no limits."""
    case = draw(CASES)
    limits = sum(call.name == "@limit" for call in case.calls)
    behind = range(limits + 1, len(case.calls) + 1)
    held = [draw(assertions(after)) for after in behind for _ in range(draw(st.integers(0, 2)))]
    return replace(case, assertions=tuple(held))


CASES = st.builds(
    Case,
    st.lists(calls(), max_size=6).map(limits_first),
    st.one_of(st.none(), st.sampled_from(sorted(KERNELS))),
    st.one_of(st.none(), st.sampled_from(sorted(GEOMETRIES))),
    st.lists(
        st.builds(
            Expectation,
            st.one_of(st.none(), st.sampled_from(sorted(KERNELS))),
            st.from_regex(r"\A[a-z0-9-]+\Z"),
        ),
        max_size=3,
        unique_by=lambda expect: expect.kernel,
    ).map(tuple),
    st.lists(TEXTS.map(lambda text: text.strip(" \t\r")).filter(bool), max_size=2).map(tuple),
    st.booleans(),
    st.lists(TEXTS, max_size=2).map(tuple),
)


@pytest.mark.slow
@settings(deadline=None)
@given(cases())
def test_parse_is_the_inverse_of_dump(case: Case) -> None:
    text = dump(case)
    assert parse(text) == case
    assert dump(parse(text)) == text


@settings(deadline=None)
@given(calls())
def test_lines_and_results_alone(each: Call) -> None:
    page_bytes = page_bytes_of(None, None)
    line = format_call(each, page_bytes)
    assert parse_call(line, page_bytes) == each
    if each.result is not None:
        assert line.endswith(f" = {format_result(each.result, page_bytes)}")


@settings(deadline=None)
@given(st.text(st.sampled_from("munapto(0x1,2)=SEGV[]|# @\t-\r\nPROT_READ"), max_size=60))
def test_any_text_is_a_case_or_a_case_error_inside_it(text: str) -> None:
    try:
        case = parse(text)
    except CaseError as error:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    else:
        assert parse(dump(case)) == case


@settings(deadline=None)
@given(cases().filter(lambda case: bool(case.calls)), st.data())
def test_damaged_text_is_a_case_or_a_case_error(case: Case, data: st.DataObject) -> None:
    text = dump(case)
    at = data.draw(st.integers(0, len(text) - 1))
    damage = data.draw(st.sampled_from(("", ",", "(", ")", " ", "=", "|", "x", "0", "#", "\n")))
    damaged = text[:at] + damage + text[at + 1 :]
    try:
        again = parse(damaged)
    except CaseError as error:
        assert 1 <= error.line <= damaged.count("\n") + 1
    else:
        assert parse(dump(again)) == again


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("mmap(0x0, 0x1000, PROT_READ, MAP_SHARED, B, 4096)", "B, 0x1000)"),
        ("mmap(0x0, 0x1000, PROT_READ, MAP_SHARED, 201, 4096)", "B, 0x1000)"),
        ("mmap(0x0, 0x1000, PROT_READ, MAP_SHARED, 3, 4096)", "3, 0x1000)"),
        ("file(C, 0x1000)", "file(C, 0x1000)"),
        ("fallocate(A, 3, 0, 0x1000)", "FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x0, 0x1000)"),
    ],
)
def test_files_have_letters(line: str, written: str) -> None:
    assert format_call(parse_call(line)).endswith(written)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("file(Z, 0x1000)", "unknown file 'Z'; known: A, B, C, D, E, F, G, H"),
        ("file(200, 0x1000)", "unknown file '200'"),
        ("mmap(0x0, 0x1000, PROT_READ, MAP_SHARED, Z)", "fd: expected a number, found 'Z'"),
        ("fallocate(A, PUNCH, 0x0, 0x1000)", "unknown fallocate mode 'PUNCH'"),
    ],
)
def test_what_is_no_file_is_told(line: str, why: str) -> None:
    with pytest.raises(CaseError) as refused:
        parse_call(line)
    assert why in str(refused.value)


def test_a_call_may_be_folded_behind_commas_and_bars() -> None:
    folded = parse(
        "  mmap(0x10000, 0x1000,\n"
        "      PROT_READ|\t\r\n"
        "      PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0x10000  # mapped,\n"
        "munmap(0x10000, 0x1000) = 0\n"
    )
    flat = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0x10000"
    assert folded == parse(f"mmap(0x10000, 0x1000, {flat}\nmunmap(0x10000, 0x1000) = 0\n")


def test_what_others_do_at_a_point_may_be_folded_too() -> None:
    done = "@at iteration 2: fallocate(A, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x0, 0x1000)"
    file = "file(A, 0x400000) = 0\n"
    assert parse(file + done.replace("|", "|\n    ").replace("x0, ", "x0,\n  ")) == parse(
        file + done
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("munmap(0,\n", 1),  # nothing follows
        ("munmap(0x1000, 0x1000) # so,\nmunmap(0,\n0x1000) x\nmunmap(0, 1)\n", 2),
        ("\nmunmap(0x1000,\n# no,\n0x1000)\n", 2),
        ("@at iteration 2: ftruncate(A,\n", 1),
        ("@at" + " at" * 20_000, 1),
        ("munmap(" + "0,\n" * 20_000, 1),  # as fast as it is long
    ],
)
def test_what_is_wrong_in_a_folded_call_is_told_at_its_beginning(text: str, line: int) -> None:
    with pytest.raises(CaseError) as error:
        parse(text)
    assert error.value.line == line
