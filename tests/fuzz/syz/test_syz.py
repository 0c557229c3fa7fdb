"""Programs of syzkaller: written, read, and what is told of what they cannot say."""

import re

import pytest

from engine.base.kernel import kernel_named
from fuzz.case import Case, CaseError
from fuzz.forms.text import format_call, parse
from fuzz.strace.steps import PAGE
from fuzz.syz.area import AT, MAPPED, SIZE
from fuzz.syz.read import Reader, split
from fuzz.syz.write import DoesNotFit, as_syz

KERNEL = kernel_named("linux-6.18")
REPRODUCER = """\
# https://example.org/bug?id=1
# {Threaded:true Repeat:true Procs:8 Sandbox:none}

r0 = userfaultfd(0x80801)
ioctl$UFFDIO_API(r0, 0xc018aa3f, &(0x7f0000000040)={0xaa, 0x20})
mmap(&(0x7f0000000000/0xb36000)=nil, 0xb36000, 0x3, 0x8831, 0xffffffffffffffff, 0x0) (async)
mmap(&(0x7f0000ffd000/0x3000)=nil, 0x3000, 0x0, 0x12, r0, 0x0)  # of a file
write$6lowpan_enable(r0, &(0x7f0000000000)='0, )\\x00', 0xc86ade39) (fail_nth: 5)
madvise(&(0x7f0000000000/0x600000)=nil, 0x600003, 0x4) (async, rerun: 32)
mremap(&(0x7f00007a0000/0x3000)=nil, 0x3000, 0x2000, 0x7, &(0x7f0000835000/0x2000)=nil) (rerun: 32)
mremap(&(0x7f0000100000-0x1000/0x1000)=nil, 0x1000, 0x2000, 0x1, 0x0)
"""


def read(text: str) -> tuple[Reader, list[Case]]:
    """The cases of a file."""
    reader = Reader("x.syz", KERNEL)
    return reader, list(reader.cases(text.splitlines()))


def calls_of(case: Case) -> list[str]:
    """The calls of a case, what is mapped before apart."""
    assert case.calls[: len(MAPPED)] == MAPPED
    return [format_call(call) for call in case.calls[len(MAPPED) :]]


def test_a_reproducer() -> None:
    reader, (case,) = read(REPRODUCER)
    assert calls_of(case) == [
        "mmap(0x20000000, 0xb36000, PROT_READ|PROT_WRITE,"
        " MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED|MAP_DENYWRITE|MAP_POPULATE)",
        "mmap(0x20ffd000, 0x3000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)",
        "madvise(0x20000000, 0x600003, MADV_DONTNEED)",
        "mremap(0x207a0000, 0x3000, 0x2000,"
        " MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x20835000)",
        "mremap(0x200ff000, 0x1000, 0x2000, MREMAP_MAYMOVE)",
    ]
    left_out = {kind: number for kind, (number, _) in reader.imported.left_out.items()}
    assert left_out == {
        "userfaultfd, about something else": 1,
        "ioctl, about something else": 1,
        "write, about something else": 1,
    }
    changed = {kind: number for kind, (number, _) in reader.imported.changed.items()}
    assert changed == {
        "async: calls are made in turn, and once": 2,
        "fail_nth: calls are made in turn, and once": 1,
        "rerun: calls are made in turn, and once": 2,
        "mmap of a file, as memory without one": 1,
    }


def test_a_log_of_many_programs() -> None:
    log = """\
2026/11/28 12:00:00 executing program 3:
munmap(&(0x7f0000001000/0x1000)=nil, 0x1000)
2026/11/28 12:00:01 executing program 0:
getpid()
12:00:02 executing program 1 (fault-call:0 fault-nth:5):
munmap(&(0x7f0000002000/0x1000)=nil, 0x1000)
"""
    reader, cases = read(log)
    assert [calls_of(case) for case in cases] == [
        ["munmap(0x20001000, 0x1000)"],
        ["munmap(0x20002000, 0x1000)"],
    ]
    assert reader.imported.programs == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "x.syz: there is no program in it"),
        ("hello\n", "x.syz:1:1: expected a call of syzkaller's"),
        ("munmap(&(0x7f0000001000/0x1000)=nil, 0x1000\n", "x.syz:1:43: a call without its end"),
        ("munmap(&(0x7f0000001000/0x1000)=nil, {0x1})\n", "x.syz:1:38: expected a number or an"),
    ],
)
def test_what_is_no_program_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(CaseError, match=re.escape(why)):
        read(text)


def test_operands_are_split_where_they_end() -> None:
    text = "f(&(0x1)={0x1, [0x2, 0x3]}, '), (', <r1=>0x0, @x={\"00\", 0x1}, 0x4) (async)"
    assert split(text, 2) == [
        (2, "&(0x1)={0x1, [0x2, 0x3]}"),
        (28, "'), ('"),
        (36, "<r1=>0x0"),
        (46, '@x={"00", 0x1}'),
        (62, "0x4"),
    ]
    assert split("f(0x1", 2) is None and split("f('0x1)", 2) is None


SHRINKS = """\
mmap(0x40200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x40200010, 0x1000)
fork()
mremap(0x40200000, 0x4000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x80400000)
mlock2(0x80400000, 0x1000, 0x1)
mseal(0x80400000, 0x1000)
"""


def test_a_case_is_written_and_comes_back() -> None:
    written = as_syz(parse(SHRINKS), KERNEL)
    assert (
        written.text
        == """\
# addresses were moved together: 0x40200000 to 0x0, 0x80400000 to 0x400000
# on linux-6.18 it shows committed
# not in it: 1 fork, which syzkaller has no call for
munmap(&(0x7f0000000000/0x1000000)=nil, 0x1000000)
mmap(&(0x7f0000000000/0x4000)=nil, 0x4000, 0x3, 0x32, 0xffffffffffffffff, 0x0)
madvise(&(0x7f0000000000/0x2000)=nil, 0x2000, 0x17)
mremap(&(0x7f0000000000/0x4000)=nil, 0x4000, 0x2000, 0x3, &(0x7f0000400000/0x2000)=nil)
mlock2(&(0x7f0000400000/0x1000)=nil, 0x1000, 0x1)
mseal(&(0x7f0000400000/0x1000)=nil, 0x1000, 0x0)
"""
    )
    _, (case,) = read(written.text)
    assert case.calls == written.case.calls
    assert all(AT <= call.args[0] < AT + SIZE - PAGE for call in case.calls)


def test_a_case_that_does_not_fit() -> None:
    case = parse(SHRINKS.replace("0x4000,", "0x2000000,"))
    with pytest.raises(DoesNotFit, match=r"it needs 18 slots of 2 MiB, .* has 8"):
        as_syz(case, KERNEL)


def test_what_the_area_has_no_address_for_is_told() -> None:
    case = parse(SHRINKS + "munmap(0x40200001, 0x1000)\n")
    written = as_syz(case, KERNEL)
    why = "a call about an address that is nowhere in its area, or within a page"
    assert written.lost[why] == 1 and f"# not in it: 1 {why}\n" in written.text
