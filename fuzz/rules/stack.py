"""The stack that exec moves: when it may, where it goes, and what it meets on its way."""

from collections.abc import Iterable, Iterator, Sequence

from engine.base.address import Range, round_up
from engine.base.entry import PFN_SHIFT
from engine.base.points import (
    ENTER,
)
from engine.base.uapi import Errno
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_READ,
    VM_STACK_INCOMPLETE,
    VM_WRITE,
    Vma,
)
from fuzz.rules.errors import ERROR_ORDER
from fuzz.rules.mapping import MAPPING_KEPT
from fuzz.rules.rule import (
    CONTRACT,
    COURSE,
    ENGINE,
    HARM,
    VMAS,
    Rule,
    after,
    at,
    elsewhere,
)
from fuzz.rules.sight import (
    Moving,
    Sight,
    Snapshot,
)

EXEC_ALONE = Rule(
    "X-01",
    "exec-alone",
    "while exec moves the stack nothing else is mapped",
    "setup_arg_pages(); B-20",
    COURSE,
)

STACK_PLACED = Rule(
    "X-02",
    "stack-placed",
    "after exec the stack is at its new place, every page readable, no table outside its slots",
    "relocate_vma_down(), shift_arg_pages(); B-01",
    HARM,
)

STACK_WARN_COUNT = Rule(
    "X-03",
    "stack-warn-count",
    "the stack move finds an occupied entry exactly as often as its geometry predicts",
    "as I-01; B-01",
    COURSE,
)

STACK_PGOFF = Rule(
    "X-04",
    "stack-pgoff",
    "the stack's page offset is constant while it moves",
    "relocate_vma_down()",
    CONTRACT,
)

STACK_FITS = Rule(
    "X-05",
    "stack-fits",
    "a stack that does not fit is an error, not an assertion; one that does is none",
    "setup_arg_pages(), acct_stack_growth(); CVE-2010-3858, B-21",
    CONTRACT,
)

elsewhere(ENGINE, STACK_FITS)

_STACK = VM_READ | VM_WRITE | VM_GROWSDOWN | VM_ACCOUNT


@at((ENTER,), EXEC_ALONE)
def alone(sight: Moving) -> Iterable[Violation]:
    """The temporary stack of exec has no company."""
    move, there = sight.move, len(sight.space.vmas)
    if not move.for_stack or ~move.old_vma.flags & VM_STACK_INCOMPLETE or there == 1:
        return ()
    return (EXEC_ALONE.broken(move.old_vma.range, terms.count(there, "VMA"), "the stack only"),)


@after("execve_stack", ERROR_ORDER, before=VMAS)
def deserved(sight: Sight) -> Iterator[Violation]:
    """Is the result of a stack move the one that its operands deserve?"""
    before, result, (start, end, shift) = sight.before, sight.error, sight.args
    if result is Errno.E2BIG and before.scarce:
        return
    geometry = before.kernel.geometry
    lowest, top = before.arena.start + geometry.min_addr, end - shift
    if any(operand % geometry.page_bytes for operand in (start, end, shift)):
        deserved: Errno | None = Errno.EINVAL
    elif not start < end <= geometry.user_top:
        deserved = Errno.EINVAL
    elif top - (end - start) <= lowest:
        deserved = Errno.ENOMEM
    else:
        deserved = None
    yield from _stack_compared(before, start, end, deserved, result)


@after("relocate", ERROR_ORDER, before=VMAS)
def deserved_among_neighbours(sight: Sight) -> Iterator[Violation]:
    """The same for a stack move among neighbours: the way must be free, the VMA in use."""
    before, result, (start, end, shift) = sight.before, sight.error, sight.args
    geometry = before.kernel.geometry
    area = before.at(start)
    way = [(one.start, one.end) for one in before.inside(start - shift, end)]
    if any(operand % geometry.page_bytes for operand in (start, end, shift)) or start >= end:
        deserved: Errno | None = Errno.EINVAL
    elif start - shift < before.arena.start:
        deserved = Errno.EINVAL
    elif area is None or area.anon_vma is None or way != [(start, end)]:
        deserved = Errno.EFAULT
    else:
        deserved = None
    yield from _stack_compared(before, start, end, deserved, result)


def _stack_compared(
    before: Snapshot, start: int, end: int, deserved: Errno | None, result: Errno | None
) -> Iterator[Violation]:
    if result is not deserved and not (before.scarce and result in _SHORT):
        where = Range(min(start, end), max(start, end))
        yield ERROR_ORDER.broken(where, str(result or "success"), str(deserved or "success"))


_SHORT = frozenset((Errno.ENOMEM, Errno.EAGAIN))  # a limit or memory runs out


@after("execve_stack", STACK_FITS, before=VMAS)
def refused(sight: Sight) -> Iterator[Violation]:
    """The arguments of a program are too long only if they pass a limit, the most there may be."""
    space, result, (start, end, _) = sight.space, sight.error, sight.args
    limits = space.limits
    bounds = [limits.address_space, limits.commit, limits.request]
    if result is Errno.E2BIG and all(bound is None or end - start <= bound for bound in bounds):
        yield STACK_FITS.broken(
            Range(start, end), str(Errno.E2BIG), "a stack, which is within all limits"
        )


@after("execve_stack", MAPPING_KEPT, before=VMAS)
def mapping(sight: Sight) -> Iterator[Violation]:
    """A stack as every program gets it; or nothing, if it is too late to go back."""
    space, result, (start, end, _) = sight.space, sight.error, sight.args
    place = Range(start, max(start, end))
    vmas = list(space.vmas)
    if result is None and [vma.flags for vma in vmas] != [_STACK]:
        yield MAPPING_KEPT.broken(place, _told(space, vmas), f"one VMA with {terms.flags(_STACK)}")
    if result is Errno.ENOMEM and vmas:
        yield MAPPING_KEPT.broken(place, _told(space, vmas), "nothing mapped")


@after("execve_stack", STACK_PLACED, STACK_PGOFF, STACK_WARN_COUNT, before=VMAS)
def placed(sight: Sight) -> Iterator[Violation]:
    """Where a stack is that has moved, with which pages, and what it has met."""
    if sight.error is not None:
        return
    space, (start, end, shift), first_tag = sight.space, sight.args, sight.first_tag
    place = Range(start - shift, end - shift)
    shift_bits = space.geometry.page_shift
    vmas = list(space.vmas)
    if [vma.range for vma in vmas] != [place]:
        yield STACK_PLACED.broken(
            place, _told(space, vmas), f"one VMA in {terms.span(space.geometry, place)}"
        )
        return
    if vmas[0].pgoff != start >> shift_bits:
        found, due = (
            terms.page_offset(space.geometry, vmas[0].backing, pgoff)
            for pgoff in (vmas[0].pgoff, start >> shift_bits)
        )
        yield STACK_PGOFF.broken(place, f"page offset {found}", due)
    wanted = place.length >> shift_bits
    tags, present = space.frames.tag, 0
    misplaced: list[int] = []
    for base, held in space.tree.frozen().items():
        if isinstance(held, dict):
            offset = first_tag + ((base - place.start) >> shift_bits)
            present += len(held)
            misplaced += [i for i, e in held.items() if tags[e >> PFN_SHIFT] != i + offset]
    # Tags are consecutive, so pages of the right number with the right tags are all in place.
    if misplaced or present != wanted:
        yield STACK_PLACED.broken(
            place,
            f"{terms.count(present, 'page')}, {len(misplaced)} of them at a wrong place",
            f"{wanted} in their order",
        )
    expected = expected_stack_warnings(space, start, end, shift)
    if sight.occupied != expected:
        yield STACK_WARN_COUNT.broken(
            place, f"{terms.count(sight.occupied, 'occupied entry')}", str(expected)
        )


def _told(space: AddressSpace, vmas: Sequence[Vma]) -> str:
    return "; ".join(terms.vma(space.geometry, vma) for vma in vmas) or "nothing mapped"


def expected_stack_warnings(space: AddressSpace, start: int, end: int, shift: int) -> int:
    """How often a stack move finds its destination entry occupied, by arithmetic alone.

    At each level whose tables move whole: the first entry must be partial, so that its emptied
    table stays, and the shift k whole entries, k >= 1; then m whole entries above it meet
    floor(m / k) occupied ones.  Realignment makes the first slot whole, which ends it for PMD
    entries.  It does not look at PUD entries: a stack longer than a gigabyte, which no program has,
    would still meet them, but for a kernel that swaps empty tables.
    """
    kernel, geometry = space.kernel, space.geometry
    slot, mutual = geometry.slot_bytes, not shift % geometry.slot_bytes
    head = start % slot
    may_be_whole = head and mutual and end - start >= slot - head
    if may_be_whole and kernel.realign_stack:
        start -= head
    count = _occupied_entries(start, end, shift, slot) if kernel.move_pmd else 0
    if kernel.moves_puds() and (start % slot or not kernel.swaps_empty_pmd_table):
        count += _occupied_entries(start, end, shift, geometry.pud_bytes)
    return count


def _occupied_entries(start: int, end: int, shift: int, entry_bytes: int) -> int:
    if not start % entry_bytes or shift % entry_bytes or not shift:
        return 0
    return max(end - round_up(start, entry_bytes), 0) // entry_bytes // (shift // entry_bytes)
