"""What a run breaks is put down to the right defect, and no other bug hides behind one."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.base.address import Range
from engine.base.entry import UFFD_WP
from engine.base.kernel import Kernel, kernel_named, releases
from engine.base.uapi import Errno
from engine.base.violation import Violation
from engine.pages.protect import change_entries
from engine.remap import Remap
from engine.state.space import AddressSpace
from engine.state.vma import VM_DONTCOPY, VM_LOCKED
from fuzz.case import Case
from fuzz.defects.attribute import Execute, Rules, Runs, deciding, findings
from fuzz.defects.catalogue import EXHIBITS
from fuzz.defects.defect import Change, Defect
from fuzz.defects.known import KNOWN, repaired
from fuzz.execute import Outcome, execute
from fuzz.forms.text import load, parse
from fuzz.showing import kernel_for, showing
from tests.lib.constants import ROOT

each_defect = pytest.mark.parametrize("defect", KNOWN, ids=lambda known: known.id)


def shown_by(defect: Defect) -> tuple[Case, Kernel]:
    """The case that shows a defect, and a kernel that has it."""
    case = load(ROOT / "corpus" / f"{defect.case}.case")
    return case, kernel_for(case, defect.shown_on)


# --- Second bugs, planted -------------------------------------------------------------------------

Spoil = Callable[[AddressSpace, Range], None]


def behind_mremap(spoil: Spoil) -> Change:
    """Each mremap() does that when it is done, to the place that it leaves its result at."""

    def make(original: Any) -> Any:
        def do_mremap(remap: Remap, *, differ: bool) -> int | Errno:
            result: int | Errno = original(remap, differ=differ)
            start = remap.addr if isinstance(result, Errno) else result
            spoil(remap.space, Range(start, start + remap.new_len))
            return result

        return do_mremap

    return Change("engine.mremap:do_mremap", make)


def leaks_charge(space: AddressSpace, _: Range) -> None:
    space.committed += space.geometry.page_bytes


def miscounts_locks(space: AddressSpace, _: Range) -> None:
    space.locked_vm += space.geometry.page_bytes


def loses_reservation(space: AddressSpace, _: Range) -> None:
    space.pool.reserved -= 2


def takes_reservations(space: AddressSpace, _: Range) -> None:
    for vma in space.vmas:
        vma.reserves = False


def shifts_pgoff(space: AddressSpace, _: Range) -> None:
    for vma in space.vmas:
        if vma.anon_vma is None:
            vma.pgoff += 7


def unlinks(space: AddressSpace, _: Range) -> None:
    for vma in space.vmas:
        vma.anon_vma = None


def changes_flags(space: AddressSpace, _: Range) -> None:
    for vma in space.vmas:
        vma.flags ^= VM_DONTCOPY


def unlocks(space: AddressSpace, _: Range) -> None:
    for vma in space.vmas:
        vma.flags &= ~VM_LOCKED


def marks(space: AddressSpace, _: Range) -> None:
    change_entries(space, *space.arena, lambda entries: [entry | UFFD_WP for entry in entries])


def unmarks(space: AddressSpace, _: Range) -> None:
    change_entries(space, *space.arena, lambda entries: [entry & ~UFFD_WP for entry in entries])


def unregisters(space: AddressSpace, there: Range) -> None:
    for vma in space.vmas:
        if not there.start <= vma.start < there.end:
            vma.uffd = None


# What breaks a rule that is checked.  Others are reported by the model itself.
SPOILS: dict[str, Spoil] = {
    "committed": leaks_charge,
    "limits-hold": leaks_charge,
    "locked-vm": miscounts_locks,
    "hugetlb-reserve": loses_reservation,
    "reservation-kept": takes_reservations,
    "unfaulted-pgoff": shifts_pgoff,
    "anon-vma-linked": unlinks,
    "dontunmap-source": changes_flags,
    "error-traceless": changes_flags,
    "lock-kept": unlocks,
    "uffd-wp-stray": marks,
    "rollback-keeps-wp": unmarks,
    "uffd-kept-elsewhere": unregisters,
}


def space_of(*operands: Any) -> AddressSpace:
    """The address space that a function of the engine works on."""
    found = next((one for one in operands if isinstance(one, AddressSpace)), None)
    return found if found is not None else operands[0].space


def reports(rule: str) -> Spoil:
    """An assertion of the model that fails."""

    def spoil(space: AddressSpace, where: Range) -> None:
        space.report(Violation(rule, where, "this", "that"))

    return spoil


def second_bug(rule: str, call: str, spoil: Spoil | None = None) -> Change:
    """A bug that breaks a rule in calls of that name, and that no kernel has."""
    if call == "mremap":
        return behind_mremap(spoil or reports(rule))

    def make(original: Any) -> Any:
        def seam(*operands: Any) -> Any:
            reports(rule)(space_of(*operands), Range(0, 1))
            return original(*operands)

        return seam

    targets = {
        "execve_stack": "engine.stack:fits",
        "relocate": "engine.move:_move_table",
        "mmap": "engine.calls.mmap:_check_type",
    }
    return Change(targets[call], make)


@each_defect
def test_a_second_bug_that_breaks_the_same_rule_in_the_same_call_is_unknown(defect: Defect) -> None:
    case, kernel = shown_by(defect)
    alone = showing(case, kernel)
    known = next(one for one in alone.findings if one.bucket.defect == defect.id)
    index = next(index for index, found in known.broken if found.rule == defect.rule)
    assert all(one.bucket.defect for one in alone.findings)

    with second_bug(defect.rule, case.calls[index].name, SPOILS.get(defect.rule)).applied():
        both = showing(case, kernel).findings
        assert both[0].bucket.defect == ""
        assert (index, defect.rule) in {found.key for found in both[0].broken}
    assert showing(case, kernel).findings == alone.findings


@pytest.mark.parametrize(
    "defect",
    # A stack that `relocate` moves takes its surroundings along: there is no second one.  What an
    # mmap leaks is looked for behind the last call: there is none before it.
    [known for known in KNOWN if known.id not in ("hypothetical", "refused-mmap-leak")],
    ids=lambda known: known.id,
)
def test_a_known_defect_shows_before_a_second_bug_that_breaks_the_same_rule(defect: Defect) -> None:
    """The second bug needs a mapping at a place of its own, and comes last."""
    case, kernel = shown_by(defect)
    index = next(index for index, found in showing(case, kernel).violations)
    name = case.calls[index].name
    move = "mremap(0x70000000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x70010000)\n"
    again = parse(move).calls if name == "mremap" else (case.calls[index],)
    both = case.with_calls((*case.calls, *again))
    later = second_bug(defect.rule, name)

    def make(original: Any) -> Any:
        planted, calls = later.make(original), 0

        def counted(*operands: Any, **how: Any) -> Any:
            nonlocal calls
            calls += 1
            return (planted if calls == total else original)(*operands, **how)

        return counted

    total = sum(call.name == name for call in both.calls)
    runs = Runs(both, changed(Change(later.target, make)))
    unknown, *known = findings(runs, kernel)
    assert unknown.bucket.defect == ""
    assert {found.call for found in unknown.broken} == {len(both.calls) - 1}
    assert defect.id in {one.bucket.defect for one in known}


@each_defect
def test_only_what_is_in_question_is_asked_and_that_says_the_same(defect: Defect) -> None:
    case, kernel = shown_by(defect)
    asked: list[Rules] = []

    def everything(case: Case, kernel: Kernel, *, rules: Rules, until: int | None) -> Outcome:
        asked.append(rules)
        return execute(case, kernel, stop=False)

    def in_question(case: Case, kernel: Kernel, *, rules: Rules, until: int | None) -> Outcome:
        return execute(case, kernel, stop=False, rules=rules, until=until)

    found = findings(Runs(case, in_question), kernel)
    assert repr(found) == repr(findings(Runs(case, everything), kernel))
    broken = {one.rule for shown in found for _, one in shown.broken}
    assert asked[0] is None
    assert set(asked[1:]) == {frozenset(broken)}


def test_a_run_in_which_fewer_rules_were_asked_is_no_answer() -> None:
    asked: list[Rules] = []

    def run(case: Case, kernel: Kernel, *, rules: Rules, until: int | None) -> Outcome:
        asked.append(rules)
        return execute(case, kernel, stop=False, rules=rules)

    runs, kernel = Runs(parse(SHRINKS), run), kernel_named("linux-6.18")
    one, both = frozenset({"tlb-after"}), frozenset({"tlb-after", "committed"})
    assert runs.on(kernel, one).broken == frozenset()
    assert runs.on(kernel, one) is runs.on(kernel, one)
    assert {rule for _, rule in runs.on(kernel, both).broken} == {"committed"}
    assert runs.on(kernel, one) is not runs.on(kernel, both)
    assert runs.on(kernel).broken == runs.on(kernel, both).broken
    assert asked == [one, both, None]


def test_a_run_that_ended_earlier_is_no_answer() -> None:
    ends: list[int | None] = []

    def run(case: Case, kernel: Kernel, *, rules: Rules, until: int | None) -> Outcome:
        ends.append(until)
        return execute(case, kernel, stop=False, until=until)

    runs, kernel = Runs(parse(SHRINKS), run), kernel_named("linux-6.18")
    last = len(runs.case.calls) - 1
    assert len(runs.on(kernel, until=0).results) == 1
    assert runs.on(kernel, until=0) is runs.on(kernel, until=0)
    assert runs.on(kernel, until=last).broken
    assert runs.on(kernel, until=0) is not runs.on(kernel, until=last)
    assert runs.on(kernel).broken == runs.on(kernel, until=last).broken
    assert ends == [0, last, None]


def buckets(program: str, kernel: str) -> list[str]:
    return [one.bucket.name for one in showing(parse(program), kernel_named(kernel)).findings]


SHRINKS = (
    "mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "mremap(0x10000, 0x4000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000)\n"
)


def test_each_known_defect_is_a_finding_and_the_worst_comes_first() -> None:
    pgoff = (ROOT / "corpus" / "museum" / "b-32-pgoff-kept.case").read_text()
    pgoff = "".join(line for line in pgoff.splitlines(True) if line[0] not in "#@")
    assert buckets(pgoff + SHRINKS, "linux-6.18") == [
        "committed--mremap--shrink-leak",
        "unfaulted-pgoff--mremap--B-32",
    ]
    assert buckets(pgoff + SHRINKS, "linux-7.3") == []


def test_what_only_several_repairs_make_vanish_is_put_down_to_all_of_them() -> None:
    """Of three locked pages one is moved away; the copy counts twice, the others are unlocked."""
    program = (
        "mmap(0x0, 0x3000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED)\n"
        "mremap(0x0, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x10000)\n"
    )
    assert "locked-vm--mremap--B-34+dontunmap-unlocks" in buckets(program, "linux-6.18")
    assert buckets(program, "linux-6.18-dontunmap_counts_locked") == [
        "locked-vm--mremap--dontunmap-unlocks"
    ]


def test_what_stays_broken_belongs_to_who_has_broken_it() -> None:
    """Another leak on top is no finding of both."""
    again = GROWS.replace("0x200000)", "0x7000000)").replace(
        "mremap(", "@fail pagetable 1\nmremap("
    )
    assert buckets(SHRINKS + again, "linux-6.18") == ["committed--mremap--shrink-leak"]
    assert buckets(again, "linux-6.18") == ["committed--mremap--B-37"]


def changed(change: Change) -> Execute:
    """Run a program with a bug in the engine, put there anew each time."""

    def run(case: Case, kernel: Kernel, *, rules: Rules, until: int | None) -> Outcome:
        with change.applied():
            return execute(case, kernel, stop=False, rules=rules, until=until)

    return run


@pytest.mark.parametrize("exhibit", [e for e in EXHIBITS if e.change], ids=lambda e: e.name)
def test_no_bug_of_the_past_hides_behind_a_known_defect(exhibit: Defect) -> None:
    """Also on a kernel that has many."""
    case = load(ROOT / "corpus" / "museum" / exhibit.file)
    for kernel in (exhibit.correct, kernel_named("linux-6.18").on(exhibit.correct.geometry)):
        known = {one.bucket for one in showing(case, kernel).findings}
        with exhibit.installed():
            findings = showing(case, kernel).findings
        assert all(not one.bucket.defect or one.bucket in known for one in findings)


GROWS = (
    "mmap(0x0, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "touch(0x0, 0x1000)\n"
    "mremap(0x0, 0x1000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x200000)\n"
)
FAILS = GROWS.replace("mremap(", "@fail pagetable 1\nmremap(")
KEEPS_LOCKED = (
    "mmap(0x0, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED)\n"
    "mremap(0x0, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x10000)\n"
)
PART_OF_HUGETLB = (
    "mmap(0x0, 0x400000, PROT_READ|PROT_WRITE, "
    "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_HUGETLB)\n"
    "mremap(0x0, 0x200000, 0x200000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000000)\n"
)


@pytest.mark.parametrize(
    ("program", "spoil", "function"),
    [
        (GROWS, leaks_charge, "engine.mremap:do_mremap"),
        (GROWS, leaks_charge, "engine.move_vma:copy_vma"),
        (GROWS, leaks_charge, "engine.move_vma:_unmap_moved"),
        (FAILS, leaks_charge, "engine.mremap:do_mremap"),
        (FAILS, leaks_charge, "engine.move_vma:copy_vma"),
        (FAILS, leaks_charge, "engine.move_vma:_move_back"),
        (FAILS, leaks_charge, "engine.move_vma:_unmap_moved"),
        (KEEPS_LOCKED, miscounts_locks, "engine.mremap:do_mremap"),
        (KEEPS_LOCKED, miscounts_locks, "engine.move_vma:copy_vma"),
        (PART_OF_HUGETLB, loses_reservation, "engine.mremap:do_mremap"),
        (PART_OF_HUGETLB, loses_reservation, "engine.move_vma:copy_vma"),
        (PART_OF_HUGETLB, loses_reservation, "engine.move_vma:_unmap_moved"),
    ],
)
def test_what_is_leaked_or_miscounted_anywhere_in_a_call_is_unknown(
    program: str, spoil: Spoil, function: str
) -> None:
    def make(original: Any) -> Any:
        def spoiled(*operands: Any, **how: Any) -> Any:
            result = original(*operands, **how)
            spoil(space_of(*operands), Range(0, 1))
            return result

        return spoiled

    case, kernel = parse(program), kernel_named("linux-6.18")
    known = {one.bucket for one in showing(case, kernel).findings}
    assert all(bucket.defect for bucket in known)
    with Change(function, make).applied():
        found = showing(case, kernel).found
    assert found is not None
    assert not found.bucket.defect


# --- Several kernels ------------------------------------------------------------------------------


def test_what_decides_a_repair_is_known() -> None:
    """Kernels that have it alike are repaired alike, of one defect and of all."""
    twins = [
        (kernel, [repaired(kernel), *(defect.repaired_on(kernel) for defect in KNOWN)])
        for kernel in releases()
    ]
    needed = False
    for switch, decisive in deciding().items():
        set_so: dict[tuple[bool, ...], tuple[bool, ...]] = {}
        alone: dict[bool, tuple[bool, ...]] = {}
        for kernel, repairs in twins:
            after = tuple(getattr(twin, switch) for twin in repairs)
            what = tuple(getattr(kernel, name) for name in sorted(decisive))
            assert set_so.setdefault(what, after) == after, f"{switch} on {kernel.name}"
            needed |= alone.setdefault(getattr(kernel, switch), after) != after
    assert needed, "else the switch alone would do"
