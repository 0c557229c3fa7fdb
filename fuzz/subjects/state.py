"""All that an address space is, in a form in which two kernels can be compared.

What is named by the order in which it was made is named by its place in memory here: frames by
what they hold, objects and anon_vmas by the first VMA that has them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from engine.base import entry
from engine.base.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    EXCLUSIVE,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    WRITE,
)
from engine.state import terms
from engine.state.backing import ANONYMOUS, Backing
from engine.state.space import AddressSpace
from engine.state.vma import UffdEvent

NONE = "-"
_K = TypeVar("_K")
_V = TypeVar("_V")
_ENTRY_FLAGS = (1 << PFN_SHIFT) - 1
_ORDINARY = (  # of an entry, needs no word if there is none on the other side
    PRESENT | WRITE | DIRTY | ACCESSED | SOFT_DIRTY | ANON | EXCLUSIVE
)
_ENTRY_NAMES = tuple(
    (bit, name.lower().replace("_", "-"))
    for name, bit in vars(entry).items()
    if isinstance(bit, int) and bit.bit_count() == 1 and bit <= _ENTRY_FLAGS
)


class Area(NamedTuple):
    """A VMA: bytes in the arena; `pgoff` in pages, of anonymous memory in the arena, too.

    `backing` and `anon_vma` by number, 0: none; `uffd` the features of its userfaultfd.
    """

    start: int
    end: int
    flags: int
    pgoff: int
    backing: int
    anon_vma: int
    uffd: int | None
    tracked: bool
    reserves: bool


class State(NamedTuple):
    """A state of an address space, what matters most first.

    `pages`: flags and content of each leaf, by the address that its table begins at and its level,
    and by index.  `objects`: the content of each page that an object behind a VMA has, by the
    number of the object and index.  `events`: what the monitor of a userfaultfd was told last, by
    its features.  `tlbs`: what other CPUs keep, by CPU and address: content, right to write, bytes.
    `counts`: the kernel's counters, by what they count and the line of /proc.  `tables`: how many
    entries each table has, and how many tables in store, by address and level.
    """

    pages: dict[tuple[int, int], dict[int, tuple[int, int]]]
    objects: dict[tuple[int, int], int]
    vmas: tuple[Area, ...]
    events: dict[int, tuple[UffdEvent, ...]]
    tlbs: dict[tuple[int, int], tuple[int, bool, int]]
    counts: dict[tuple[str, str], int]
    tables: dict[tuple[int, int], tuple[int, int]]


def state_of(space: AddressSpace) -> State:
    """The state that the space is in now."""
    tag, tree, pool = space.frames.tag, space.tree, space.pool
    numbers: dict[object, int] = {None: 0, ANONYMOUS: 0}
    areas = tuple(_areas(space, numbers))
    return State(
        {
            (base, table.level): {
                index: (leaf & _ENTRY_FLAGS, tag[leaf >> PFN_SHIFT])
                for index, leaf in table.leaves.items()
            }
            for base, table in tree.leaf_tables()
        },
        {
            (number, index): tag[frame]
            for backing, number in numbers.items()
            if isinstance(backing, Backing)
            for index, frame in backing.pages.items()
        },
        areas,
        {features: tuple(uffd.events) for features, uffd in space.uffds.items() if uffd.events},
        {at: (tag[kept.pfn], kept.writable, kept.reach) for at, kept in space.tlb.cached.items()},
        {
            terms.MAPPED: space.total_vm,
            terms.PEAK: max(space.hiwater_vm, space.total_vm),
            terms.LOCKED: space.locked_vm,
            terms.COMMITTED: space.committed,
            terms.RSS_ANON: tree.rss_anon,
            terms.RSS_SHMEM: tree.rss_shmem,
            terms.RSS_SWAP: tree.rss_swap,
            terms.FREE: pool.free,
            terms.RESERVED: pool.reserved,
        },
        {
            (base, table.level): (table.count, table.deposited)
            for base, table in tree.tables()
            if table is not tree.root
        },
    )


def _areas(space: AddressSpace, numbers: dict[object, int]) -> Iterator[Area]:
    """The VMAs.  Arguments: `numbers` of objects and anon_vmas; new ones are added."""
    base, shift = space.arena.start, space.geometry.page_shift
    for vma in space.vmas:
        yield Area(
            vma.start - base,
            vma.end - base,
            vma.flags,
            vma.pgoff - (base >> shift if vma.is_anonymous else 0),
            numbers.setdefault(vma.backing, len(numbers)),
            numbers.setdefault(vma.anon_vma, len(numbers)),
            None if vma.uffd is None else vma.uffd.features,
            vma.tracked,
            vma.reserves,
        )


def differing(first: State, second: State) -> str | None:
    """The field that matters most of those in which two states differ; None: they are alike."""
    if first == second:
        return None
    return next(name for name in State._fields if getattr(first, name) != getattr(second, name))


class Item(NamedTuple):
    """One thing that differs: what it is, and how it is in either state."""

    what: str
    first: str
    second: str


def items(first: State, second: State, space: AddressSpace) -> Iterator[Item]:
    """What differs, what matters most first.  Arguments: `space` of the same geometry."""
    base, shift = space.arena.start, space.geometry.entry_shift
    for table, index in sorted({*_leaves(first), *_leaves(second)}):
        one, other = (side.pages.get(table, {}).get(index) for side in (first, second))
        if one != other:
            address = table[0] + (index << shift[table[1]]) - base
            common = one[0] & other[0] if one and other else _ORDINARY
            yield Item(f"page {address:#x}", _leaf(one, common), _leaf(other, common))
    for (number, index), *held in _apart(first.objects, second.objects):
        yield Item(f"page {index} of object {number}", *(_content(tag) for tag in held))
    areas = ({area.start: area for area in side.vmas} for side in (first, second))
    for start, *both in _apart(*areas):
        yield Item(f"VMA at {start:#x}", *_areas_told(*both))
    for features, *events in _apart(first.events, second.events):
        yield Item(
            f"userfaultfd, {terms.features(features)}", *(_events(told, base) for told in events)
        )
    for (cpu, address), *kept in _apart(first.tlbs, second.tlbs):
        where = f"CPU {cpu}'s TLB at {address - base:#x}"
        yield Item(where, *(_translation(one) for one in kept))
    for (what, line), *counts in _apart(first.counts, second.counts):
        yield Item(f"pages {what} ({line})", *map(str, counts))
    for (address, level), *tables in _apart(first.tables, second.tables):
        where = f"{terms.LEVELS[level]} table at {max(address - base, 0):#x}"
        yield Item(where, *(_table(one) for one in tables))


def _apart(
    first: Mapping[_K, _V], second: Mapping[_K, _V]
) -> Iterator[tuple[_K, _V | None, _V | None]]:
    """The keys, in order, that have not the same on both sides, and what they have."""
    for key in sorted({*first, *second}):  # type: ignore[type-var]
        one, other = first.get(key), second.get(key)
        if one != other:
            yield key, one, other


def _leaves(state: State) -> Iterator[tuple[tuple[int, int], int]]:
    return ((table, index) for table, leaves in state.pages.items() for index in leaves)


def _leaf(leaf: tuple[int, int] | None, common: int) -> str:
    """A leaf, without some flags."""
    if leaf is None:
        return NONE
    flags, content = leaf
    named = [name for bit, name in _ENTRY_NAMES if flags & ~common & bit]
    return ", ".join([f"content {content}", *named])


def _areas_told(first: Area | None, second: Area | None) -> tuple[str, str]:
    """Two VMAs that start at the same address, or one alone: in what they differ."""
    if first is None or second is None:
        return _area(first), _area(second)
    fields = [name for name in Area._fields if getattr(first, name) != getattr(second, name)]
    common = first.flags & second.flags
    return _area(first, fields, common), _area(second, fields, common)


def _area(area: Area | None, fields: Iterable[str] = ("end", "flags"), common: int = 0) -> str:
    return ", ".join(_part(area, name, common) for name in fields) if area else NONE


def _part(area: Area, name: str, common: int) -> str:
    value = getattr(area, name)
    match name:
        case "flags":
            return terms.flags(value & ~common)
        case "end":
            return f"up to {value:#x}"
        case "pgoff":
            return f"page offset {value:#x}"
        case "anon_vma" if not value:
            return "no anon_vma"
        case "backing":
            return f"object {value}" if value else str(ANONYMOUS)
        case "uffd":
            return "no userfaultfd" if value is None else f"userfaultfd, {terms.features(value)}"
        case "tracked":
            return "writes are tracked" if value else "writes are not tracked"
        case "reserves":
            return "has its reservations" if value else "has no reservations"
        case _:
            return f"{name} {value}"


def _content(tag: int | None) -> str:
    return NONE if tag is None else f"content {tag}"


def _events(told: tuple[UffdEvent, ...] | None, base: int) -> str:
    return ", ".join(f"{what} {where.start - base:#x}" for what, where, _ in told or ()) or NONE


def _translation(kept: tuple[int, bool, int] | None) -> str:
    return f"content {kept[0]}, {'writable' if kept[1] else 'read-only'}" if kept else NONE


def _table(held: tuple[int, int] | None) -> str:
    if held is None:
        return NONE
    return terms.count(held[0], "entry") + (f", {held[1]} in store" if held[1] else "")
