"""What accesses may and must see: protection, holes, guards, stacks that grow, signals."""

import pytest

from engine.base.uapi import MAP_GROWSDOWN, PROT_GROWSDOWN, PROT_READ
from fuzz.calls.registry import call
from fuzz.case import Faults, Result
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    EXEC,
    FIXED,
    GROWSDOWN,
    PRIVATE,
    READ,
    RW,
    SEM,
    SHARED,
    WRITE,
    Program,
    advise,
    mmap,
    mremap,
    on,
)


@pytest.mark.parametrize(
    ("prot", "flags", "touch", "peek", "exec_only"),
    [
        (RW, PRIVATE, "ok", "ok", False),
        (RW, SHARED, "ok", "ok", False),
        (READ, PRIVATE, "segv", "ok", False),
        (WRITE, PRIVATE, "ok", "ok", False),
        (0, SHARED, "segv", "segv", False),
        (EXEC, PRIVATE, "segv", "ok", False),
        (EXEC, PRIVATE, "segv", "segv", True),
        (EXEC | SEM, PRIVATE, "segv", "ok", True),
        (EXEC | READ, SHARED, "segv", "ok", True),
    ],
)
def test_accesses_follow_protection(
    prot: int, flags: int, touch: str, peek: str, exec_only: bool
) -> None:
    results: dict[str, Result] = {
        "ok": 0,
        "segv": Faults(segv=((1, 2),)),
        "bus": Faults(bus=((1, 2),)),
    }
    for name, allowed in (("touch", touch), ("peek", peek)):
        for outcome, result in results.items():
            oracle = Oracle(exec_only=exec_only)
            oracle.apply(mmap(0, 4, prot=RW, flags=flags | FIXED), 0)
            oracle.apply(on("mprotect", 1, 2, prot), 0)
            found = oracle.apply(on(name, 1, 2), result)
            assert (found == []) == (outcome in allowed.split()), (name, outcome)
            assert all(
                (each.kind, each.start_page, each.count) == ("access", 1, 2) for each in found
            )


def test_accesses_outside_mappings_and_objects() -> None:
    oracle = Oracle()
    oracle.apply(mmap(1, 2, flags=SHARED | FIXED), PAGE)
    oracle.apply(mremap(1, 2, 4), PAGE)
    right = Faults(segv=((0, 1), (5, 1)), bus=((3, 2),))
    assert oracle.apply(on("peek", 0, 6), right) == []
    assert [str(found) for found in oracle.apply(on("peek", 0, 6), 0)] == [
        "access: page 0x0: expected SIGSEGV, found access",
        "access: page 0x5: expected SIGSEGV, found access",
        "access: pages 0x3..0x4: expected SIGBUS, found access",
    ]
    wrong = Faults(segv=((0, 6),))
    assert {found.expected for found in oracle.apply(on("peek", 0, 6), wrong)} == {
        "access",
        "SIGBUS",
    }


def test_protection_up_to_the_hole_has_changed() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 2), 0)
    oracle.apply(mmap(3, 1), 3 * PAGE)
    oracle.apply(on("mprotect", 0, 4, READ), "-ENOMEM")
    assert oracle.apply(on("touch", 0, 4), Faults(segv=((0, 3),))) == []


def test_protection_is_unknown_after_a_shortage_of_memory() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 2), 0)
    oracle.apply(on("mprotect", 0, 2, READ), "-ENOMEM")
    assert oracle.apply(on("touch", 0, 1), 0) == []
    assert oracle.apply(on("touch", 1, 1), Faults(segv=((1, 1),))) == []


def test_guard_pages_may_fault() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 3), 0)
    oracle.apply(advise(1, 1, "GUARD_INSTALL"), 0)
    assert oracle.apply(on("touch", 0, 3), Faults(segv=((1, 1),))) == []
    assert oracle.apply(on("touch", 0, 3), Faults(segv=((1, 2),))) != []


def test_failed_guards_may_fault_anywhere() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 3), 0)
    oracle.apply(advise(1, 3, "GUARD_INSTALL"), "-ENOMEM")
    assert oracle.apply(on("peek", 0, 3), Faults(segv=((2, 1),))) == []
    assert oracle.apply(on("peek", 0, 3), Faults(segv=((0, 1),))) != []


def test_nothing_is_said_about_protection_when_the_end_may_have_wrapped() -> None:
    oracle = Oracle()
    oracle.apply(mmap(0, 1), 0)
    oracle.apply(call("mprotect", 0, (1 << 64) - PAGE, READ), "-ENOMEM")
    assert oracle.apply(on("touch", 0, 1), 0) == []
    assert oracle.apply(on("touch", 0, 1), Faults(segv=((0, 1),))) == []


def test_stacks_may_grow_down(program: Program) -> None:
    program.mmap(4, 1, ". . . . _", flags=PRIVATE | GROWSDOWN)
    program.step(on("touch", 0, 1), Faults(segv=((0, 1),)), ". . . . _")
    program.touch(2, 1, ". . 2 _ _")
    assert [str(found) for found in program.oracle.apply(on("touch", 5, 1), 0)] == [
        "access: page 0x5: expected SIGSEGV, found access"
    ]


DOWN = PROT_READ | PROT_GROWSDOWN


@pytest.mark.parametrize(
    ("start", "pages", "prot", "result", "refused"),
    [
        (6, 1, PROT_READ, 0, {6}),
        (6, 1, DOWN, 0, {4, 5, 6}),
        (1, 4, DOWN, 0, {4}),  # a hole before the first mapping is no harm
        (6, 0, DOWN, 0, set()),
        (6, 4, DOWN, "-ENOMEM", {4, 5, 6, 7}),
        (6, 4, DOWN, "-EPERM", {4}),
        (6, 1, DOWN, "-EINVAL", set()),
    ],
)
def test_protection_may_reach_down_to_where_a_stack_begins(
    start: int, pages: int, prot: int, result: Result, refused: set[int]
) -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(4, 4, flags=PRIVATE | FIXED | MAP_GROWSDOWN), 4 * PAGE)
    assert not oracle.apply(on("mprotect", start, pages, prot), result)
    faults = Faults(segv=tuple((page, 1) for page in sorted(refused)))
    assert not oracle.apply(on("touch", 4, 4), faults)


def test_other_protection_neither_reaches_down_nor_skips_a_hole() -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(4, 4), 4 * PAGE)
    assert oracle.apply(on("mprotect", 1, 4, PROT_READ), 0)
    assert oracle.apply(on("touch", 5, 1), Faults(segv=((5, 1),)))


def test_who_is_told_by_signal_may_see_sigbus(program: Program) -> None:
    program.mmap(0, 4, "_ _ _ _")
    signal = 1 << 7
    bus = Faults(bus=((0, 1), (2, 1)))
    said = program.objects(on("touch", 0, 4), bus, "_ 2 _ 4")
    assert said == [f"access: page {page:#x}: expected access, found SIGBUS" for page in (0, 2)]
    program.step(on("uffd_register", 0, 4, 1, signal), 0, "_ 2 _ 4")
    program.step(on("touch", 0, 4), bus, "_ 6 _ 8")
