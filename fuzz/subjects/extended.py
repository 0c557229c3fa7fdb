"""What else a program showed: the optional fields of an observation, as the model has them.

They are what /proc/PID/pagemap, smaps and status tell at the end of a program and what its
userfaultfds were told on the way, all as arena offsets:

- `wp`: runs [first page, pages] whose entry or marker is write-protected for a userfaultfd
- `sd`: runs that have an entry and are soft-dirty, by that or since their VMA has not been cleared
- `flags`: of each VMA those of `FLAGS` that it has, by the names of smaps
- `locked`, `swapped`: VmLck and VmSwap, KiB
- `committed_pages`: what the program, without its children, adds to Committed_AS
- `used_huge`, `reserved_huge`: huge pages that it took from the pool, and that are promised to it
  (HugePages_Free, HugePages_Rsvd)
- `events`: ["remap", from, to, bytes], ["unmap", start, end], ["remove", start, end], ["fork"]
"""

from collections.abc import Iterable, Iterator

from engine.base.entry import HUGE_WP_MARKER, SOFT_DIRTY, SWAP, UFFD_WP
from engine.state.backing import Shmem
from engine.state.hugepool import POOL_PAGES
from engine.state.space import AddressSpace
from engine.state.vma import (
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_NORESERVE,
    VM_SEALED,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_RWP,
    VM_UFFD_WP,
    UffdEvent,
    Vma,
)

# In the order in which they are told; `sd` is the absence of a mark (`Vma.tracked`).
_FLAGS = (
    ("lo", VM_LOCKED),
    ("um", VM_UFFD_MISSING),
    ("uw", VM_UFFD_WP),
    ("ui", VM_UFFD_MINOR),
    ("ur", VM_UFFD_RWP),
    ("sl", VM_SEALED),
    ("sd", 0),
    ("ht", VM_HUGETLB),
    ("dc", VM_DONTCOPY),
    ("gd", VM_GROWSDOWN),
    ("ac", VM_ACCOUNT),
    ("nr", VM_NORESERVE),
)
OPTIONAL = (
    "wp",
    "sd",
    "flags",
    "locked",
    "swapped",
    "committed_pages",
    "used_huge",
    "reserved_huge",
    "events",
)

_Run = tuple[int, int]  # first page in the arena, pages


def extended(space: AddressSpace) -> dict[str, object]:
    """The optional fields, those of `OPTIONAL`, of the state at the end of a program."""
    runs = list(_entries(space))
    # What children still have is not the program's.
    come_back, promised = space.pool.left_to_children({vma.backing for vma in space.vmas})
    return {
        "wp": _joined((first, count) for first, count, entry in runs if entry & UFFD_WP),
        "sd": _joined((first, count) for first, count, entry in runs if entry & SOFT_DIRTY),
        "flags": [_flags(vma) for vma in space.vmas],
        "locked": space.locked_vm << space.geometry.page_shift >> 10,
        "swapped": sum(n for _, n, e in runs if e & SWAP) << space.geometry.page_shift >> 10,
        "committed_pages": space.committed + _shared(space),
        "used_huge": POOL_PAGES - space.pool.free - come_back,
        "reserved_huge": space.pool.reserved + promised,
        "events": [_event(space, event) for event in space.uffd_events],
    }


def _shared(space: AddressSpace) -> int:
    """Pages that shared objects and files charge."""
    objects = dict.fromkeys(space.files.values(), VM_NORESERVE)
    mapped = {v.backing: v.flags for v in space.vmas if isinstance(v.backing, Shmem)}
    return sum(
        it.charge(promised=not flags & VM_NORESERVE) for it, flags in (objects | mapped).items()
    )


def _entries(space: AddressSpace) -> Iterator[tuple[int, int, int]]:
    """First page, number of pages and entry of each leaf, in address order.

    In a VMA that is not tracked, all are soft-dirty.  The marks of hugetlb are left out: machines
    do not tell of them.
    """
    shift, base = space.geometry.page_shift, space.arena.start
    for vma in space.vmas:
        added = 0 if vma.tracked else SOFT_DIRTY
        for addr, level, entry in space.tree.leaves(vma.start, vma.end):
            if entry == HUGE_WP_MARKER:
                continue
            pages = space.geometry.span_bytes[level - 1] >> shift
            yield (addr - base) >> shift, pages, entry | added


def _joined(runs: Iterable[_Run]) -> list[list[int]]:
    found: list[list[int]] = []
    for first, count in runs:
        if found and sum(found[-1]) == first:
            found[-1][1] += count
        else:
            found.append([first, count])
    return found


def _flags(vma: Vma) -> str:
    return " ".join(name for name, bit in _FLAGS if (vma.flags & bit if bit else not vma.tracked))


def _event(space: AddressSpace, event: UffdEvent) -> list[object]:
    base, where = space.arena.start, event.where
    if event.kind == "fork":
        return ["fork"]
    if event.kind == "remap":
        return ["remap", event.source - base, where.start - base, where.length]
    return [event.kind, where.start - base, where.end - base]
