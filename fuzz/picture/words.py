"""What is said of a moment, in a line."""

from engine.base import points
from engine.base.geometry import Geometry
from engine.base.points import ANON_VMA, I_MMAP, MMAP_READ, MMAP_WRITE, PAGE_TABLES, RMAP
from engine.state import terms
from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Makes
from fuzz.forms.results import format_result
from fuzz.forms.text import format_call
from fuzz.picture import moments
from fuzz.picture.moments import Bite, Film, Way
from fuzz.rules.rmap import TABLE_MOVE_LOCKED
from fuzz.tell.details import Kept

WARNED = frozenset(("dest-entry-none", "rollback-dest-none"))  # rules whose breach the kernel tells
_LOCKS = {
    "mmap (write)": MMAP_WRITE,
    "mmap (read)": MMAP_READ,
    "anon_vma": ANON_VMA,
    "i_mmap": I_MMAP,
    "page tables": PAGE_TABLES,
}


def locks(film: Film, index: int) -> str:
    """The locks that the call holds at a moment, "" if none, or if it is not in the call.

    Where one is missing that is said, too.
    """
    held = film.moments[index].held
    names = [name for name, bit in _LOCKS.items() if held & bit]
    if not names:
        return ""
    broken = film.rule is not None and index == film.failing
    missing = broken and film.rule == TABLE_MOVE_LOCKED and not held & RMAP
    told = ", ".join(names) + "; no rmap lock" * missing
    return f"{film.shown.case.calls[film.call].name} holds: {told}"


def caption(film: Film, index: int) -> str:
    """What happens at a moment."""
    moment, geometry = film.moments[index], film.kernel.geometry
    way = _way(film, index)
    match moment.kind:
        case _ if moment.bite is not None and moment.bite.mover:
            return bitten(geometry, moment.bite)
        case moments.BEFORE:
            return "before the call"
        case points.VMA_COPIED:
            return "a VMA for the new range; nothing has moved yet"
        case points.RELOCATE_VMA_DOWN:
            return "the stack before it moves"
        case points.ENTER if way is not None and way.back:
            return "the way back begins: all that has moved is to return"
        case points.ENTER if way is not None and way.source != way.requested:
            lowered = terms.size(way.requested.start - way.source.start)
            return f"the move begins {lowered} lower, at the slot boundary (realigned)"
        case points.ENTER:
            return "the move begins"
        case points.ALLOC_FAILED if way is not None and way.back:
            return f"way back: no memory for a table at {_wanted(film, index)}; it stops unnoticed"
        case points.ALLOC_FAILED:
            return f"no memory for a table at {_wanted(film, index)}: the move stops"
        case points.HUGE_SPLIT:
            return "the huge page is split into pages"
        case points.FREE_PGTABLES:
            where = terms.span(geometry, moment.where)
            if way is not None and way.back and moment.where.overlaps(way.source):
                return f"the new range {where} is unmapped, with the pages still in it"
            return f"{where} is unmapped: its pages are gone, its tables go next"
        case points.ACTED:
            return moment.deed
        case moments.UNLOCKED:
            return "locks are dropped: others may look"
        case _:
            return _ending(film)


def _ending(film: Film) -> str:
    """How the call ended."""
    if film.result is None:
        return "the call does not return"
    if film.call < 0:
        return "nothing is called"
    returns = f"the call returns {format_result(film.result, film.kernel.geometry.page_bytes)}"
    unmapped = {one.where for one in film.moments if one.kind == points.FREE_PGTABLES}
    if len(unmapped) != 1:
        return returns
    return f"{terms.span(film.kernel.geometry, *unmapped)} is unmapped by now; {returns}"


def _wanted(film: Film, index: int) -> str:
    """Where a table was wanted for which there was no memory."""
    bite = film.moments[index].bite
    return terms.address(film.kernel.geometry, bite.target.start) if bite else "the new place"


def called(film: Film) -> str:
    """The call, with the names of its operands if it is one that no manual tells of."""
    call = film.shown.case.calls[film.call]
    told = format_call(call._replace(result=film.result), film.kernel.geometry.page_bytes)
    declared = CALLS[call.name]
    if declared.made_by is Makes.KERNEL:
        return told
    name, _, rest = told.partition("(")
    values, _, result = rest.rpartition(")")
    parts = values.split(", ")
    if len(parts) == len(declared.params):
        names = (param.name for param in declared.params)
        values = ", ".join(f"{n}={value}" for n, value in zip(names, parts, strict=True))
    return f"{name}({values}){result}"


def bitten(geometry: Geometry, bite: Bite) -> str:
    """A bite: what takes what from where to where."""
    size = terms.size(bite.source.length)
    start = terms.address(geometry, bite.source.start)
    end = terms.address(geometry, bite.target.start)
    back = "back: " if bite.back else ""
    if bite.refused:
        return f"{back}{bite.mover} is refused: the entry at {end} is not empty"
    skipped = f" ({terms.size(bite.skipped)} skipped: no table)" if bite.skipped else ""
    more = f"{bite.many} more times " if bite.many > 1 else ""
    return f"{back}{bite.mover} {more}takes {size} from {start} to {end}{skipped}"


def _way(film: Film, index: int) -> Way | None:
    """The move that a moment belongs to."""
    begun = sum(one.kind == points.ENTER for one in film.moments[: index + 1])
    return film.ways[begun - 1] if begun else None


def found(film: Film) -> str:
    """What was found where the rule is broken, in the words of the picture; "" if none is."""
    violation, geometry = film.violation, film.kernel.geometry
    if violation is None:
        return ""
    if film.failing is not None:
        for one in film.moments[film.failing].seen.tlbs:
            if one.stale and one.where == violation.where:
                return f"CPU {one.cpu} still {through(geometry, one)}"
    warns = ": WARN_ON_ONCE" if violation.rule in WARNED else ""
    if violation.where == geometry.arena:
        return violation.found + warns
    return f"{violation.found}, at {terms.span(geometry, violation.where)}{warns}"


def through(geometry: Geometry, one: Kept) -> str:
    """What a CPU does by what its TLB keeps: writes page 1 through 0x0."""
    may = "writes" if one.translation.writable else "reads"
    page = f"page {one.tag}" if one.tag else "zeroes"
    return f"{may} {page} through {terms.address(geometry, one.where.start)}"
