"""What each call does to memory when it succeeds.

The functions that have the name of a call take its operands, `args`, and its result: addresses and
lengths in bytes.  All other positions are page numbers in the arena.
"""

from engine.base.uapi import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_PAGEOUT,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_SHARED,
    MAP_TYPE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_GROWSDOWN,
    PROT_READ,
    PROT_WRITE,
    UFFD_FEATURE_SIGBUS,
)
from fuzz.oracle.memory import ZEROES, Area, Memory, Origin, Span
from fuzz.oracle.world import World

_MOVE_FIXED = MREMAP_MAYMOVE | MREMAP_FIXED
# Advice after which memory may hold something else, or be accessible otherwise.
_TOUCHING = frozenset(
    (MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_REMOVE, MADV_GUARD_INSTALL, MADV_COLLAPSE)
)
_TAG_BYTES = 8  # at the beginning of a page


def mmap(world: World, args: tuple[int, ...], result: int) -> None:
    """What is at the place goes; what comes is empty, or shows the file."""
    address, length, prot, flags, fd, offset = args
    start = world.units.page(result)
    end = start + world.units.pages(length, huge=bool(flags & MAP_HUGETLB))
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        world.expect_address(address, result)
    if flags & MAP_FIXED_NOREPLACE or not flags & MAP_FIXED:
        world.expect_free(start, end)
    private = not flags & MAP_SHARED
    first = 0
    if not flags & MAP_ANONYMOUS:
        origin, first = _opened(world, fd), world.units.page(offset)
    else:
        origin = ZEROES if private else Origin(end - start)
    world.memory.unmap(start, end)
    grows = bool(flags & MAP_GROWSDOWN)
    huge = world.units.pages(1, huge=True) if flags & MAP_HUGETLB else 0
    droppable = flags & MAP_TYPE == MAP_DROPPABLE
    area = Area(start, end, prot, origin, private, first, grows, False, huge, droppable)
    world.memory.map(area)
    if flags & (MAP_POPULATE | MAP_LOCKED):
        world.may_copy(start, end)


def file(world: World, args: tuple[int, ...], result: int) -> None:
    """There is a file of zeroes."""
    fd, size = args
    world.memory.files[fd] = Origin(world.units.pages(size))


def bpf_map(world: World, args: tuple[int, ...], result: int) -> None:
    """There is memory of zeroes, all of which a mapping shows at first."""
    fd, size = args
    origin = Origin(world.units.pages(size), driver=True, refills=world.maps_refill())
    world.memory.files[fd] = origin


def _opened(world: World, fd: int) -> Origin:
    """The file with a descriptor.  A call that went well with one that is not open is reported."""
    if fd not in world.memory.files:
        world.report("refusal", 0, 1, "an error: no such file", "success")
        file(world, (fd, 0), 0)
    return world.memory.files[fd]


def ftruncate(world: World, args: tuple[int, ...], result: int) -> None:
    """What lies behind the new end is gone, in the last page, too."""
    fd, size = args
    file, pages = _opened(world, fd), world.units.pages(size)
    if pages < file.size:
        world.memory.truncate(file, pages)
    file.size = pages
    _zero(world, file, size, pages * world.units.page_bytes)


def fallocate(world: World, args: tuple[int, ...], result: int) -> None:
    """A hole reads as zeroes; without one the file may have become longer."""
    fd, mode, offset, length = args
    file, end = _opened(world, fd), offset + length
    if mode & FALLOC_FL_PUNCH_HOLE:
        _zero(world, file, offset, end)
    elif not mode & FALLOC_FL_KEEP_SIZE:
        file.size = max(file.size, world.units.pages(end))


def _zero(world: World, file: Origin, start: int, end: int) -> None:
    """Zero the bytes [start, end) of a file, of which tags are made."""
    page, changed = world.units.page_bytes, {}
    for at, tag in file.tags.items():
        first, last = max(start - at * page, 0), min(end - at * page, _TAG_BYTES)
        if first < last:
            zeroed = (1 << 8 * last) - (1 << 8 * first)
            changed[at] = tag & ~zeroed
    world.memory.store(file, changed)


def munmap(world: World, args: tuple[int, ...], result: int) -> None:
    """Nothing is mapped there any more."""
    world.memory.unmap(*world.units.range(args[0], args[1]))


def mprotect(world: World, args: tuple[int, ...], result: int) -> None:
    """Rights change, contents do not."""
    address, length, prot = args
    lo, hi = world.units.range(address, length)
    if prot & PROT_GROWSDOWN and lo < hi:
        # From where the first mapping begins.  That may lie lower, if it is a stack: how much
        # of what lies side by side is one mapping is not known.
        protect(world, stack_start(world, lo), lo, None)
        prot &= ~PROT_GROWSDOWN
    protect(world, lo, hi, prot)


def stack_start(world: World, page: int) -> int:
    """Where the growing areas begin that reach from below to `page`, without a hole."""
    for area in reversed(world.memory.areas):
        if area.grows and area.start < page <= area.end:
            page = area.start
    return page


def madvise(world: World, args: tuple[int, ...], result: int) -> None:
    """What the advice does to contents."""
    address, length, advice = args
    advise(world, *world.units.range(address, length), advice)


def swapout(world: World, args: tuple[int, ...], result: int) -> None:
    """What reclaim may drop may be gone."""
    world.memory.doubt(*world.units.range(*args))


def collapse_file(world: World, args: tuple[int, ...], result: int) -> None:
    """The file of the page may have a huge page, which goes on past its end."""
    page = world.units.page(args[0])
    for area in world.memory.inside(page, page + 1):
        area.origin.collapsed = True


def uffd_register(world: World, args: tuple[int, ...], result: int) -> None:
    """Pages of files may be copies from then on, and accesses may end in SIGBUS."""
    address, length, _, features = args
    span = world.units.range(address, length)
    world.may_copy(*span)
    if features & UFFD_FEATURE_SIGBUS:
        world.memory.change(*span, lambda area: area._replace(watched=True))


def mremap(world: World, args: tuple[int, ...], result: int) -> None:
    """Pages go from the old place to the new; what was there is gone, a growth comes."""
    address, old_bytes, new_bytes, flags, target = args
    memory = world.memory
    old, new = world.units.page(address), world.units.page(result)
    old_count, new_count = world.units.pages(old_bytes), world.units.pages(new_bytes)
    placed = flags & _MOVE_FIXED == _MOVE_FIXED
    keep = bool(flags & MREMAP_DONTUNMAP)
    if placed and old_count == new_count:
        old_count = new_count = world.memory.whole_huge(old + old_count) - old
    elif world.memory.is_huge(old):
        old_count, new_count = (world.units.pages(n, huge=True) for n in (old_bytes, new_bytes))
    world.expect_mapped(old, old + 1)
    if placed:
        world.expect_address(target, result)
    elif not flags & MREMAP_MAYMOVE or (new_count <= old_count and not keep):
        world.expect_address(address, result)
    if not memory.inside(old, old + 1):
        return  # reported; there is nothing to move
    if new_count <= old_count and not placed and not keep:
        memory.unmap(old + new_count, old + old_count)  # in place: equal, or a shrink
        return
    if new_count != old_count or not placed:  # only a FIXED move of equal size spans holes
        world.expect_mapped(old, old + min(old_count, new_count))
    if new == old:
        world.expect_free(old + old_count, old + new_count)
    elif not placed:
        world.expect_free(new, new + new_count)

    # The growth shows what follows the last old page in the same origin.
    last = memory.inside(old + max(old_count, 1) - 1, old + max(old_count, 1))
    growth = [
        area.placed(old + old_count, new + old_count, new_count - old_count)
        for area in last
        if new_count > old_count
    ]
    if old_count == 0 and growth and growth[0].private:
        world.report("refusal", old, 1, "no second mapping of private memory", "success")
    if new_count != old_count and new != old:
        memory.unmap(new, new + new_count)
    memory.unmap(old + new_count, old + old_count)  # the tail that a shrink cuts off
    if new != old:
        memory.move(old, old + min(old_count, new_count), new, keep)
    for area in growth:
        memory.unmap(area.start, area.end)
        memory.map(area)


def run_short(world: World, args: tuple[int, ...], result: int) -> None:
    """VMAs and charges may be refused from then on."""
    world.scarce = True


def execve_stack(world: World, args: tuple[int, ...], result: int) -> None:
    """Nothing is left but a stack, each page of it with a tag of its own."""
    start, end, shift = (world.units.page(operand) for operand in args)
    tag = world.memory.next_tag
    world.memory = Memory(next_tag=tag + end - start)
    if start < end:
        lo, hi = start - shift, end - shift
        world.memory.map(Area(lo, hi, PROT_READ | PROT_WRITE, grows=True))
        world.memory.pages = dict(zip(range(lo, hi), range(tag, tag + end - start), strict=True))


def relocate(world: World, args: tuple[int, ...], result: int) -> None:
    """A stack goes down, over itself if need be."""
    start, end, shift = (world.units.page(operand) for operand in args)
    world.expect_mapped(start, end)
    world.expect_free(start - shift, min(end - shift, start))
    world.memory.move(start, end, start - shift)


def protect(world: World, lo: int, hi: int, prot: int | None) -> None:
    """Give [lo, hi) the rights `prot`; None: any of them, nobody knows."""
    world.memory.change(lo, hi, lambda area: area._replace(prot=prot))


def advise(world: World, lo: int, hi: int, advice: int) -> None:
    """Do to [lo, hi) what an advice does to contents; most do nothing."""
    if advice == MADV_FREE:
        world.memory.give_up(lo, hi)
    elif advice == MADV_PAGEOUT:
        world.memory.doubt(lo, hi)
    elif advice == MADV_POPULATE_WRITE:
        world.may_copy(lo, hi)
    if advice not in _TOUCHING:
        return
    for area in world.memory.inside(lo, hi):
        if advice == MADV_COLLAPSE:
            if area.origin is not ZEROES:
                area.origin.collapsed = True
        elif advice != MADV_REMOVE:
            world.memory.discard(area.start, discardable(world, area))
        elif not (area.private or area.origin.driver):  # a driver's has no holes
            seen = world.memory.tagged(*removable(world, area))
            world.memory.store(area.origin, {area.at(page): 0 for page in seen})
    if advice == MADV_GUARD_INSTALL:
        world.memory.change(lo, hi, lambda area: area._replace(guarded=True))


def removable(world: World, area: Area) -> Span:
    """That part of a mapping of which a hole can be made."""
    if not (area.huge and world.whole_holes()):
        return area.start, area.end
    return -(-area.start // area.huge) * area.huge, area.end // area.huge * area.huge


def discardable(world: World, area: Area) -> int:
    """Where that part of a mapping ends which can be thrown away: huge pages go whole."""
    return max(area.end // area.huge * area.huge, area.start) if area.huge else area.end
