"""The story of a case: every call, what it changed, and the moment at which a rule was broken."""

import pytest

from engine.base.kernel import kernel_named
from fuzz.defects.catalogue import exhibit_named
from fuzz.forms.text import load, parse
from fuzz.tell.story import describe, story
from tests.lib.constants import ROOT

STACK = "execve_stack(0xd8000, 0xf0000, 0x10000)\n"
STACK = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)"
MOVE = "mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)"
RULE = "dest-entry-none"


def test_story_shows_the_table_in_the_way() -> None:
    told = story(parse(STACK), kernel_named("linux-6.1"))
    assert told.splitlines()[0] == "execve_stack(0xbfb00000, 0xc0000000, 0x400000) = 0"
    assert "when the move starts:\n" in told
    assert f"when {RULE} is broken:\n" in told
    assert "~   0xbfa00000   PTE table         0/512 |................|  emptied <==" in told
    assert f"\nviolation: {RULE} at [0xbfa00000, 0xbfc00000)\n  found     an emptied PTE" in told


def test_story_without_violation_shows_every_call() -> None:
    told = story(
        parse(f"{MAP}\ntouch(0x200000, 0x1000)\n{MOVE}\nmunmap(0, 0)\n"), kernel_named("linux-6.18")
    )
    assert "violation" not in told
    assert "+ [0x200000, 0x204000)             16 KiB  rw-p        0" in told
    assert "- [0x200000, 0x204000)             16 KiB  rw-p        1" in told
    assert "+ [0x40200000, 0x40204000)         16 KiB  rw-p        1" in told
    assert told.endswith("munmap(0x0, 0x0) = -EINVAL\n  (no change)")


def test_a_call_that_is_not_run_says_why() -> None:
    told = story(parse("munmap(0x7ffffff000, 0x2000)\n"), kernel_named("linux-6.18"))
    assert told.splitlines() == [
        "munmap(0x7ffffff000, 0x2000) = SKIP",
        "  (not run: it reaches outside the arena of 0x8000000000 bytes)",
    ]


def test_story_in_colour_only_adds_colour() -> None:
    case, kernel = parse(STACK), kernel_named("linux-6.1")
    plain, coloured = story(case, kernel), story(case, kernel, colour=True)
    assert "\033" not in plain
    assert "\033[32m+ " in coloured


def test_a_story_and_a_description_name_the_known_defect() -> None:
    kernel = kernel_named("linux-6.1")
    assert story(parse(STACK), kernel).splitlines()[-1].startswith("known: B-01, ")
    assert describe(parse(STACK), kernel).startswith(f"contract  I-01 {RULE}: a destination entry")
    with pytest.raises(ValueError, match=r"no rule is broken on linux-6\.18"):
        describe(parse(STACK), kernel_named("linux-6.18"))


def test_a_story_goes_on_to_the_unknown_defect_behind_a_known_one() -> None:
    known = load(ROOT / "corpus" / "regressions" / "wrapping-overlap.case")
    unknown = load(ROOT / "corpus" / "museum" / "b-11-negative-result.case")
    case = known.with_calls((*known.calls, *unknown.calls))
    told = story(case, kernel_named("linux-6.18-negative_result_is_zero"))
    calls = told.split("\n\n")
    assert len(calls) == len(case.calls)
    assert calls[1].splitlines()[-1].startswith("known: B-69, ")
    assert "violation: move-result" in calls[-1]
    assert told.count("known: ") == 1


def test_a_story_goes_on_to_the_end_and_tells_every_violation_at_its_call() -> None:
    case = parse(
        "mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "touch(0x3fe000, 0x2000)\n"
        "mremap(0x3ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1ff000)\n"
        "peek(0x3fe000, 0x1000)\n"
    )
    exhibit = exhibit_named("B-12-own-head")
    with exhibit.installed():
        told = story(case, exhibit.kernel)
    *_, move, peek = told.split("\n\n")
    assert move.index("when others-untouched is broken:\n") < move.index("when the call returns:\n")
    broken = [line.split()[1] for line in move.splitlines() if line.startswith("violation: ")]
    assert broken[:3] == ["largest-bite", "others-untouched", "leaf-has-vma"]
    assert broken.count("oracle-contents") == 2
    # What stays broken is not told again.
    assert peek.startswith("peek(")
    assert "violation: leaf-has-vma" not in peek


def test_a_description_lists_every_broken_rule_the_worst_first() -> None:
    case = parse(
        "mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "touch(0x3fe000, 0x2000)\n"
        "mremap(0x3ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1ff000)\n"
    )
    exhibit = exhibit_named("B-12-own-head")
    with exhibit.installed():
        head, _ = describe(case, exhibit.kernel).split("\n\n", 1)
    assert [line.split(":")[0] for line in head.splitlines()] == [
        "harm      I-07 others-untouched",
        "harm      I-04 leaf-has-vma",
        "harm      O-01 oracle-contents",
        "course    I-26 largest-bite",
    ]


def test_what_others_do_in_between_is_told_where_they_do_it() -> None:
    case = parse(
        "mmap(0x200000, 0x200000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "touch(0x200000, 0x1000)\n"
        "@at leave 1: touch(0x400000, 0x1000)\n"
        "@at leave 2: peek(0x400000, 0x1000)\n"
        "mremap(0x200000, 0x200000, 0x200000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x400000)\n"
    )
    told = story(case, kernel_named("linux-6.18"))
    assert "@at leave 1: touch(0x400000, 0x1000) = 0" in told
    assert "@at leave 2: peek(0x400000, 0x1000) = NEVER" in told
    moments = ("\nat leave:\n", "\ntouch(0x400000, 0x1000) = 0:\n", "\nwhen the call returns:\n")
    assert sorted(map(told.index, moments)) == list(map(told.index, moments))
    assert told.count("\nat leave:\n") == 1


def test_a_walk_that_stops_is_told_twice() -> None:
    case = load(ROOT / "corpus/museum/b-05-stale-tlb.case")
    told = story(case, kernel_named("linux-5.0"))
    stopped = "migrate_begin(0x0, SLOWLY) comes to the lock of a table:"
    assert (
        told.index(stopped)
        < told.index("at pmd-moved:")
        < told.index("migrate_begin(0x0, SLOWLY) = 0:")
    )
