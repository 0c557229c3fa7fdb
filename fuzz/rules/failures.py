"""What may run out, and does when a case says so."""

from collections.abc import Iterable, Iterator

from engine.base.entry import ANON
from engine.base.failures import MAPS, PAGETABLE, VMA
from engine.base.points import (
    ALLOC_FAILED,
    LEAVE,
)
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.table import Picture
from fuzz.calls.registry import that_do
from fuzz.calls.syscall import Does
from fuzz.rules.picture import count
from fuzz.rules.rule import (
    COURSE,
    HARM,
    SHORTAGE,
    Rule,
    at,
    on,
)
from fuzz.rules.sight import (
    Moving,
    Sight,
)

ALLOCATION_ASKED = Rule(
    "A-08",
    "allocation-asked",
    "no VMA and no page table is had without asking for it, which may be refused",
    "vm_area_dup(), __pte_alloc(), the map_count check of split_vma()",
    COURSE,
)

FAILED_ALLOC_HARMLESS = Rule(
    "I-27",
    "failed-alloc-harmless",
    "a table that cannot be allocated costs nobody else theirs",
    "alloc_new_pmd(); B-24",
    HARM,
)

_REPLACING, _MAPPING = that_do(Does.REPLACES), that_do(Does.MAPS)


@at((ALLOC_FAILED,), FAILED_ALLOC_HARMLESS)
def others_keep_theirs(sight: Moving) -> Iterator[Violation]:
    """A move that got no table has taken none away that others use (B-24).

    Only private pages count where shared ones went by a split.
    """
    space, before, anonymous = sight.space, sight.before, sight.unmapped
    left = page_count(space, space.tree.frozen(), anonymous=anonymous)
    were = page_count(space, before, anonymous=anonymous)
    if left < were:
        yield FAILED_ALLOC_HARMLESS.broken(
            space.arena,
            f"{terms.count(left, 'page')} when a table could not be allocated",
            f"the {were} that there were",
        )


@on(SHORTAGE, ALLOCATION_ASKED)
def vmas_asked_for(sight: Sight) -> Iterator[Violation]:
    """VMAs are allocated, and counted.

    But for calls that map something they come about by cutting others only, each cut asked for by
    itself.  munmap does not count the cut at its start, which remains if the rest stays mapped.
    An address space that exec makes is not asked for.
    """
    attempts, vmas = sight.attempts, sight.space.vmas
    if attempts is None or sight.call in _REPLACING or attempts.left.keys().isdisjoint((VMA, MAPS)):
        return
    were = set(map(id, attempts.vmas))
    yield from _asked(sight, VMA, "new VMA", sum(id(vma) not in were for vma in vmas))
    if sight.call not in _MAPPING:
        uncounted = sight.call == "munmap" and sight.error is not None
        more = len(vmas) - len(attempts.vmas) - uncounted
        yield from _asked(sight, MAPS, "additional VMA", more)


@at((LEAVE,), ALLOCATION_ASKED)
def tables_asked_for(sight: Moving) -> Iterable[Violation]:
    """The same for page tables, right after the loop of a move."""
    if sight.attempts is None:
        return ()
    more = sum(sight.space.tree.counts) - sight.attempts.tables
    return _asked(sight, PAGETABLE, "new page table", more)


def _asked(sight: Sight | Moving, kind: str, what: str, had: int) -> Iterator[Violation]:
    """Nothing is had without asking: each attempt brings the failures to come one nearer."""
    assert sight.attempts is not None
    asked = sight.attempts.made(sight.space.failures, kind)
    if asked is not None and asked < had:
        yield ALLOCATION_ASKED.broken(
            sight.space.arena,
            f"{terms.count(had, what)}, {asked} asked for",
            "no more than asked for",
        )


def page_count(space: AddressSpace, leaves: Picture, *, anonymous: bool = False) -> int:
    """How many pages a picture has; those of private memory only, if so asked."""
    if space.uffds or anonymous:  # marks are no pages, and may go
        return count(space.geometry, leaves, ANON if anonymous else 0)
    in_slot = space.geometry.slot_pages
    return sum(in_slot if isinstance(held, int) else len(held) for held in leaves.values())
