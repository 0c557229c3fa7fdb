"""Every small program: some mappings, any set of their pages touched, then moves.

The mappings lie in a window of `pages` pages at the start of the arena, the last one of which is
mapped: what lies in a smaller window belongs to that.  Moves go anywhere in the window, or up to a
slot behind it, which is every offset in a slot that can be told apart there.  Left out is only what
does the same as a program that is there:

- the same a PUD higher or lower, as the window begins where a PUD does;
- private mappings beside each other that are one VMA;
- mappings made in another order;
- moves from where nothing was ever mapped, all of which the kernel refuses at first sight.

The stack that exec moves is a program of its own, without mappings, anywhere in a PUD.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from engine.base.geometry import Geometry
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.calls.registry import call
from fuzz.case import Call, Case
from fuzz.exhaust.choices import Choose, every

PRIVATE, SHARED = "private", "shared"
_FLAGS = {
    PRIVATE: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
    SHARED: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
}
_TO = MREMAP_MAYMOVE | MREMAP_FIXED


@dataclass(frozen=True, slots=True)
class Bound:
    """How small is small: at most `calls` calls that map or move, in a window of `pages` pages."""

    geometry: Geometry
    calls: int
    pages: int


class Mapping(NamedTuple):
    """Pages [start, end) of the window."""

    start: int
    end: int
    kind: str


class Layout(NamedTuple):
    """Mappings in the order of their addresses, and how many moves there are.

    Without mappings: a stack, which exec moves; `pages` are those of its window.
    """

    mappings: tuple[Mapping, ...]
    moves: int
    pages: int


def layouts(bound: Bound) -> Iterator[Layout]:
    """All layouts within the bound, the smaller ones first."""
    for pages in range(2, bound.geometry.pud_bytes // bound.geometry.page_bytes + 1):
        yield Layout((), 1, pages)
    for calls in range(2, bound.calls + 1):
        for pages in range(1, bound.pages + 1):
            for moves in range(1, calls):
                yield from _of(pages, calls - moves, moves)


def _of(pages: int, count: int, moves: int) -> Iterator[Layout]:
    """Those of so many mappings, the last of which ends with the window."""
    if pages < count:
        return iter(())

    def layout(choose: Choose) -> Layout | None:
        mappings: list[Mapping] = []
        at = 0
        for left in range(count - 1, -1, -1):
            start = choose(range(at, pages - left))
            end = choose(range(start + 1, pages - left + 1)) if left else pages
            kind = choose((PRIVATE, SHARED))
            if mappings and mappings[-1][1:] == (start, PRIVATE) and kind == PRIVATE:
                return None  # one VMA
            mappings.append(Mapping(start, end, kind))
            at = end
        return Layout(tuple(mappings), moves, pages)

    return (one for one in every(layout) if one is not None)


def program(bound: Bound, layout: Layout, choose: Choose) -> Case:
    """A program of that layout."""
    page = bound.geometry.page_bytes
    if not layout.mappings:
        start = choose(range(1, layout.pages))
        shift = choose(range(1, start + 1))
        ends = (start * page, layout.pages * page, shift * page)
        return Case((call("execve_stack", *ends),))
    calls: list[Call] = []
    for start, end, kind in layout.mappings:
        size = (end - start) * page
        calls.append(call("mmap", start * page, size, PROT_READ | PROT_WRITE, _FLAGS[kind], -1, 0))
    for start, end, _ in layout.mappings:
        calls += _touched(start, choose(range(1 << (end - start))), page)
    return Case((*calls, *_moves(bound, layout, choose)))


def programs(bound: Bound, layout: Layout, part: int = 0, of: int = 1) -> Iterator[Case]:
    """All programs of a layout, or one of its `parts`."""
    return every(partial(program, bound, layout), part, of)


def parts(layout: Layout) -> int:
    """Into how many parts, all of the same size but for a stack's, its programs divide."""
    if layout.mappings:
        return 1 << (layout.mappings[0].end - layout.mappings[0].start)
    return layout.pages - 1  # a stack needs room below


def size(bound: Bound, layout: Layout) -> int:
    """How many programs a layout has."""
    if not layout.mappings:
        return sum(range(layout.pages))
    touched = 1 << sum(end - start for start, end, _ in layout.mappings)
    return touched * sum(1 for _ in every(partial(_moves, bound, layout)))


def _touched(first: int, some: int, page: int) -> Iterator[Call]:
    """Touch the pages of a set, a call for those beside each other; bit 0 is the `first` page."""
    while some:
        low = (some & -some).bit_length() - 1
        run = some >> low
        length = (~run & run + 1).bit_length() - 1  # of the ones at its end
        yield call("touch", (first + low) * page, length * page)
        some &= ~(((1 << length) - 1) << low)


def _moves(bound: Bound, layout: Layout, choose: Choose) -> tuple[Call, ...]:
    mapped = {number for start, end, _ in layout.mappings for number in range(start, end)}
    return tuple([_move(bound, layout.pages, mapped, choose) for _ in range(layout.moves)])


def _move(bound: Bound, pages: int, mapped: set[int], choose: Choose) -> Call:
    """A move from where something has been mapped; where it goes to is added to that."""
    page, slot = bound.geometry.page_bytes, bound.geometry.slot_bytes // bound.geometry.page_bytes
    start = choose(sorted(mapped))
    most = max(max(mapped) + 1, pages) - start
    old = choose(range(most + 1))
    how = choose(
        (_TO, _TO | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE, 0)
        if old
        else (_TO, MREMAP_MAYMOVE)  # a second mapping of what is shared
    )
    resizes = not old or not how & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    new = choose(range(1, most + 1)) if resizes else old
    target = choose(range(pages + slot)) if how & MREMAP_FIXED else 0
    if how & MREMAP_FIXED:
        mapped |= set(range(target, target + new))
    else:
        mapped |= set(range(start, start + new))
    return call("mremap", start * page, old * page, new * page, how, target * page)
