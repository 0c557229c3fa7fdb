"""What a failed call may have left: every state that some kernel may leave memory in then.

Kernels differ in what comes before the check that refuses a call: what was in the way of a mapping
may be gone, a part of a move may be done, a program may have been given up.
"""

from collections.abc import Iterator, Mapping
from itertools import chain

from engine.base.uapi import (
    MADV_COLLAPSE,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_PAGEOUT,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_HUGETLB,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_GROWSDOWN,
)
from fuzz.case import Call
from fuzz.oracle import effects
from fuzz.oracle.memory import Memory, Span
from fuzz.oracle.units import Units
from fuzz.oracle.world import World

_MOVE_FIXED = MREMAP_MAYMOVE | MREMAP_FIXED
# Advice whose failure leaves no trace in contents of how far it has come.
_GOES_ON = (MADV_COLLAPSE, MADV_FREE, MADV_PAGEOUT, MADV_POPULATE_WRITE)
_KNOWN_FLAGS = _MOVE_FIXED | MREMAP_DONTUNMAP


def follow_failure(
    world: World,
    call: Call,
    error: str,
    contents: Mapping[int, int] | None,
    mapped: list[Span] | None,
) -> None:
    """Take over the one of the states a failure may leave that the implementation is in."""
    if call.name == "madvise":
        _madvise_failed(world, call.args, error, contents)
        return
    if call.name == "mprotect":
        _mprotect_failed(world, call.args, error)
        return
    if call.name == "file":  # there is one, whatever became of its size
        effects.file(world, (call.args[0], 0), 0)
    if call.name == "uffd_register":  # what lies before the VMA that could not be cut is
        effects.uffd_register(world, call.args, 0)
    if error == "-EPERM" and call.name in ("munmap", "mmap", "mremap"):
        # A seal: what was to go may have been cut where it begins.
        address = world.units.page(call.args[0])
        starts = [address]
        if call.name == "mremap":
            starts = [address + world.units.pages(call.args[2]), world.units.page(call.args[4])]
        for start in starts:
            world.memory.cut(start)
    outcomes = _outcomes(
        call, error, world.memory, world.units, mapped or [], certain=world.certain
    )
    usual = next(outcomes)
    alike = (memory for memory in chain((usual,), outcomes) if memory.agrees(contents, mapped))
    chosen = next(alike, usual)
    twins = []
    if mapped is None:
        world.certain &= next(outcomes, None) is None
    elif call.name == "mremap" and call.args[3] & MREMAP_DONTUNMAP:
        # A source that stays mapped does not show that it has moved.
        twins = [memory for memory in alike if memory.areas != chosen.areas]
    world.memory = chosen  # after all that is made from what was there before
    world.twins = [world.twin(memory) for memory in twins]


def _madvise_failed(
    world: World, args: tuple[int, ...], error: str, contents: Mapping[int, int] | None
) -> None:
    """Mappings are advised in address order, holes are noticed last (-ENOMEM)."""
    address, length, advice = args
    lo, hi = world.units.range(address, length)
    if contents is None:
        done = hi if error == "-ENOMEM" else lo
    else:
        remove = advice == MADV_REMOVE
        concerned = (
            page
            for area in world.memory.inside(lo, hi)
            if (area.private or area.origin.driver) != remove
            for page in world.memory.tagged(
                *effects.removable(world, area)
                if remove
                else (area.start, effects.discardable(world, area))
            )
        )
        done = next((page for page in concerned if page in contents), hi)
    effects.advise(world, lo, hi if advice in _GOES_ON else done, advice)
    if advice == MADV_GUARD_INSTALL:
        world.memory.change(lo, hi, lambda area: area._replace(guarded=True))


def _mprotect_failed(world: World, args: tuple[int, ...], error: str) -> None:
    """What lies before the first hole has changed; what else is refused stops anywhere.

    A length that makes the end wrap around changes nothing.  Where that begins depends on the
    address of the arena, so that nothing is said about lengths beyond half the address space.
    """
    address, length, prot = args
    lo, hi = world.units.range(address, length)
    refused = error in ("-ENOMEM", "-EPERM", "-EACCES")  # EPERM: sealed; EACCES: never
    if error == "-EINVAL":  # a huge page would be cut
        refused = any(area.huge for area in world.memory.inside(lo, hi))
    holes = world.memory.holes(lo, hi)
    if refused and prot & PROT_GROWSDOWN:
        effects.protect(world, effects.stack_start(world, lo), hi, None)
    elif error == "-ENOMEM" and holes:
        known = not world.scarce and length <= world.units.word_mask // 2
        effects.protect(world, lo, holes[0][0], prot if known else None)
    elif refused:
        effects.protect(world, lo, hi, None)


def _outcomes(
    call: Call, error: str, memory: Memory, units: Units, mapped: list[Span], *, certain: bool
) -> Iterator[Memory]:
    """Every state that memory may be in after a call that failed, the usual one first.

    Arguments: `memory` as it was before; `mapped` gives hints where mappings begin and end;
    `certain`: the areas of `memory` are known exactly.
    """
    if call.name == "execve_stack":
        start, end, _ = (units.page(operand) for operand in call.args)
        replaced = Memory(next_tag=memory.next_tag + max(end - start, 0))
        # -EINVAL and -E2BIG come before the point of no return, -ENOMEM and -EFAULT after it.
        late = error in ("-ENOMEM", "-EFAULT")
        yield from (replaced, memory) if late else (memory, replaced)
        return
    yield memory
    if call.name == "mmap":
        address, length, _, flags, fd, _ = call.args
        # Before 6.12 a MAP_FIXED mapping evicts before it is charged.  A driver is asked last.
        origin = None if flags & MAP_ANONYMOUS else memory.files.get(fd)
        driver = origin is not None and origin.driver
        if (
            flags & MAP_FIXED
            and not flags & MAP_FIXED_NOREPLACE
            and (error == "-ENOMEM" or (driver and error == "-EINVAL"))
        ):
            start = units.page(address)
            pages = units.pages(length, huge=bool(flags & MAP_HUGETLB))
            yield from _without(memory, (start, start + pages))
    elif call.name == "relocate":
        start, end, _ = (units.page(operand) for operand in call.args)
        yield from _without(memory, (start, end))
        yield Memory(next_tag=memory.next_tag)  # half moved: the program is given up
    elif call.name == "mremap" and _may_leave_traces(call.args, memory, units, certain=certain):
        yield from _half_done(call.args, memory, units, mapped)


def _may_leave_traces(
    args: tuple[int, ...], memory: Memory, units: Units, *, certain: bool
) -> bool:
    """True if no check that every kernel makes before it unmaps anything refuses the call."""
    address, old_bytes, new_bytes, flags, target = args
    old, new = units.page(address), units.page(target)
    huge = memory.is_huge(old)
    old_count, new_count = units.pages(old_bytes, huge=huge), units.pages(new_bytes, huge=huge)
    # The test for overlap adds without care.  The address of the arena counts, too: lengths
    # beyond half the address space may or may not wrap around.
    old_end = (old + old_count) * units.page_bytes
    wraps = old_end > units.word_mask or old_bytes > units.word_mask // 2
    return (
        flags & ~_KNOWN_FLAGS == 0
        and flags & _MOVE_FIXED == _MOVE_FIXED
        and not (flags & MREMAP_DONTUNMAP and old_count != new_count)
        and address % units.page_bytes == 0
        and target % units.page_bytes == 0
        and new_count > 0
        and (wraps or not (old < new + new_count and new < old + old_count))
        and (bool(memory.inside(old, old + 1)) or not certain)
    )


def _half_done(
    args: tuple[int, ...], memory: Memory, units: Units, mapped: list[Span]
) -> Iterator[Memory]:
    """What a FIXED mremap may have done before it failed.

    A move of equal size goes mapping by mapping (6.17+): those below `cut` have moved, and
    the target of the next, which ends at `end`, may have been evicted.  Before 6.17 nothing
    moves, and all of the target is evicted: `cut` is the start, `end` the end.
    """
    address, old_bytes, new_bytes, flags, target = args
    old, new = units.page(address), units.page(target)
    huge = memory.is_huge(old)
    old_count, new_count = units.pages(old_bytes, huge=huge), units.pages(new_bytes, huge=huge)
    if new_count != old_count:
        evicted = (new, new + new_count)
        yield from _without(memory, evicted)
        if new_count < old_count:
            yield from _without(memory, evicted, (old + new_count, old + old_count))
        return
    old_end = memory.whole_huge(old + old_count)
    spans = [*((area.start, area.end) for area in memory.areas), *mapped]
    spans += [(start - new + old, end - new + old) for start, end in mapped]
    cuts = sorted({old, *(edge for span in spans for edge in span if old < edge < old_end)})
    for cut in cuts:
        moved = memory
        if cut > old:
            moved = memory.copy()
            moved.move(old, cut, new, bool(flags & MREMAP_DONTUNMAP))
            yield moved
        for end in (*(edge for edge in cuts if edge > cut), old_end):
            yield from _without(moved, (cut + new - old, end + new - old))


def _without(memory: Memory, *spans: Span) -> Iterator[Memory]:
    """The same memory with ranges unmapped; nothing if they were not mapped anyway."""
    if any(memory.inside(*span) for span in spans):
        less = memory.copy()
        for span in spans:
            less.unmap(*span)
        yield less
