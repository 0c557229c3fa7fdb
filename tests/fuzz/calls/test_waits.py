"""Which locks keep others away from the middle of a call, and what they would wait for."""

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
from fuzz.calls.registry import CALLS
from fuzz.calls.waits import MMAP_LOCK, conflict, why_not
from fuzz.case import Result
from fuzz.execute import execute
from fuzz.forms.text import parse
from tests.lib.between import APART, MAPPED, MOVED, WALKING, run


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
