"""What others do in the middle of a call: which locks forbid it, and what comes of it."""

from collections.abc import Iterator

import pytest

from engine.base.kernel import kernel_named
from engine.base.points import (
    ALWAYS_HELD,
    ANON_VMA,
    I_MMAP,
    MMAP_READ,
    MMAP_WRITE,
    MREMAP_UNLOCKED,
    NONE,
    PAGE_TABLES,
)
from fuzz.calls.actors import MMAP_LOCK, conflict, why_not
from fuzz.calls.registry import CALLS
from fuzz.case import CaseError, Result
from fuzz.execute import Outcome, execute
from fuzz.forms.text import parse
from fuzz.showing import replay

ACTING = [declared for declared in CALLS.values() if declared.base is not None]
MAPPED = """\
mmap(0x200000, 0x400000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x200000, 0x2000)
touch(0x400000, 0x2000)
"""
MOVED = "mremap(0x200000, 0x400000, 0x400000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)\n"


def run(lines: str, kernel: str = "linux-6.18", before: str = MAPPED, move: str = MOVED) -> Outcome:
    """A program whose last call moves two slots, with others in between."""
    return execute(parse(before + lines + "\n" + move), kernel_named(kernel), stop=False)


def came_of(lines: str, kernel: str = "linux-6.18", **how: str) -> Result:
    """What became of the last of those in between; no rule is broken."""
    outcome = run(lines, kernel, **how)
    assert outcome.violations == []
    return outcome.results[-2]


@pytest.mark.parametrize(
    ("held", "needs", "lock"),
    [
        (MMAP_WRITE, NONE, ""),
        (MMAP_WRITE, MMAP_READ, MMAP_LOCK),
        (MMAP_WRITE, MMAP_WRITE, MMAP_LOCK),
        (MMAP_READ, MMAP_WRITE, MMAP_LOCK),
        (MMAP_READ, MMAP_READ, ""),
        (MMAP_WRITE, ANON_VMA | PAGE_TABLES, ""),
        (MMAP_WRITE | ANON_VMA, ANON_VMA | I_MMAP, "the anon_vma lock"),
        (MMAP_WRITE | I_MMAP, ANON_VMA | I_MMAP, "i_mmap_rwsem"),
        (PAGE_TABLES, I_MMAP | PAGE_TABLES, "page table locks"),
    ],
)
def test_locks_in_conflict(held: int, needs: int, lock: str) -> None:
    assert conflict(held, needs) == lock


def test_a_move_keeps_all_away_that_need_the_mmap_lock() -> None:
    for name in ("fork", "munmap", "uffd_wp", "mremap", "mprotect"):
        for point in ALWAYS_HELD.keys() - {MREMAP_UNLOCKED}:
            assert MMAP_LOCK in why_not(CALLS[name], point)


def each_allowed() -> Iterator[tuple[str, str]]:
    for declared in ACTING:
        for point in declared.params[0].kind.names:  # type: ignore[attr-defined]
            assert declared.base is not None
            yield declared.base.name, point


def test_what_a_lock_forbids_has_no_form() -> None:
    allowed = set(each_allowed())
    for declared in ACTING:
        assert declared.base is not None
        for point in ALWAYS_HELD:
            ok = not why_not(declared.base, point)
            assert ok is ((declared.base.name, point) in allowed), (declared.name, point)
    assert ("touch_on", "ptes-moved") in allowed
    assert ("swapout", "ptes-moved") not in allowed


@pytest.mark.parametrize(
    ("line", "column", "why"),
    [
        ("@at iteration 1: fork()", 18, "fork waits for mmap_lock, which is held for writing"),
        ("@at pmd-moved 1: swapout(0, 0x1000)", 18, "swapout waits for page table locks"),
        ("@at nowhere 1: fork()", 5, "unknown point 'nowhere'; known: relocate-vma-down"),
        ("@at iterations 1: fork()", 5, "did you mean iteration?"),
        ("@at iteration 0: peek(0, 1)", 15, "0 is out of range"),
        ("@at iteration 1: peek(0", 24, "missing ')'"),
        ("@at iteration 1 peek(0, 1)", 1, "expected @at POINT N: CALL"),
        ("@at iteration 1:", 17, "expected a call"),
    ],
)
def test_errors_point_at(line: str, column: int, why: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse(MAPPED + line)
    assert caught.value.column == column
    assert why in caught.value.why


def test_a_page_is_written_before_it_moves_and_after() -> None:
    outcome = run(
        "@at move-normal-pmd 1: touch(0x200000, 0x1000)\n"
        "@at pmd-moved 1: touch(0x40201000, 0x1000)\n"
        "@at leave 1: touch(0x40401000, 0x1000)"
    )
    assert outcome.violations == []
    assert outcome.results[3:6] == [0, 0, 0]
    pages = outcome.space.contents()
    assert [pages[0x40200 + page] for page in (0, 1, 0x200, 0x201)] == [5, 6, 3, 7]


@pytest.mark.parametrize(
    ("line", "kernel", "result"),
    [
        ("@at iteration 1: touch(0x200000, 0x1000)", "linux-6.1", 0),
        ("@at iteration 1: touch(0x202000, 0x1000)", "linux-6.18", "WAITS"),
        ("@at iteration 2: touch(0x200000, 0x1000)", "linux-6.18", "WAITS"),
        ("@at iteration 1: peek(0x8000000, 0x1000)", "linux-6.18", "WAITS"),
        ("@at iteration 3: touch(0x200000, 0x1000)", "linux-6.18", "NEVER"),
        ("@at iteration 2: swapout(0x40200000, 0x2000)", "linux-6.18", 0),
        ("@at enter 1: migrate_end(0x200000)", "linux-6.18", 0),
        ("@at enter 1: collapse_file(0x200000)", "linux-6.18", "-EINVAL"),
    ],
)
def test_what_comes_of_it(line: str, kernel: str, result: Result) -> None:
    assert came_of(line, kernel) == result


FILE = """\
file(A, 0x400000)
mmap(0x200000, 0x400000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, A)
touch(0x200000, 0x2000)
touch(0x400000, 0x2000)
"""


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("ftruncate(A, 0x1000)", {0x40200: 1}),
        ("ftruncate(A, 0x201000)", {0x40200: 1, 0x40201: 2, 0x40400: 3}),
        (
            "fallocate(A, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x1000, 0x200000)",
            {0x40200: 1, 0x40401: 4},
        ),
    ],
)
@pytest.mark.parametrize("point", ["enter 1", "iteration 2", "move-normal-pmd 2", "leave 1"])
def test_a_file_changes_wherever_its_pages_are(line: str, left: object, point: str) -> None:
    outcome = run(f"@at {point}: {line}", before=FILE)
    assert outcome.violations == []
    assert outcome.results[-2] == 0
    assert outcome.space.contents() == left


def test_a_file_does_not_change_while_its_tables_are_locked() -> None:
    with pytest.raises(CaseError, match="ftruncate waits for page table locks"):
        parse(FILE + "@at pmd-moved 1: ftruncate(A, 0)")
    apart = MOVED.replace("0x40200000", "0x40201000")
    assert came_of("@at move-ptes 1: ftruncate(A, 0)", before=FILE, move=apart) == 0


@pytest.mark.parametrize(("geometry", "result"), [("x86-64", 0), ("i386-pae", "WAITS")])
def test_only_machines_of_64_bits_have_locks_of_vmas(geometry: str, result: Result) -> None:
    beside = MAPPED + MAPPED.splitlines()[0].replace("0x200000", "0x1000000").replace(
        "MAP_PRIVATE", "MAP_SHARED"
    )
    case = parse(f"{beside}\n@at iteration 1: touch(0x1001000, 0x1000)\n{MOVED}")
    outcome = execute(case, kernel_named("linux-6.18", geometry), stop=False)
    assert outcome.results[-2] == result


def test_exec_has_no_other_thread() -> None:
    stack = "execve_stack(0x1fff000, 0x2200000, 0x200000)\n"
    outcome = run("@at iteration 1: touch_on(0, 0x1fff000)", "linux-6.1", "", stack)
    assert outcome.results == ["WAITS", 0]
    assert outcome.waits == {0: "the end of the exec"}


def test_what_somebody_does_brings_nobody_else_about() -> None:
    outcome = run("@at iteration 1: touch_on(0, 0x200000)\n@at iteration 1: touch_on(1, 0x200000)")
    assert outcome.results[3:5] == [0, 0]


def test_a_case_that_would_wait_is_refused_unless_it_says_so() -> None:
    waiting = "@at iteration 1: touch(0x202000, 0x1000)"
    with pytest.raises(CaseError, match="it would wait for the VMA's lock"):
        replay(parse(MAPPED + waiting + "\n" + MOVED))
    replay(parse(f"{MAPPED}{waiting} = WAITS\n{MOVED}"))


def test_what_it_raises_is_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("engine.calls.reclaim.page_out", fails)
    outcome = run("@at iteration 1: swapout(0x200000, 0x1000)")
    assert outcome.ending is not None
    assert outcome.ending.rule == "exception"


WALKING = "@at move-ptes 1: migrate_begin(0x200000, SLOWLY)\n"
APART = MOVED.replace("0x40200000", "0x40201000")


def test_a_walk_that_is_overtaken_finds_the_page_at_its_new_place() -> None:
    outcome = run(WALKING + "@at ptes-moved 1: touch_on(0, 0x40201000)", move=APART)
    assert outcome.violations == []
    assert not outcome.space.tlb.cached, "it was flushed there"
    assert outcome.results[3:] == [0, 0, 0x40201000]
    assert list(outcome.space.migrating.values()) == [1]


def test_a_table_moves_when_the_walk_is_over() -> None:
    late = "@at move-normal-pmd 1: migrate_begin(0x200000, SLOWLY)\n"
    used = "@at pmd-moved 1: touch_on(0, 0x40200000)"
    assert came_of(late + used) == 0
    outcome = run(late + used, "linux-5.0")
    assert {found.violation.rule for found in outcome.violations} == {
        "table-move-locked",
        "tlb-after",
    }


@pytest.mark.parametrize(
    ("line", "waits"),
    [
        ("swapout(0x201000, 0x1000)", "the lock of the page"),
        ("migrate_end(0x200000)", "the lock of the page"),
        ("peek(0x1000000, 0x1000)", "the lock of the page"),
        ("touch_on(0, 0x40201000)", ""),
        ("touch(0x201000, 0x1000)", ""),
    ],
)
def test_who_needs_what_a_walk_holds_waits(line: str, waits: str) -> None:
    beside = MAPPED.splitlines()[0].replace("0x200000", "0x1000000") + "\n"
    outcome = run(
        f"{WALKING}@at move-ptes 1: {line}",
        before=beside + MAPPED + "touch(0x201000, 0x1000)\n",
        move=APART,
    )
    assert outcome.violations == []
    assert outcome.waits.get(len(outcome.results) - 2, "") == waits


def test_a_walk_that_cannot_stop_goes_on() -> None:
    """The move is over, or never comes, or the page is not where it says."""
    for line in (
        "@at leave 1: migrate_begin(0x40201000, SLOWLY)",
        "@at vma-copied 1: migrate_begin(0x200000, SLOWLY)",
        "@at iteration 1: migrate_end(0x200000, SLOWLY)",
    ):
        assert came_of(line, move=APART) == 0
    assert came_of("@at iteration 1: migrate_begin(0x8000000, SLOWLY)", move=APART) == "-EFAULT"


@pytest.mark.parametrize("kernel", ["linux-6.12", "linux-6.18"])
@pytest.mark.parametrize("geometry", ["x86-64", "i386-pae"])
@pytest.mark.parametrize(
    ("advised", "one"),
    [
        ("0x1000000, 0x2000, MADV_DONTNEED", True),
        ("0x1000000, 0x2000, MADV_FREE", True),
        ("0x1001000, 0x3000, MADV_DONTNEED", False),  # a second VMA
        ("0x3000000, 0x1000, MADV_DONTNEED", False),  # none
        ("0x2000000, 0x1000, MADV_DONTNEED", False),  # a userfaultfd
        ("0x1000000, 0x1000, MADV_COLD", False),
        ("0x1000000, 0x1000, MADV_HUGEPAGE", False),
        ("0x200000, 0x1000, MADV_DONTNEED", False),  # it moves
    ],
)
def test_advice_of_one_vma_takes_its_lock_alone(
    kernel: str, geometry: str, advised: str, one: bool
) -> None:
    beside = "".join(
        f"mmap({start}, 0x2000, {prot}, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        for start, prot in (
            ("0x1000000", "PROT_READ|PROT_WRITE"),
            ("0x1002000", "PROT_READ"),
            ("0x2000000", "PROT_READ|PROT_WRITE"),
        )
    )
    watched = "uffd_register(0x2000000, 0x2000, UFFDIO_REGISTER_MODE_WP)\n"
    case = parse(f"{MAPPED}{beside}{watched}@at iteration 1: madvise({advised})\n{MOVED}")
    outcome = execute(case, kernel_named(kernel, geometry), stop=False)
    goes_on = one and kernel == "linux-6.18" and geometry == "x86-64"
    assert outcome.results[-2] == (0 if goes_on else "WAITS")


def test_all_go_on_when_the_lock_is_dropped() -> None:
    """Where pages have gone by then, and where they were."""
    behind = run(
        "@at mremap-unlocked 1: madvise(0x40200000, 0x1000, MADV_DONTNEED)\n"
        "@at mremap-unlocked 1: touch(0x40400000, 0x1000)\n"
        "@at mremap-unlocked 1: swapout(0x40401000, 0x1000)\n"
        "@at mremap-unlocked 1: peek(0x200000, 0x1000)"
    )
    assert behind.violations == []
    assert behind.results[3:7] == [0, 0, 0, "WAITS"]
    assert {page: tag for page, tag in behind.space.contents().items() if tag} == {
        0x40201: 2,
        0x40400: 5,
        0x40401: 4,
    }
