"""The text form: what is read, and what is written."""

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
from fuzz.forms.text import dump, format_call, load, page_bytes_of, parse, parse_call, signature
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


@pytest.mark.slow
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
