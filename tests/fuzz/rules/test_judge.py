"""Who asks the rules, and when: of a move, after a call, of the whole state."""

from typing import Any

import pytest

import fuzz.rules.judge as module
from engine.base.entry import ANON, PRESENT, SWAP, leaf
from engine.base.geometry import PTE
from engine.base.kernel import kernel_named
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, Errno
from engine.calls.mmap import mmap, munmap
from engine.mremap import mremap
from engine.pages.access import touch_on
from engine.pages.fault import touch
from engine.state.space import AddressSpace
from fuzz.calls.registry import call
from fuzz.case import Result
from fuzz.rules.judge import ALL, Judge, MoveRules, RulesAfter, StateRules
from fuzz.rules.rule import LEAVES, NOTHING, VMAS
from tests.lib.constants import MOVE
from tests.lib.drawn import PAGE, SLOT, scene, tiny


def test_what_is_remembered_of_a_table_is_all_of_it() -> None:
    """A sound table is looked at again once it changes, and if VMAs share it, in any case."""
    kernel = kernel_named("linux-6.12")
    space, rules = AddressSpace(kernel), StateRules()
    base, slot = space.arena.start, kernel.geometry.slot_bytes
    assert mmap(space, base, slot, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) == base
    assert not touch(space, base, base + slot)
    assert rules.check(space) == rules.check(space) == []
    table = space.tree.find(base, PTE)
    assert table is not None
    space.frames.index.append(5)
    space.frames.owner.append(None)
    sound = table.leaves[511]
    space.tree.put(table, 511, leaf(len(space.frames.index) - 1, sound & 0xFFF))
    assert [v.rule for v in rules.check(space)] == ["page-index"]
    space.tree.put(table, 511, sound)
    assert rules.check(space) == []
    munmap(space, base + 100 * PAGE, PAGE)
    assert rules.check(space) == []
    space.tree.change(
        table, range(101, 512), lambda old: [e & ~(PRESENT | ANON) | SWAP for e in old]
    )
    for _ in range(2):
        assert [v.rule for v in rules.check(space)] == ["rss-count"]


def judged(rules_after: RulesAfter = "last", *, oracle: bool = False) -> tuple[AddressSpace, Judge]:
    """A space, and who judges it; then four pages come about, of which the oracle knows."""
    space = AddressSpace(tiny())
    made = Judge(space, rules_after=rules_after, oracle=oracle)
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    assert mmap(space, 0, SLOT, 3, flags) == 0
    made.quiet(call("mmap", 0, SLOT, 3, flags), 0, last=False)
    assert not touch(space, 0, SLOT)
    made.quiet(call("touch", 0, SLOT), 0, last=False)
    assert not space.violations
    return space, made


def rules(space: AddressSpace) -> list[str]:
    return [violation.rule for violation in space.violations]


@pytest.mark.parametrize(
    ("rules_after", "asked"),
    [
        ("last", {"munmap": False, "mremap": False}),
        ("moving", {"munmap": False, "mremap": True}),
        ("call", {"munmap": True, "mremap": True}),
    ],
)
@pytest.mark.parametrize("name", ["munmap", "mremap"])
@pytest.mark.parametrize("last", [True, False])
def test_the_whole_state_is_judged_when_it_is_asked_for(
    rules_after: RulesAfter, asked: dict[str, bool], name: str, last: bool
) -> None:
    space, judge = judged(rules_after)
    space.total_vm += 1
    judge.quiet(call(name, *[0] * (2 if name == "munmap" else 4)), Errno.EINVAL, last=last)
    assert rules(space) == (["total-vm"] if last or asked[name] else [])


def test_a_stale_translation_is_told_after_each_call() -> None:
    space, judge = judged()
    touch_on(space, 0, 0)
    judge.quiet(call("munmap", 0, 0), 0, last=False)
    assert rules(space) == []
    space.tree.take(space.tree.make(0, PTE), 0)
    judge.quiet(call("munmap", 0, 0), 0, last=False)
    assert rules(space) == ["tlb-after"]


@pytest.mark.parametrize(("oracle", "found"), [(True, ["oracle-contents"]), (False, [])])
@pytest.mark.parametrize("result", [0, "-EFAULT"])
def test_contents_are_compared_where_they_may_be_new(
    oracle: bool, found: list[str], result: Result
) -> None:
    space, judge = judged(oracle=oracle)
    space.frames.tag[1] = 77
    judge.quiet(call("madvise", 0, SLOT, 0), result, last=False)
    assert rules(space) == (found if result else [])
    judge.quiet(call("munmap", 5 * SLOT, PAGE), 0, last=True)
    assert set(rules(space)) == set(found)


def test_a_call_without_rules_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[str, object]] = []

    class Seen(module.Sight):
        def __init__(self, space: AddressSpace, name: str, args: Any, before: Any) -> None:
            looks.append((name, before))
            super().__init__(space, name, args, before)

    monkeypatch.setattr(module, "Sight", Seen)
    space, judge = judged()
    for name in ("@cut", "mseal", "mremap"):
        judge.before(name, (0, 0, 0, 0, 0))
        judge.after(Errno.EINVAL if name == "mremap" else None)
    assert looks == [("mseal", VMAS), ("mremap", LEAVES)]
    space.failures.arm("pagetable", 3)  # where something is to fail, every call is
    judge.before("@cut", ())
    assert looks[2:] == [("@cut", NOTHING)]


def test_each_call_is_given_what_the_most_curious_of_its_checks_asks_for() -> None:
    before = ALL.before
    assert before.keys() == ALL.after.keys()
    assert (before["mremap"], before["mseal"], before["execve_stack"]) == (LEAVES, VMAS, VMAS)


def test_entries_found_taken_are_counted_by_call() -> None:
    """A stack's rule compares their number; those of an earlier call do not count."""
    space = scene("AAAA .... bbbb")
    moves = MoveRules()
    space.listen(moves)
    space.tree.make(8 * PAGE, PTE)
    assert mremap(space, 0, SLOT, SLOT, MOVE, 16 * PAGE) == 16 * PAGE
    assert moves.occupied == 0
    space.tree.make(32 * PAGE, PTE)
    assert mremap(space, 16 * PAGE, SLOT, SLOT, MOVE, 32 * PAGE) == 32 * PAGE
    assert moves.occupied == 1
    assert rules(space) == ["dest-entry-none"]


@pytest.mark.parametrize(("picture", "found"), [("", []), ("AAAA", ["table-count"])])
def test_nobody_begins_with_page_tables(picture: str, found: list[str]) -> None:
    space = scene(picture)
    Judge(space, rules_after="last", oracle=False)
    assert rules(space) == found
