"""What comes of what others do in the middle of a call."""

from collections.abc import Iterator

import pytest

from engine.base.points import ALWAYS_HELD
from fuzz.calls.registry import CALLS
from fuzz.calls.waits import why_not
from fuzz.case import CaseError, Result
from fuzz.forms.text import parse
from fuzz.showing import replay
from tests.lib.between import APART, MAPPED, MOVED, WALKING, came_of, run

ACTING = [declared for declared in CALLS.values() if declared.base is not None]


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


def test_a_walk_that_cannot_stop_goes_on() -> None:
    """The move is over, or never comes, or the page is not where it says."""
    for line in (
        "@at leave 1: migrate_begin(0x40201000, SLOWLY)",
        "@at vma-copied 1: migrate_begin(0x200000, SLOWLY)",
        "@at iteration 1: migrate_end(0x200000, SLOWLY)",
    ):
        assert came_of(line, move=APART) == 0
    assert came_of("@at iteration 1: migrate_begin(0x8000000, SLOWLY)", move=APART) == "-EFAULT"


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
