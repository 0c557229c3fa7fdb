"""Flags of VMAs, after a call that gives all of a range the same: what it asked for, and no other.

Where the call fails, any part of the range may have got them.
"""

from collections.abc import Iterator

from engine.base.address import Range, round_down, round_up
from engine.base.uapi import (
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WIPEONFORK,
)
from engine.base.violation import Violation
from engine.state.vma import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_DROPPABLE,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKONFAULT,
    VM_MERGEABLE,
    VM_NOHUGEPAGE,
    VM_RAND_READ,
    VM_SEALED,
    VM_SEQ_READ,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
)
from fuzz.rules.rule import HARM, VMAS, Rule, after
from fuzz.rules.sight import Sight, clip, merged

FLAGS_SET = Rule(
    "S-17",
    "flags-set",
    "what mseal, mlock, munlock and advice ask for holds in all of their range, and only there",
    "mseal_apply(), apply_vma_lock_flags(), madvise_vma_behavior(); mseal() after a merge, 6.18",
    HARM,
)

_LOCKS = VM_LOCKED | VM_LOCKONFAULT
_READING = VM_RAND_READ | VM_SEQ_READ
_NEVER_LOCKED = VM_HUGETLB | VM_DROPPABLE | VM_SPECIAL
_NEVER_MERGEABLE = VM_SHARED | VM_DROPPABLE | VM_HUGETLB
# By advice: what is set, of what may be.
_ADVICE = {
    MADV_NORMAL: (0, _READING),
    MADV_RANDOM: (VM_RAND_READ, _READING),
    MADV_SEQUENTIAL: (VM_SEQ_READ, _READING),
    MADV_DONTFORK: (VM_DONTCOPY, VM_DONTCOPY),
    MADV_DOFORK: (0, VM_DONTCOPY),
    MADV_DONTDUMP: (VM_DONTDUMP, VM_DONTDUMP),
    MADV_DODUMP: (0, VM_DONTDUMP),
    MADV_WIPEONFORK: (VM_WIPEONFORK, VM_WIPEONFORK),
    MADV_KEEPONFORK: (0, VM_WIPEONFORK),
    MADV_MERGEABLE: (VM_MERGEABLE, VM_MERGEABLE),
    MADV_UNMERGEABLE: (0, VM_MERGEABLE),
    MADV_HUGEPAGE: (VM_HUGEPAGE, VM_HUGEPAGE | VM_NOHUGEPAGE),
    MADV_NOHUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE | VM_NOHUGEPAGE),
}


@after("mseal", FLAGS_SET, before=VMAS)
def sealed(sight: Sight) -> Iterator[Violation]:
    """All is sealed, whatever was before."""
    return _changed(sight, VM_SEALED, VM_SEALED)


@after("mlock", FLAGS_SET, before=VMAS)
def locked(sight: Sight) -> Iterator[Violation]:
    """All is locked, but for huge pages of hugetlb, which stay anyway, and what may be dropped."""
    return _changed(sight, VM_LOCKED, _LOCKS, but=_NEVER_LOCKED)


@after("mlock2", FLAGS_SET, before=VMAS)
def locked_somehow(sight: Sight) -> Iterator[Violation]:
    """The same, at once or as pages come in."""
    on_fault = VM_LOCKONFAULT if sight.args[2] else 0
    return _changed(sight, VM_LOCKED | on_fault, _LOCKS, but=_NEVER_LOCKED)


@after("munlock", FLAGS_SET, before=VMAS)
def unlocked(sight: Sight) -> Iterator[Violation]:
    """Nothing is."""
    return _changed(sight, 0, _LOCKS, but=_NEVER_LOCKED)


@after("madvise", FLAGS_SET, before=VMAS)
def advised(sight: Sight) -> Iterator[Violation]:
    """The advice is noted.  Only private memory that lasts can be merged with what is the same."""
    advice = sight.args[2]
    if advice in _ADVICE:
        flags, of = _ADVICE[advice]
        yield from _changed(sight, flags, of, but=_NEVER_MERGEABLE if of == VM_MERGEABLE else 0)


def _changed(sight: Sight, flags: int, of: int, but: int = 0) -> Iterator[Violation]:
    """Are VMAs what they were, but with `flags`, of those in `of`, in the range of the call?

    Arguments: `but` mappings with one of these flags stay what they are.
    """
    page, (start, length) = sight.before.geometry.page_bytes, sight.args[:2]
    where = Range(round_down(start, page), round_up(start + length, page))
    if sight.error is not None or not length or where.end > sight.before.geometry.word_mask:
        return
    were = sight.before.mapped
    inside = clip(were, where)
    if sum(m.end - m.start for m in inside) != where.length:
        yield FLAGS_SET.broken(where, "success", "an error: there is a hole")
        return
    due = [m if m.flags & but else m._replace(flags=m.flags & ~of | flags) for m in inside]
    low, high = Range(0, where.start), Range(where.end, sight.before.geometry.word_mask)
    wanted = merged([*clip(were, low), *due, *clip(were, high)])
    for found, right in zip(sight.after.mapped, wanted, strict=False):
        if found != right:
            yield FLAGS_SET.broken(
                Range(found.start, found.end),
                found.told(sight.before.geometry),
                right.told(sight.before.geometry),
            )
            return
