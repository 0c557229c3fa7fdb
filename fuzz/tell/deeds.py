"""What others do in the middle of a call, in a line."""

from collections.abc import Callable, Iterator, Mapping

from engine.base.entry import HUGE, MARKER, PFN_SHIFT, is_zero_page
from engine.base.geometry import Geometry
from engine.state import terms
from engine.state.space import AddressSpace
from engine.state.table import Picture
from fuzz.calls.actors import Deed
from fuzz.calls.registry import as_result
from fuzz.case import Call
from fuzz.forms.text import format_call

_WORDS: Mapping[str, Callable[[Geometry, tuple[int, ...]], str]] = {
    "touch": lambda g, args: f"another thread writes to {terms.address(g, args[0])}",
    "peek": lambda g, args: f"another thread reads {terms.address(g, args[0])}",
    "touch_on": lambda g, args: f"CPU {args[0]} writes to {terms.address(g, args[1])}",
}
_WALKS = {"migrate_begin": "begins", "migrate_end": "ends"}


def done(space: AddressSpace, deed: Deed) -> str:
    """What somebody else has done, with its result if it is at its end."""
    base, result = deed.actor.base, as_result(space, deed.actor.returned)
    args = list(deed.actor.args)
    for index in base.addresses:
        args[index] -= space.arena.start
    if deed.actor.walk is not None:
        made = format_call(Call(base.name, tuple(args)), space.geometry.page_bytes)
        return f"{made} comes to the lock of a table"
    return format_call(Call(base.name, tuple(args), result), space.geometry.page_bytes)


def in_words(space: AddressSpace, deed: Deed, before: Picture, *, resumed: bool) -> str:
    """The same for who does not know the calls of a case.

    Arguments: `before` the leaves before that was done; `resumed`: it is the rest of a walk that
    had stopped.
    """
    actor, geometry = deed.actor, space.geometry
    name, failed = actor.base.name, isinstance(as_result(space, actor.returned), str)
    if name in _WORDS and not failed:
        return _WORDS[name](geometry, actor.args)
    if name not in _WALKS or failed:
        return f"somebody else: {done(space, deed)}"
    at = actor.args[0] & -geometry.page_bytes
    where = terms.address(geometry, at)
    if actor.walk is not None:
        return (
            f"the migration of {_page(space, at)} {_WALKS[name]}: it has found the table of "
            f"{where}, and is to lock that next"
        )
    changed = next(_changed(space, before), None)
    if not resumed:
        return f"the migration of {_page(space, at)} at {where} {_WALKS[name]}"
    if changed is None:
        return f"the migration locks that table, and finds nothing there for {where}"
    if changed == at:
        return f"the migration locks that table, changes the entry at {where}, flushes {where}"
    now = terms.address(geometry, changed)
    flushed = f", but flushes {where}" if name == "migrate_begin" else f", for {where}"
    return f"the migration locks that table and changes its entry, by now at {now}{flushed}"


def _page(space: AddressSpace, at: int) -> str:
    """What to call the page at an address."""
    place = space.tree.leaf_place(at)
    entry = place[0].leaves[place[1]] if place else MARKER
    if entry & MARKER or is_zero_page(entry):
        return "a page"
    ahead = (at >> space.geometry.page_shift) % space.geometry.slot_pages if entry & HUGE else 0
    return f"page {space.frames.tag[(entry >> PFN_SHIFT) + ahead]}"


def _changed(space: AddressSpace, before: Picture) -> Iterator[int]:
    """The addresses whose leaves are others than before."""
    for base, held in sorted(space.tree.frozen().items()):
        was = before.get(base)
        if was is held or was == held:
            continue
        if isinstance(held, int) or isinstance(was, int):
            yield base
        else:
            old = was or {}
            for index in sorted(held):
                if held[index] != old.get(index):
                    yield base + (index << space.geometry.page_shift)
