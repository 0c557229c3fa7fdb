"""What exported programs tell of their calls is believed where the log shows it."""

import re
from collections.abc import Iterator

import pytest

from engine.base.kernel import kernel_named
from fuzz.case import CaseError
from fuzz.forms.assertions import format_assertion
from fuzz.forms.text import format_call
from fuzz.strace.exported import BESIDE, NOT_HERE, OWN, UNSEEN, UNTOLD
from fuzz.strace.lines import Log, Returned, Unreadable
from fuzz.strace.processes import Reader
from fuzz.strace.program import Program
from fuzz.strace.written import Lines, written

KERNEL = kernel_named("linux-6.18")
HELLO = "pmdfuzz x86-64: AT(0) is 0x10000000000"
READ_WRITE = "PROT_READ | PROT_WRITE"
ANONYMOUS = "MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED"
MAPS = f"sys_mmap(AT(0x200000), 0x2000, {READ_WRITE}, {ANONYMOUS}, -1, 0) = AT(0x200000)"
MAP = (
    "mmap(0x10000200000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0)"
    " = 0x10000200000"
)
MAPPED = (
    "mmap(0x200000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0x200000"
)


def wrote(line: str, size: int = 32) -> list[str]:
    """The lines of a log about a line that a program has written, in pieces."""
    text = f"{line}\n"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    shown = ((piece.replace("\n", "\\n"), len(piece)) for piece in pieces)
    return [f'write(1, "{piece}", {length}) = {length}' for piece, length in shown]


def read(*lines: str | list[str]) -> tuple[Reader, list[Program]]:
    """What a log comes to; lists are of several lines."""
    reader = Reader("log", "log", KERNEL, touching=True)
    flat = [one for each in lines for one in ([each] if isinstance(each, str) else each)]
    return reader, list(reader.programs(flat))


def calls_of(*lines: str | list[str]) -> list[str]:
    """The calls of the one program in a log."""
    _, (program,) = read(*lines)
    return [format_call(call) for call in program.case.calls]


def left_out(reader: Reader) -> dict[str, int]:
    left = reader.imported.left_out
    return {kind: number for kind, (number, _) in left.items() if kind != BESIDE}


@pytest.mark.parametrize("size", [1, 32, 4096])
@pytest.mark.parametrize("mark", ["", "# "], ids=["plain", "TAP"])
def test_calls_come_back_with_what_no_system_call_shows(size: int, mark: str) -> None:
    told = (
        HELLO,
        "@limit map_count 9",
        MAPS,
        "touch(AT(0x200000), 0x2000) = 0",
        "peek(AT(0x201000), 0x2000) = SEGV[0x202000, 0x203000): as it should be",
        "not run: touch(0x8000000000, 0x1000)",
        "fork_child() = 0",
        "content(AT(0x200000)) = 1, expected 2",
    )
    lines = [wrote(mark + line, size) for line in told]
    lines.insert(2, [MAP])
    assert calls_of(*lines) == [
        "@limit map_count 9",
        MAPPED,
        "touch(0x200000, 0x2000) = 0",
        "peek(0x201000, 0x2000) = SEGV[0x202000, 0x203000)",
        "touch(0x8000000000, 0x1000) = SKIP",
        "fork() = 0",
    ]


def on_a_terminal(line: str, pid: str = "") -> list[str]:
    """The same as `wrote` where what the program writes comes in between."""
    log: list[str] = []
    for write in wrote(line):
        shown, length = write.rsplit(") = ", 1)
        text = shown.split('"')[1].replace("\\n", "\n")
        log += f"{pid}{shown}{text}) = {length}".split("\n")
    return log


@pytest.mark.parametrize("result", ["AT(0x200000)", "0", "5", "-22 (Invalid argument)"])
@pytest.mark.parametrize("where", [0x200000, 0x2000000, 0x20000000])
def test_what_a_program_writes_may_look_like_a_result(where: int, result: str) -> None:
    """Where the second piece begins with `)`, with a digit before it, or with neither."""
    told = f"sys_munmap(AT({where:#x}), 0x1000) = {result}"
    assert [*written_lines(on_a_terminal(told))] == [told]


def written_lines(log: list[str]) -> Iterator[str]:
    """What the writes of a log have written."""
    lines = Lines()
    for event in Log(frozenset({"write"})).events(log):
        if isinstance(event, Returned):
            write = written(event.operands, event.result)
        else:
            assert isinstance(event, Unreadable)
            write = written(event.at.text[event.at.column - 1 :] + "\n", "")
        assert write is not None
        yield from lines.add(write.text)


def test_the_log_on_a_terminal() -> None:
    """Where lines have a number while there are several processes."""
    pid = "[pid     7] "
    log = [
        on_a_terminal(HELLO),
        ["clone(child_stack=NULL, flags=SIGCHLDstrace: Process 8 attached", ") = 8"],
        [f"{pid}{MAP}", *on_a_terminal(MAPS, pid)],
        on_a_terminal("peek(AT(0x200000), 0x1000) = 0", pid),
        ["[pid     8] +++ killed by SIGKILL +++", "munmap(0x10000000000, 4096) = 0"],
        on_a_terminal("sys_munmap(AT(0x0), 0x1000) = 0"),
        on_a_terminal("uffd_wp(AT(0x200000), 0x1000, 1) = -2 (No such file or directory)"),
    ]
    assert calls_of(*log) == [
        MAPPED,
        "peek(0x200000, 0x1000) = 0",
        "munmap(0x0, 0x1000) = 0",
        "uffd_wp(0x200000, 0x1000, 1) = -ENOENT",
    ]


def test_the_rest_of_a_write_behind_what_it_has_written() -> None:
    """Where another process has the word in between."""
    hello = wrote(HELLO)
    hello[0] = hello[0].replace(") = 32", " <unfinished ...>")
    text = hello[0].split('"')[1]
    rest = ["[pid 8] getpid() = 8", f"{text}[pid 7] <... write resumed>) = 32"]
    log = [f"[pid 7] {hello[0]}", *rest, f"[pid 7] {hello[1]}", f"[pid 7] {MAP}"]
    assert calls_of(log, [f"[pid 7] {one}" for one in wrote(MAPS)]) == [MAPPED]


def test_a_log_of_one_process_alone() -> None:
    """Of `strace -ff`: its child has a log of its own, and nobody a number."""
    fork = "clone(child_stack=NULL, flags=SIGCHLD) = 8"
    assert calls_of(wrote(HELLO), fork, MAP, wrote(MAPS)) == [MAPPED]


@pytest.mark.parametrize(
    "write",
    [
        'write(1, "{0}\\n", 40) = 40',
        'write(1</dev/pts/0>, "{0}\\n", 40) = 40 <0.000010>',
        'write(fd=1<pipe:[12]>, buf="{0}\\n", count=40) = 40',
        'write(1, "{0}\\n", 40{0}',  # on a terminal it comes in between
        'write(1, "{0}\\nand more", 48) = 39',
        'write(1, "\\160\\x6ddfuzz{1}\\12", 40) = 40',
    ],
)
def test_forms_of_a_write(write: str) -> None:
    hello = write.format(HELLO, HELLO.removeprefix("pmdfuzz"))
    assert calls_of(hello, MAP, wrote(MAPS)) == [MAPPED]


def test_what_comes_before_is_set_up() -> None:
    other = MAP.replace("0x100002", "0x100004")
    assert calls_of(wrote(HELLO), other, wrote("fork_child() = 0")) == ["fork() = 0"]
    before = [
        "brk(NULL) = 0x5000",
        "brk(0x7000) = 0x7000",
        "mprotect(0x400000, 4096, PROT_READ) = 0",
    ]
    reader, _ = read(before, wrote(HELLO), other, other, MAP, wrote(MAPS))
    assert reader.imported.calls.total() == 1
    assert not reader.imported.changed and not reader.imported.assumed
    assert left_out(reader) == {OWN: 2}


def test_what_the_log_does_not_show_is_not_believed() -> None:
    other = MAPS.replace("0x200000", "0x400000")
    reader, (program,) = read(wrote(HELLO), MAP, wrote(MAPS), wrote(other))
    assert len(program.case.calls) == 1
    assert left_out(reader) == {UNSEEN: 1}
    refused = MAPS.replace("= AT(0x200000)", "= -12 (Cannot allocate memory)")
    reader, programs = read(wrote(HELLO), MAP, wrote(refused), wrote("touch(AT(0x0), 0x1) = 0"))
    assert not programs
    assert left_out(reader) == {OWN: 1, UNSEEN: 2}


def test_others_who_write_the_same_make_no_calls() -> None:
    """As `tee` does behind a pipe, or `cat`."""
    told = [*wrote(HELLO), *wrote(MAPS), *wrote("touch(AT(0x200000), 0x1000) = 0")]
    reader, programs = read(told)
    assert not programs
    assert left_out(reader) == {UNSEEN: 2}
    assert not reader.imported.calls.total()


def test_a_shortage_comes_back_with_the_call_that_it_befell() -> None:
    touch = "touch(AT(0x200000), 0x1000) = 0"
    moves = "0x1000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, AT(0x40000000)) = -12 (Cannot allocate)"
    move = (
        "mremap(0x10000200000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, 0x10040000000)"
        " = -1 ENOMEM (Cannot allocate memory)"
    )
    short = [*wrote("@fail pagetable 1"), "madvise(0x20000000000, 4096, MADV_DODUMP) = 0", move]
    told = wrote(f"sys_mremap_with_tables(0, AT(0x200000), {moves}")
    assert calls_of(wrote(HELLO), MAP, wrote(MAPS), wrote(touch), short, told)[2:] == [
        "@fail pagetable 1",
        "mremap(0x200000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000000) = -ENOMEM",
    ]


def test_lines_without_an_introduction_are_nobodys() -> None:
    _, (program,) = read(MAP, wrote(MAPS), wrote("touch(AT(0x200000), 0x1000) = 0"))
    assert [call.result for call in program.case.calls if call.name == "touch"] == [None]


def test_children_have_told_nothing() -> None:
    lines = ["1 clone(child_stack=NULL, flags=SIGCHLD) = 2", f"2 {MAP}", "2 +++ exited with 0 +++"]
    hello, maps = ([f"1 {one}" for one in wrote(line)] for line in (HELLO, MAPS))
    assert calls_of(hello, lines, f"1 {MAP}", maps) == [MAPPED]


def test_a_log_that_is_cut_off() -> None:
    last = "munmap(0x10000200000, 4096) = 0"
    reader, (program,) = read(wrote(HELLO), MAP, wrote(MAPS), last)
    assert format_call(program.case.calls[-1]) == "munmap(0x200000, 0x1000) = 0"
    assert reader.imported.assumed == {UNTOLD: (1, f"log:{program.lines[1]}: {last}")}


def test_what_comes_about_on_no_model_is_no_result() -> None:
    line = "touch(AT(0x200000), 0x1000) = SEGV[0x200000, 0x201000)"
    reader, (program,) = read(wrote(HELLO), MAP, wrote(MAPS), wrote(line))
    assert format_call(program.case.calls[-1]) == "touch(0x200000, 0x1000)"
    assert left_out(reader) == {"a result that does not come about on linux-6.18": 1}


def test_a_program_that_cannot_run_says_why() -> None:
    reader, programs = read(wrote(HELLO), wrote("skipped: swap must be in use: swapon"))
    assert not programs
    assert "swap must be in use" in reader.imported.left_out[NOT_HERE][1]


def test_what_it_finds_behind_its_calls_is_asserted() -> None:
    told = [
        "touch(AT(0x200000), 0x1000) = 0",
        "page(AT(0x200000)) = present -huge",
        "content(AT(0x200000)) = 1: as it should be",
        "page(AT(0x201000)) = none, expected present",
        "content(AT(0x205000)) = -5 (Input/output error)",
        "mapped(AT(0x200000), AT(0x202000)) = 0x200000-0x202000 rw-p",
        "vma_flags(AT(0x200000)) = -lo",
        "mapped(AT(0x300000), AT(0x301000)) = nothing",
        "page(AT(0x200000)) = swapped",
        "what is there now:",
        "page(AT(0x200000)) = present",
    ]
    reader, (program,) = read(wrote(HELLO), MAP, wrote(MAPS), *map(wrote, told))
    assert [format_assertion(one) for one in program.case.assertions] == [
        "@page 0x200000 1 present -huge",
        "@page 0x201000 none",
        "@vma 0x200000-0x202000 rw-p -lo",
        "@unmapped 0x300000-0x301000",
    ]
    assert {one.after for one in program.case.assertions} == {2}
    assert left_out(reader) == {"what a program has found, and is otherwise on linux-6.18": 1}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("page(AT(0x200000)) = odd", "no exported program finds that: unknown word 'odd'"),
        ("uffd_wp(AT(0x0), 0x1000, 0x1ffffffff) = 0", "log:5:1: no exported program writes that:"),
        ("touch(AT(x), 0x1000) = 0", "log:4:1: no exported program writes that: expected a number"),
        ("touch(AT(0x0)) = 0", "1 operands where touch has 2"),
        ("@limit nothing 5", "unknown limit 'nothing'"),
        ("sys_munmap(5, 0x1000) = 0", "expected an address, found '5'"),
    ],
)
def test_what_no_exported_program_writes_is_refused_with_its_place(line: str, why: str) -> None:
    with pytest.raises(CaseError, match=re.escape(why)):
        read(wrote(HELLO), wrote("peek(AT(0x0), 0x0) = 0"), wrote(line))


def test_a_machine_that_nobody_knows() -> None:
    with pytest.raises(CaseError, match=re.escape("log:2:1: unknown geometry 'vax'")):
        read(wrote(HELLO.replace("x86-64", "vax"), 20))


def test_what_strace_has_cut_is_told() -> None:
    with pytest.raises(CaseError, match="log:1:1: an exported program's words are cut off"):
        read('write(1, "pmdfuzz x"..., 32) = 32', MAP)


def test_more_calls_than_a_case_may_have() -> None:
    peeks = [wrote("peek(AT(0x200000), 0x1000) = 0")] * 257
    with pytest.raises(CaseError, match="no exported program makes more than 256 calls"):
        read(wrote(HELLO), *peeks)
