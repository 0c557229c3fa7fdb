"""Logs of strace as cases: every version and form of it says the same of one program."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.case import Case, CaseError
from fuzz.forms.text import format_call
from fuzz.strace.processes import ACCESSES, UNNAMED, Reader
from fuzz.strace.program import Program
from fuzz.strace.rebase import ARENA, BLOCK, Rebase, room
from fuzz.subjects.beside import beside_model
from fuzz.subjects.subject import SubjectError
from tests.lib.constants import ROOT

LOGS = ROOT / "tests" / "fuzz" / "strace" / "logs"
KERNEL = kernel_named("linux-6.18")
WHOLE = ("file", "terminal", "numbers", "verbose", "names")


def imported(lines: Iterable[str], touching: bool = False) -> tuple[Reader, list[Program]]:
    """What the lines of a log come to."""
    reader = Reader("log", "log", KERNEL, touching)
    return reader, list(reader.programs(lines))


def calls_of(text: str) -> list[str]:
    """The calls that the programs of a log have, in order."""
    _, programs = imported(text.strip().splitlines())
    return [format_call(call) for program in programs for call in program.case.calls]


def told(reader: Reader) -> dict[str, int]:
    """What was left out, by kind."""
    return {kind: number for kind, (number, _) in reader.imported.left_out.items()}


# --- Recorded logs --------------------------------------------------------------------------------


def summary(path: Path) -> list[list[str]]:
    """The calls of each program of a log, but for what depends on who came first, or is not said.

    strace 6.1 leaves the hint of MREMAP_DONTUNMAP out, so that its place is named by MREMAP_FIXED;
    no version shows the last operand of MREMAP_FIXED alone, but in raw numbers.
    """
    with path.open(encoding="utf-8") as log:
        _, programs = imported(log)
    found = []
    for program in programs:
        calls = [format_call(call) for call in program.case.calls]
        calls = [re.sub(r"MREMAP_FIXED\|(?=MREMAP_DONT)", "", call) for call in calls]
        calls = [re.sub(r"(MREMAP_FIXED), 0x80000000\) = -E", r"\1) = -E", call) for call in calls]
        found.append(sorted(calls))
    return found


@pytest.mark.parametrize(
    "path",
    sorted(p for p in LOGS.glob("*.strace") if p.stem.split("-")[1] in WHOLE),
    ids=lambda path: path.stem,
)
def test_all_versions_and_forms_say_the_same(path: Path) -> None:
    assert summary(path) == summary(LOGS / "7.2-file.strace")
    with path.open(encoding="utf-8") as log:
        reader, programs = imported(log)
    assert [program.calls for program in programs] == [1, 6, 68]
    assert reader.imported.calls["mremap"] == 18 and reader.imported.calls["touch"] == 3
    assert sum(told(reader).values()) == 2, "mseal with flags, huge pages that were not there"


def test_stacks_are_passed_over() -> None:
    plain = (LOGS / "6.1-file.strace").read_text(encoding="utf-8").splitlines()
    stacks = (LOGS / "6.1-stacks.strace").read_text(encoding="utf-8").splitlines()
    calls = [line for line in stacks if not line.startswith(" > ")]
    assert len(calls) < len(stacks)
    assert imported(stacks)[1][0].case.calls == imported(plain[: len(calls)])[1][0].case.calls


def test_what_strace_injected_is_left_out() -> None:
    with (LOGS / "7.2-injected.strace").open(encoding="utf-8") as log:
        reader, _ = imported(log)
    assert told(reader)["a call that the kernel did not run, or that did not return"] == 5


# --- Lines ----------------------------------------------------------------------------------------

MAP = "mmap(0x10000000000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
MAPPED = "mmap(0x0, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0"


@pytest.mark.parametrize(
    "line",
    [
        f"{MAP} = 0x10000000000",
        f"{MAP}       = 0x10000000000 <0.000012>",
        f"12    {MAP} = 0x10000000000",
        f"[pid    12] {MAP} = 0x10000000000",
        f"[pid    12<a thread>] {MAP} = 0x10000000000",
        f"12<name> {MAP} = 0x10000000000",
        f"     0.000123 {MAP} = 0x10000000000",
        f"12    12:00:00 {MAP} = 0x10000000000",
        f"12    12:00:00.123456 (+     0.000001) {MAP} = 0x10000000000",
        f"1764360000 {MAP} = 0x10000000000",
        f"12 1764360000.123456 [  25] [0000000000431d59] {MAP} = 0x10000000000",
        f"[????????????????] {MAP} = 0x10000000000 (DELAYED)",
    ],
)
def test_what_stands_before_and_behind_a_call(line: str) -> None:
    assert calls_of(line) == [MAPPED]


@pytest.mark.parametrize(
    ("flags", "read"),
    [
        ("MAP_FILE|MAP_ANONYMOUS", "MAP_ANONYMOUS"),
        ("0x8 /* MAP_??? */|MAP_ANONYMOUS", "MAP_DROPPABLE|MAP_ANONYMOUS"),
        ("0x22 /* MAP_PRIVATE|MAP_ANONYMOUS */", "MAP_PRIVATE|MAP_ANONYMOUS"),
        ("0x28 /* 0x8 /* MAP_??? */|MAP_ANONYMOUS */", "MAP_DROPPABLE|MAP_ANONYMOUS"),
        ("MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB|21<<MAP_HUGE_SHIFT", "MAP_HUGETLB|MAP_HUGE_2MB"),
        ("0x22", "MAP_PRIVATE|MAP_ANONYMOUS"),
    ],
)
def test_flags_in_all_forms(flags: str, read: str) -> None:
    (call,) = calls_of(f"mmap(0x10000000000, 4096, PROT_READ, {flags}, -1, 0x1) = -1 EINVAL (No)")
    assert read in call
    assert call.endswith(", -1, 0x1) = -EINVAL")


def test_a_call_in_two_halves() -> None:
    halves = f"""
7 {MAP[:-1]} <unfinished ...>
8 getpid() = 8
7 <... mmap resumed>) = 0x10000000000
"""
    assert calls_of(halves) == [MAPPED]


def test_a_thread_that_begins_within_the_line_of_another() -> None:
    text = f"""
clone(child_stack=NULL, flags=CLONE_VM|CLONE_THREAD/usr/bin/strace: Process 9 attached
 <unfinished ...>
[pid     9] {MAP[:-1]}strace: Process 10 attached
) = 0x10000000000
[pid     8] <... clone resumed>) = 9
"""
    assert calls_of(text) == [MAPPED]


# --- Files ----------------------------------------------------------------------------------------


def mapped_file(place: int, file: str, offset: int = 0, fixed: bool = False) -> str:
    """A line about a mapping of 4096 bytes of a file."""
    addr, flags = (f"{place:#x}", "|MAP_FIXED") if fixed else ("NULL", "")
    return f"mmap({addr}, 4096, PROT_READ, MAP_PRIVATE{flags}, {file}, {offset:#x}) = {place:#x}"


def test_names_of_files_hold_anything() -> None:
    line = mapped_file(0x10000000000, "3</a, b) = 0x1/*, c>(deleted)", 0x1000)
    reader, (program,) = imported([line])
    assert [*map(format_call, program.case.calls)] == [
        "file(A, 0x2000) = 0",
        "mmap(0x0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_FIXED, A, 0x1000) = 0",
    ]
    kind = "mmap of a file, for which one in memory stands"
    assert reader.imported.changed[kind] == (1, f"log:1: {line}")


@pytest.mark.parametrize("name", ["", "</lib>"], ids=["without names", "with names"])
def test_which_mappings_are_of_one_file(name: str) -> None:
    other = "</other>" if name else ""
    lines = [
        mapped_file(0x10000000000, f"3{name}"),
        mapped_file(0x10000001000, f"3{name}", 0x1000, fixed=True),
        mapped_file(0x10000010000, f"3{other}"),
        "mremap(0x10000001000, 4096, 12288, MREMAP_MAYMOVE) = 0x10000001000",
    ]
    assert [call for call in calls_of("\n".join(lines)) if "mremap" not in call] == [
        "file(A, 0x4000) = 0",
        "file(B, 0x1000) = 0",
        "mmap(0x0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_FIXED, A) = 0",
        "mmap(0x1000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_FIXED, A, 0x1000) = 0x1000",
        "mmap(0x10000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_FIXED, B) = 0x10000",
    ]


def test_more_files_than_a_case_can_have() -> None:
    lines = [mapped_file(0x10000000000 + 0x2000 * n, "3") for n in range(9)]
    lines.append(mapped_file(0x10000020000, "3").replace("MAP_PRIVATE", "MAP_SHARED"))
    reader, (program,) = imported(lines)
    calls = [*map(format_call, program.case.calls)]
    assert sum(call.startswith("file(") for call in calls) == 8
    assert sum("MAP_PRIVATE|MAP_ANONYMOUS" in call for call in calls) == 2
    assert calls[-1].endswith("MAP_SHARED|MAP_FIXED, A) = 0x20000"), "what is shared comes first"
    assert reader.imported.changed[UNNAMED] == (2, "")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("mmap(0x1, 2, 3) = 0x1", "1:6: mmap is not as strace writes it: mmap with fewer than six"),
        ("munmap(4096, a) = 0", "expected a number, found 'a'"),
        ("munmap(0x1000, 4096) = yes", "expected a result, found 'yes'"),
        ("munmap(0x1000, 04096) = 0", "expected a number, found '04096'"),
        ("munmap(0x1000, 4096) = 00", "expected a result, found '00'"),
        ("mremap(1, 4096, 4096, 5, 6) = 7 (0x00007fea00000000)", "python-ptrace"),
        ("mremap(1, 4096, 4096, 5, 6) = -22 EINVAL (Invalid argument)", "python-ptrace"),
    ],
)
def test_what_is_no_log_of_strace_is_refused_with_its_place(line: str, why: str) -> None:
    with pytest.raises(CaseError, match=re.escape(why)):
        imported([line])


def test_a_text_that_is_no_log() -> None:
    with pytest.raises(CaseError, match="log: no line of this is strace's"):
        imported(["hello", "world = 3"])


# --- Processes ------------------------------------------------------------------------------------


def test_a_child_has_what_its_parent_had() -> None:
    text = f"""
1 {MAP} = 0x10000000000
1 fork() = 2
2 mprotect(0x10000000000, 4096, PROT_READ) = 0
2 +++ exited with 0 +++
1 munmap(0x10000000000, 8192) = 0
1 +++ exited with 0 +++
"""
    _, programs = imported(text.strip().splitlines())
    child, parent = [[format_call(call) for call in one.case.calls] for one in programs]
    assert child == [MAPPED, "mprotect(0x0, 0x1000, PROT_READ) = 0"]
    assert parent == [MAPPED, "fork() = 0", "exit_child() = 0", "munmap(0x0, 0x2000) = 0"]


@pytest.mark.parametrize("how", ["vfork()", "clone(child_stack=NULL, flags=CLONE_VM)"])
def test_some_work_in_the_memory_of_their_parent(how: str) -> None:
    text = f"1 {MAP} = 0x10000000000\n1 {how} = 2\n2 munmap(0x10000000000, 8192) = 0"
    assert calls_of(text) == [MAPPED, "munmap(0x0, 0x2000) = 0"]


def test_execve_begins_anew() -> None:
    text = f"""
1 {MAP} = 0x10000000000
1 execve("a", [], 0x1) = -1 ENOENT (No such file or directory)
1 execve("b", [], 0x1) = 0
1 {MAP} = 0x10000000000
"""
    _, programs = imported(text.strip().splitlines())
    assert [program.name for program in programs] == ["log-1-001", "log-1.2-001"]
    assert [len(program.case.calls) for program in programs] == [1, 1]


# --- Programs -------------------------------------------------------------------------------------


def test_a_program_that_begins_in_the_middle_begins_with_what_is_mapped() -> None:
    lines = [
        "mmap(0x10000000000, 16777216, PROT_READ, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
        " = 0x10000000000",
        "madvise(0x10000000000, 16777216, MADV_DONTFORK) = 0",
    ]
    lines += [
        f"mremap({0x10000000000 + 0x2000 * n:#x}, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED, "
        f"{0x10000000000 + 0x2000 * n + 0x40000000:#x}) = "
        f"{0x10000000000 + 0x2000 * n + 0x40000000:#x}"
        for n in range(600)
    ]
    reader, programs = imported(lines)
    assert not told(reader)
    assert sum(program.calls for program in programs) == 602
    assert len(programs) > 2 and all(len(one.case.calls) <= 256 for one in programs)
    second = [format_call(call) for call in programs[1].case.calls]
    assert second[1].startswith("madvise(0x") and second[1].endswith("MADV_DONTFORK)")


def test_addresses_keep_their_order_and_alignment() -> None:
    places = [0x400000, 0x555555554000, 0x555580000000, 0x7FFFF7DD0000]
    rebase = Rebase({place // BLOCK for place in places})
    moved = [rebase(place) for place in places]
    assert None not in moved
    assert moved == sorted(moved, key=lambda place: place or 0)
    for place, offset in zip(places, moved, strict=True):
        assert offset is not None and 0 <= offset < ARENA
        assert (offset - place) % BLOCK == 0
    assert moved[1] is not None and moved[2] == moved[1] + places[2] - places[1], "neighbours"
    assert rebase(0x600000000000) is None


def test_addresses_of_one_arena_stay() -> None:
    rebase = Rebase({0x10040000000 // BLOCK, 0x17000000000 // BLOCK})
    assert rebase(0x10040001000) == 0x40001000
    assert not room([1, 5]) and room([1, 5, 600]) == 5


def test_memory_that_the_log_does_not_map_is_assumed() -> None:
    reader, (program,) = imported(["mprotect(0x10000001000, 8192, PROT_READ) = 0"])
    assert [call.name for call in program.case.calls] == ["mmap", "mprotect"]
    (kind,) = reader.imported.assumed
    assert kind == "memory that the log does not map, as private and writable"


def test_a_result_that_does_not_come_about_is_told() -> None:
    text = [f"{MAP} = 0x10000000000", "munmap(0x10000000000, 4096) = -1 EPERM (Not permitted)"]
    reader, (program,) = imported(text)
    assert [call.name for call in program.case.calls] == ["mmap"]
    (first,) = [first for _, first in reader.imported.left_out.values()]
    assert first.startswith("log:2: munmap(") and first.endswith(", and not 0x0")


def test_what_is_mapped_is_written_to() -> None:
    text = [f"{MAP} = 0x10000000000", "mremap(0x10000000000, 8192, 16384, 0) = 0x10000000000"]
    _, (program,) = imported(text, touching=True)
    assert [call.name for call in program.case.calls] == ["mmap", "touch", "mremap", "touch"]
    assert program.case.calls[3].args == (0x2000, 0x2000)
    assert isinstance(program.case, Case) and program.touches == 2


# --- Real programs --------------------------------------------------------------------------------


def real_programs() -> list[Path]:
    """Logs of realloc of glibc, perl, CPython, node, a JVM with ZGC, valgrind: their beginnings."""
    return sorted(LOGS.glob("program-*.strace"))


@pytest.mark.parametrize("path", real_programs(), ids=lambda path: path.stem)
def test_nothing_of_a_real_program_is_left_out(path: Path) -> None:
    with path.open(encoding="utf-8") as log:
        reader, programs = imported(log, touching=True)
    assert not reader.imported.left_out
    assert sum(program.calls for program in programs) > 25
    assert sum(program.touches for program in programs) > 5
    (assumed,) = set(reader.imported.assumed) - {ACCESSES}
    assert assumed == "memory that the log does not map, as private and writable"


@pytest.mark.slow
def test_this_machine_does_with_real_programs_what_the_model_does() -> None:
    try:
        pair = beside_model()
    except SubjectError as error:
        pytest.skip(str(error))
    with pair:
        for path in real_programs():
            with path.open(encoding="utf-8") as log:
                _, programs = imported(log, touching=True)
            for program in programs:
                if not pair.subject.refusal(program.case):
                    assert pair.divergence(program.case) is None, program.name


def test_what_a_userfaultfd_asks_for_and_what_it_gets() -> None:
    """As strace 6.1 writes it: of what is asked for, nothing but the features counts."""
    at = "{range={start=0x100000000000, len=0x1000}, mode=UFFDIO_REGISTER_MODE_WP, ioctls=0x100}"
    log = f"""
7 userfaultfd(O_CLOEXEC) = 5
7 ioctl(5, UFFDIO_API, {{api=0xaa, features=0 => features=UFFD_FEATURE_SIGBUS|0x1e000}}) = 0
7 mmap(0x100000000000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x100000000000
7 ioctl(5, UFFDIO_REGISTER, {at}) = 0
7 ioctl(5, UFFDIO_WRITEPROTECT, 0x7fffd47d5020) = 0
7 mmap(0x100000002000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x100000002000
"""
    assert calls_of(log)[1:-1] == ["uffd_register(0x0, 0x1000, UFFDIO_REGISTER_MODE_WP) = 0"]
    reader, _ = imported(log.strip().splitlines())
    assert told(reader) == {"an ioctl whose range the log does not show": 1}
