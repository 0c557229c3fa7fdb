"""What accesses see: who may access what, tags that are written, stacks that grow."""

from collections.abc import Iterator

from engine.base.uapi import PROT_EXEC, PROT_READ, PROT_WRITE
from fuzz.case import Call, Faults
from fuzz.oracle.memory import Area, Span, minus
from fuzz.oracle.world import World

_ANY = PROT_READ | PROT_WRITE | PROT_EXEC


def access(world: World, call: Call, faults: Faults, mapped: list[Span] | None) -> None:
    """Check who may access what; write the tags of a touch."""
    memory = world.memory
    address, length = call.args
    lo, hi = world.units.range(address, length) if length else (0, 0)
    refused = sorted([(p, p + n) for p, n in (*faults.segv, *faults.bus)])
    granted = minus((lo, hi), refused)
    if memory.holes(lo, hi):
        for start, end in granted:
            _grow_stack(world, start, end)
        _follow_growth(world, lo, hi, mapped or [])
    outcomes = [("access", span) for span in granted]
    outcomes += [("SIGSEGV", (page, page + count)) for page, count in faults.segv]
    outcomes += [
        ("SIGBUS", part)
        for page, count in faults.bus
        for part in minus((page, page + count), world.huge_spans())
    ]
    for found, span in outcomes if world.certain else ():
        for first, last, expected in _expected_access(world, call.name, *span):
            if first < last and expected not in ("", found):
                world.report("access", first, last - first, expected, found)
    if call.name != "touch":
        return
    for start, end in granted:
        for area in memory.inside(start, end):
            first_tag = memory.next_tag - lo
            memory.write(area, range(first_tag + area.start, first_tag + area.end))
    memory.next_tag += hi - lo


def _expected_access(world: World, name: str, lo: int, hi: int) -> Iterator[tuple[int, int, str]]:
    """(first, end, what an access ends in; empty if either may be) for all of [lo, hi)."""
    for start, end in world.memory.holes(lo, hi):
        # What is below a stack may be let grow into or not; the growth is followed above.
        yield start, end, "SIGSEGV" if _stack_above(world, end) is None else ""
    for area in world.memory.inside(lo, hi):
        if area.prot is None or area.guarded:
            continue
        hidden = world.exec_only and area.prot == PROT_EXEC
        if hidden or not area.prot & (PROT_WRITE if name == "touch" else _ANY):
            yield area.start, area.end, "SIGSEGV"
            continue
        if area.watched:
            yield area.start, area.end, ""
            continue
        limit = area.start + area.origin.size - area.offset
        if area.end <= limit:
            yield area.start, area.end, "access"
        else:
            limit = max(limit, area.start)
            yield area.start, limit, "access"
            yield limit, area.end, "" if area.origin.collapsed else "SIGBUS"


def _stack_above(world: World, page: int) -> Area | None:
    """The growing area that is the next mapping from `page` upwards."""
    above = next((area for area in world.memory.areas if area.start >= page), None)
    return above if above is not None and above.grows else None


def _grow_stack(world: World, lo: int, hi: int) -> None:
    """An access to a page below a stack that went well made the stack grow down to it."""
    for start, end in world.memory.holes(lo, hi):
        if (stack := _stack_above(world, end)) is not None:
            world.memory.map(stack._replace(start=start, end=stack.start))


def _follow_growth(world: World, lo: int, hi: int, mapped: list[Span]) -> None:
    """A stack may have grown for an access that its protection then refused."""
    for start, end in world.memory.holes(lo, hi):
        stack = _stack_above(world, end)
        for first, last in mapped if stack is not None else []:
            assert stack is not None
            if first < stack.start <= last and max(first, start) < end:
                grown = stack._replace(start=max(first, start), end=stack.start)
                world.memory.map(grown)
