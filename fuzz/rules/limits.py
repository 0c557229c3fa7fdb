"""Rules on limits, reservations and failures: A-07 to A-10, I-27, S-10, X-05.

A limit that is set holds at every quiet moment, since each call that adds something asks first.
"""

from collections.abc import Iterator

from engine.base.address import Range
from engine.base.entry import ANON
from engine.base.failures import MAPS, PAGETABLE, VMA
from engine.base.uapi import Errno
from engine.base.violation import Violation
from engine.state.hugepool import POOL_PAGES, HugeFile, file_of
from engine.state.space import AddressSpace
from engine.state.vma import VM_HUGETLB, VM_SHARED
from fuzz.rules.leaves import Picture, count, picture


def check_limits(space: AddressSpace) -> Iterator[Violation]:
    """The counters of a space against its limits, and the pool of huge pages against its users."""
    yield from _within_limits(space)
    pool = space.pool
    if any(vma.flags & VM_HUGETLB for vma in space.vmas) or pool.reserved or pool.free < POOL_PAGES:
        yield from _reservations(space)


def _within_limits(space: AddressSpace) -> Iterator[Violation]:
    limits, shift = space.limits, space.geometry.page_shift
    if limits.address_space is None and limits.locked is None and limits.commit is None:
        return
    for rule, what, pages, limit in (
        ("limits-hold", "mapped", space.total_vm, limits.address_space),
        ("lock-limit-holds", "locked", space.locked_vm, limits.locked),
        ("limits-hold", "committed", space.committed, limits.commit),
    ):
        if limit is not None and pages << shift > limit:
            yield Violation(
                rule,
                space.arena,
                f"{pages << shift:#x} bytes {what}",
                f"at most {limit:#x}",
            )


def _reservations(space: AddressSpace) -> Iterator[Violation]:
    """A-07: what is promised, somebody owns; nothing is promised twice, or beyond what is free."""
    shared: dict[int, HugeFile] = {}
    owned = used = 0
    for vma in space.vmas:
        if vma.flags & VM_HUGETLB:
            file = file_of(vma)
            if vma.flags & VM_SHARED:
                shared[file.number] = file
            else:
                used += sum(1 for _ in space.tree.leaves(vma.start, vma.end))
            owned += file.promised_to(vma)
    owned += sum(file.promised for file in shared.values())
    used += sum(len(file.faulted) for file in shared.values())
    pool, free = space.pool, POOL_PAGES - used
    if (pool.reserved, pool.free) != (owned, free) or not 0 <= owned <= free:
        yield Violation(
            "hugetlb-reserve",
            space.arena,
            f"{pool.reserved} pages reserved, {pool.free} free",
            f"{owned} reserved, of {free} free",
        )


def check_failed_allocation(
    space: AddressSpace, before: Picture, *, anonymous: bool
) -> Iterator[Violation]:
    """I-27: a move that got no table has taken none away that others use (B-24).

    Arguments: `before` all leaves at the start of the move; `anonymous` only private pages count.
    """
    left = _pages(space, picture(space), anonymous=anonymous)
    were = _pages(space, before, anonymous=anonymous)
    if left < were:
        yield Violation(
            "failed-alloc-harmless",
            space.arena,
            f"{left} pages when a table could not be allocated",
            f"the {were} pages there were",
        )


def check_populated(space: AddressSpace, before: Picture, after: Picture) -> Iterator[Violation]:
    """S-10: a call that failed has brought no page in.

    Arguments: all leaves before and after the call.
    """
    were, now = _pages(space, before), _pages(space, after)
    if now > were:
        yield Violation(
            "populate-on-success",
            space.arena,
            f"{now} pages after an error",
            f"no more than the {were} before it",
        )


class Attempts:
    """What there is, and the attempts that are counted, before a call or a move."""

    __slots__ = ("_before", "_tables", "_vmas", "armed")

    def __init__(self, space: AddressSpace) -> None:
        failures = space.failures
        self.armed = failures.armed
        if self.armed:
            self._before = failures.left()
            self._vmas = list(space.vmas)  # kept, so that no other object gets its id
            self._tables = sum(space.tree.counts)

    def check_vmas(self, space: AddressSpace, *, splits: bool) -> Iterator[Violation]:
        """A-08 for a call: VMAs are allocated, and counted.

        Arguments: `splits` VMAs come about by cutting others only, each cut asked for by itself.
        """
        if not self.armed or self._before.keys().isdisjoint((VMA, MAPS)):
            return
        were = set(map(id, self._vmas))
        new = sum(id(vma) not in were for vma in space.vmas)
        more = len(space.vmas) - len(self._vmas) if splits else 0
        yield from self._asked(space, VMA, "VMAs", new)
        yield from self._asked(space, MAPS, "VMAs more", more)

    def check_tables(self, space: AddressSpace) -> Iterator[Violation]:
        """A-08 for a move, right after its loop."""
        if self.armed:
            more = sum(space.tree.counts) - self._tables
            yield from self._asked(space, PAGETABLE, "page tables", more)

    def _asked(self, space: AddressSpace, kind: str, what: str, made: int) -> Iterator[Violation]:
        """Nothing is had without asking: each attempt brings the failures to come one nearer."""
        before, after = self._before.get(kind, ()), space.failures.left().get(kind, ())
        if before and len(after) == len(before) and before[0] - after[0] < made:
            asked = before[0] - after[0]
            yield Violation(
                "allocation-asked",
                space.arena,
                f"{made} {what}, {asked} asked for",
                "no more than that",
            )


def check_refused_stack(
    space: AddressSpace, start: int, end: int, result: Errno | None
) -> Iterator[Violation]:
    """X-05: the arguments of a program are too long only if they pass a limit.

    Arguments: bytes of the stack; `result` of the exec.  A limit is the most there may be.
    """
    limits = space.limits
    bounds = [limits.address_space, limits.commit, limits.request]
    if result is Errno.E2BIG and all(bound is None or end - start <= bound for bound in bounds):
        yield Violation(
            "stack-fits", Range(start, end), "E2BIG", f"a stack, which is within {limits}"
        )


def _pages(space: AddressSpace, leaves: Picture, *, anonymous: bool = False) -> int:
    if space.uffds or anonymous:  # marks are no pages, and may go
        return count(space.geometry, leaves, ANON if anonymous else 0)
    in_slot = space.geometry.slot_pages
    return sum(in_slot if isinstance(held, int) else len(held) for held in leaves.values())
