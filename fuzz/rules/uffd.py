"""userfaultfd: what is registered and write-protected, and what monitors are told."""

from collections.abc import Iterator

from engine.base.address import Range
from engine.base.entry import (
    PFN_SHIFT,
    UFFD_WP,
)
from engine.base.uapi import (
    UFFD_FEATURE_EVENT_FORK,
    UFFD_FEATURE_EVENT_REMAP,
    UFFD_FEATURE_EVENT_REMOVE,
    UFFD_FEATURE_EVENT_UNMAP,
)
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_UFFD,
    VM_UFFD_PROTECTED,
    UffdContext,
    UffdEvent,
)
from fuzz.rules.rule import CONTRACT, HARM, LEAVES, STATE, Rule, after, on
from fuzz.rules.sight import Sight, Snapshot
from fuzz.rules.view import State

UFFD_WP_STRAY = Rule(
    "I-22",
    "uffd-wp-stray",
    "no entry is write-protected for a userfaultfd that its mapping is not registered with",
    "move_ptes(), 0cef0bb836e3; B-07",
    CONTRACT,
)

ROLLBACK_KEEPS_WP = Rule(
    "I-30",
    "rollback-keeps-wp",
    "what is write-protected for a userfaultfd stays so when a move fails",
    "move_ptes(), 0cef0bb836e3: cleared on the way there, not set on the way back",
    HARM,
)

UFFD_CHANGING = Rule(
    "S-09",
    "uffd-changing",
    "userfaultfd hears of what happened where it watches and of nothing else, then may go on",
    "mremap_userfaultfd_prep(), mmap_changing; B-54",
    CONTRACT,
)

UFFD_KEPT_ELSEWHERE = Rule(
    "S-12",
    "uffd-kept-elsewhere",
    "a move leaves the registrations of other memory with userfaultfd alone",
    "mremap_userfaultfd_prep(), vma_merge()",
    HARM,
)

_EVENTS = {
    "remap": UFFD_FEATURE_EVENT_REMAP,
    "unmap": UFFD_FEATURE_EVENT_UNMAP,
    "remove": UFFD_FEATURE_EVENT_REMOVE,
    "fork": UFFD_FEATURE_EVENT_FORK,
}


@on(STATE, UFFD_CHANGING)
def registered(state: State) -> Iterator[Violation]:
    """A VMA that a userfaultfd watches says for what."""
    for vma in state.vmas:
        if (vma.uffd is None) != (not vma.flags & VM_UFFD):
            yield UFFD_CHANGING.broken(
                vma.range,
                f"{terms.userfaultfd(vma.uffd)}, and {terms.flags(vma.flags & VM_UFFD)}",
                "a userfaultfd and what it waits for, or neither",
            )


@on(STATE, UFFD_CHANGING)
def pending(state: State) -> Iterator[Violation]:
    """Between calls no change is pending, and a monitor was told what it asked for."""
    for context in state.space.uffds.values():
        if context.changing:
            yield UFFD_CHANGING.broken(
                state.space.arena,
                f"{terms.userfaultfd(context)}, {terms.count(context.changing, 'change')} pending",
                "none between calls",
            )
        for kind, where, _ in context.events:
            if not context.features & _EVENTS[kind]:
                yield UFFD_CHANGING.broken(
                    where,
                    f"{terms.userfaultfd(context)}, told of UFFD_EVENT_{kind.upper()}",
                    "only what it asked for",
                )


@after("mremap", UFFD_CHANGING, ROLLBACK_KEEPS_WP, before=LEAVES)
def failed(sight: Sight) -> Iterator[Violation]:
    """After a call that failed memory that is still registered is write-protected where it was, and
    nobody was told of a move."""
    if sight.error is None or not sight.before.events:
        return
    space, before = sight.space, sight.before
    protected = before.protected
    if protected:
        lost = [
            addr
            for addr in sorted(protected - sight.after.protected)
            if (vma := space.vmas.lookup(addr)) is not None and vma.flags & VM_UFFD_PROTECTED
        ]
        if lost:
            yield ROLLBACK_KEEPS_WP.broken(
                Range(lost[0], lost[-1] + space.geometry.page_bytes),
                f"{terms.count(len(lost), 'entry')} without uffd-wp",
                "what userfaultfd write-protects to stay so when a call fails",
            )
    for context in space.uffds.values():
        if context.events is before.events.get(context):
            continue  # refused before anything was to be told
        for kind, where, _ in context.events:
            if kind == "remap":
                yield UFFD_CHANGING.broken(
                    where, "UFFD_EVENT_REMAP, of a move that failed", "no event"
                )


@after("mremap", UFFD_KEPT_ELSEWHERE, UFFD_WP_STRAY, UFFD_CHANGING, before=LEAVES)
def moved(sight: Sight) -> Iterator[Violation]:
    """A move takes the registration along, or ends it; nothing else is registered differently."""
    space, before, request, result = sight.space, sight.before, sight.request, sight.address
    if result is None or not before.events:
        return
    source, asked = sight.sides
    target = Range(result, result + asked.length)
    was, now = (_outside(r, [source, target]) for r in (before.registered, sight.after.registered))
    if was != now:
        yield UFFD_KEPT_ELSEWHERE.broken(
            target,
            f"{terms.spans(space.geometry, [where for where, *_ in now])} registered outside of it",
            terms.spans(space.geometry, [where for where, *_ in was]),
        )
    if result == request.addr:
        return
    for vma in space.vmas.intersecting(target.start, target.end):
        if not vma.flags & VM_UFFD_PROTECTED:
            low, high = max(vma.start, target.start), min(vma.end, target.end)
            yield from _new_stray(space, before, low, high)
    # A tail is cut off before.
    went = Range(source.start, source.start + min(source.length, target.length))
    yield from _check_events(sight, went, target)


def _new_stray(space: AddressSpace, before: Snapshot, start: int, end: int) -> Iterator[Violation]:
    for base, table, indices in space.tree.lowest(start, end):
        shift = space.geometry.entry_shift[table.level]
        for index in indices:
            entry = table.leaves[index]
            if entry & UFFD_WP and entry >> PFN_SHIFT not in before.stray:
                addr = base + (index << shift)
                yield UFFD_WP_STRAY.broken(
                    Range(addr, addr + (1 << shift)),
                    terms.entry(entry),
                    "none where userfaultfd does not write-protect",
                )
                return


def _outside(
    registered: list[tuple[Range, int, UffdContext]], touched: list[Range]
) -> list[tuple[Range, int, UffdContext]]:
    """Registrations with some ranges cut out; what adjoins and looks alike is joined."""
    parts = registered
    for hole in touched:
        if hole.length > 0:
            parts = [
                (Range(low, high), flags, context)
                for where, flags, context in parts
                for low, high in (
                    (where.start, min(where.end, hole.start)),
                    (max(where.start, hole.end), where.end),
                )
                if low < high
            ]
    joined: list[tuple[Range, int, UffdContext]] = []
    for where, flags, context in parts:
        if joined and joined[-1][0].end == where.start and joined[-1][1:] == (flags, context):
            where = Range(joined.pop()[0].start, where.end)
        joined.append((where, flags, context))
    return joined


def _check_events(sight: Sight, source: Range, target: Range) -> Iterator[Violation]:
    """What was registered hears of its move, and of what the destination lost.

    What is cut off before counts as moved, until 6.16.
    """
    now, kernel = sight.after.registered, sight.space.kernel
    for where, flags, context in sight.before.registered:
        if where.overlaps(target) and context.features & UFFD_FEATURE_EVENT_UNMAP:
            lost = Range(max(where.start, target.start), min(where.end, target.end))
            named = [at for kind, at, _ in context.events if kind == "unmap"]
            # Gaps between several VMAs stay at the destination what they were.
            stayed = [at for at, f, c in now if (f, c) == (flags, context)]
            if not _covered(lost, named) and not (
                _covered(lost, named + stayed) and kernel.multi_vma_move
            ):
                yield _no_event("unmap", lost, context)
        if not where.overlaps(source) or not context.features & UFFD_FEATURE_EVENT_REMAP:
            continue
        if where.contains(source):
            asked = sight.sides[0].length if kernel.remap_event_as_asked else source.length
            due = UffdEvent("remap", Range(target.start, target.start + asked), source.start)
            if due not in context.events:
                yield _no_event("remap", due.where, context)
        elif not any(_tells_of(target, kind, at) for kind, at, _ in context.events):
            yield _no_event("remap", target, context)


def _tells_of(target: Range, kind: str, at: Range) -> bool:
    """Is an event that of a move of several to `target`, or of a part of it?"""
    return kind == "remap" and target.contains(at)


def _covered(lost: Range, by: list[Range]) -> bool:
    """Do some ranges together cover all of another?"""
    start = lost.start
    for at in sorted(by):
        if at.start <= start:
            start = max(start, at.end)
    return start >= lost.end


def _no_event(kind: str, where: Range, context: UffdContext) -> Violation:
    return UFFD_CHANGING.broken(
        where,
        f"no UFFD_EVENT_{kind.upper()}",
        f"one for {terms.userfaultfd(context)}",
    )
