"""A case as a program of syzkaller.

Addresses go to its area by slots of 2 MiB, so that they keep their alignment to slots; a case that
needs more than the area has does not fit.  What syzkaller has no call for is told.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from engine.base.address import WORD_MASK, round_up
from engine.base.kernel import Kernel
from engine.base.uapi import MADV_POPULATE_READ, MADV_POPULATE_WRITE
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case
from fuzz.showing import OK, showing
from fuzz.strace.rebase import Rebase, room
from fuzz.syz.area import AT, BASE, PAGE, SIZE, SLOT, UNMAPPED

CALLED = ("mmap", "munmap", "mprotect", "mremap", "madvise", "mlock", "munlock", "mlock2", "mseal")
# Nothing of syzkaller's is an access and nothing else; since Linux 5.14 this brings pages as one.
_ACCESSES = {"touch": MADV_POPULATE_WRITE, "peek": MADV_POPULATE_READ}


class DoesNotFit(Exception):
    """A case that syzkaller's area has no room for; the message says why."""


class Written(NamedTuple):
    """A program, the case that it is, in syzkaller's area, and what of the first one is not in it.

    `lost` says why, and how often.
    """

    text: str
    case: Case
    lost: Counter[str]


def as_syz(case: Case, kernel: Kernel) -> Written:
    """A case as a program of syzkaller, which says what became of its addresses and its finding.

    Errors raised: DoesNotFit; CaseError for a call that the model does not know.
    """
    lost: Counter[str] = Counter()
    calls = list(_calls(case, lost))
    rebase = _rebase(calls)
    moved: list[Call] = []
    for call in calls:
        there = _moved(call, rebase)
        if there is None:
            lost["a call about an address that is nowhere in its area, or within a page"] += 1
        else:
            moved.append(there)
    there_now = replace(Case(tuple(moved)), geometry=case.geometry)
    before, after = showing(case, kernel).rule, showing(there_now, kernel).rule
    notes = [rebase.told().replace("those of the log", "as they were")]
    if before != OK:
        shows = f"on {kernel.name} it shows {after}"
        notes.append(shows if after == before else f"{shows}, and not {before} as the case does")
    notes += [f"not in it: {number} {why}" for why, number in lost.most_common()]
    lines = [*(f"# {note}" for note in notes), UNMAPPED, *map(_line, moved)]
    return Written("".join(f"{line}\n" for line in lines), there_now, lost)


def _calls(case: Case, lost: Counter[str]) -> Iterator[Call]:
    """The calls that syzkaller has."""
    for call in case.calls:
        if call.name in CALLED:
            yield call._replace(result=None)
        elif advice := _ACCESSES.get(call.name):
            start, length = call.args
            first = start // PAGE * PAGE
            yield Call("madvise", (first, round_up(length + start - first, PAGE), advice))
        else:
            lost[f"{call.name}, which syzkaller has no call for"] += 1


def _rebase(calls: list[Call]) -> Rebase:
    """Where slots go.  Errors raised: DoesNotFit."""
    slots: set[int] = set()
    for call in calls:
        for start, length in _spans(call):
            if start < 1 << 47 and length <= 1 << 40:
                slots.update(range(start // SLOT, (start + max(length, 1) - 1) // SLOT + 1))
    needed, has = room(slots, SLOT, SIZE), SIZE // SLOT
    if needed > has:
        raise DoesNotFit(
            f"it needs {needed} slots of 2 MiB, free ones between them included; the area that "
            f"syzkaller's programs work in has {has}"
        )
    return Rebase(slots, SLOT, SIZE)


def _spans(call: Call) -> Iterator[tuple[int, int]]:
    """Start and length of the ranges that a call names."""
    declared = CALLS[call.name]
    if declared.span is not None:
        yield declared.span.of(call.args)
    if declared.target is not None and declared.target.named(call.args):
        yield call.args[declared.target.start], call.args[declared.target.length]


def _moved(call: Call, rebase: Rebase) -> Call | None:
    """A call in syzkaller's area; None: it cannot be there."""
    args = list(call.args)
    target = CALLS[call.name].target
    for index in CALLS[call.name].addresses:
        if target is not None and index == target.start and not target.named(args):
            continue
        place = rebase(args[index])
        if place is None or place % PAGE or place >= SIZE:
            return None
        args[index] = place + AT
    return call._replace(args=tuple(args))


def _line(call: Call) -> str:
    """A call of syzkaller's."""
    declared = CALLS[call.name]
    args = call.args
    spans = dict(_spans(call))
    operands = []
    for index, value in enumerate(args):
        if index in declared.addresses and value in spans:
            # The size of a range is its operand's alone, and stays in the area.
            size = min(max(round_up(spans[value], PAGE), PAGE), AT + SIZE - value)
            operands.append(f"&({BASE + value - AT:#x}/{size:#x})=nil")
        else:
            operands.append(f"{value & WORD_MASK:#x}")
    if call.name == "mseal":
        operands.append("0x0")
    return f"{call.name}({', '.join(operands)})"
