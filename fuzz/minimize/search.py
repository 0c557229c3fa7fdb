"""Makes a case as simple as it can be while it still shows the same finding.

The search is a list of passes.  A pass is a generator of candidates that it builds from the best
case so far, which may change under it while it runs: it reads `search.best` afresh at every step.
Every candidate goes through one gate, `Search.consider`, which asks the predicate only about
candidates that are strictly simpler than the best and were never asked about before.  The order
is total and well founded, so the search ends, and equal inputs give equal results.

What is simpler, first difference decides (`simplicity`):

1. fewer calls;
2. flags nearer to the ordinary ones (`Operand.ordinary`), counted in bits that differ, optional
   operands left at their defaults, and an earlier attempt that fails;
3. shorter lengths, 4. lower addresses and file offsets: by the sum of their digits, then the sum
   of their values.  Digits are the hex digits left without the trailing zeroes: 0 has none, every
   boundary (0x1000, 0x200000, 0x40000000) has one, 0x201000 has three, and a number that is not a
   multiple of 4 KiB, the smallest page there is, counts `UNALIGNED` digits more;
5. the operands themselves, so that no two programs are equally simple.

Lengths come before addresses because a short range at an odd address says more about a bug than
a long one at address 0.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from engine.base.address import Range, round_down, round_up
from engine.base.geometry import Geometry
from fuzz.calls.operand import ADDR, LEN, OFFSET, Amount, Flags, Nth, Number, Operand
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case
from fuzz.minimize.ranges import (
    ALL_KINDS,
    KINDS,
    Program,
    Site,
    base_of,
    is_writable,
    narrowed,
    points,
    spans,
    to_calls,
    to_search_form,
    union,
    without,
)

UNALIGNED = 16  # more digits than any number has
SMALLEST_PAGE = 4096


class Simplicity(NamedTuple):
    """Rank of a program; less is simpler.  The fields are those of the module's docstring."""

    calls: int
    flags: int
    length_digits: int
    length_bytes: int
    address_digits: int
    address_bytes: int
    operands: Program


def simplicity(case: Case) -> Simplicity:
    """The rank of a case among all cases; what its header and its results say does not count."""
    return _rank(to_search_form(case.calls))


def minimize(
    case: Case,
    same: Callable[[Case], bool],
    geometry: Geometry,
    *,
    budget: int = 5000,
    progress: Callable[[Case, int], None] | None = None,
) -> Case:
    """The simplest case found that still shows the finding of `case`.

    Arguments: `same` says whether a candidate shows the same finding; it must answer alike for
    equal cases.  `geometry` gives the boundaries to try.  `budget` is how many candidates may be
    run, the case itself included.  `progress` is called with every simpler case found and the
    runs so far; after Ctrl-C, which passes through, the last of them is the best there was.

    Returns: a case with the header of `case` and without asserted results.  If the budget lasts,
    leaving out any one of its calls loses the finding.
    Errors raised: ValueError if `case` does not show the finding, or for a budget below 1.
    """
    if budget < 1:
        raise ValueError(f"budget {budget}: one run at least is needed")
    search = Search(case, same, geometry, budget, progress)
    if not same(search.case()):
        raise ValueError("the case to minimize does not show the finding")
    search.run()
    return search.case()


class Search:
    """The best program so far, and the gate that candidates for its place go through.

    Programs are in search form (`_to_search_form`) everywhere in here.
    """

    def __init__(
        self,
        case: Case,
        same: Callable[[Case], bool],
        geometry: Geometry,
        budget: int,
        progress: Callable[[Case, int], None] | None,
    ) -> None:
        self.header = case
        self.same = same
        self.geometry = geometry
        self.budget = budget
        self.progress = progress
        self.best = to_search_form(case.calls)
        self.rank = _rank(self.best)
        self.seen = {self.best}
        self.runs = 1

    def case(self) -> Case:
        """The best program as a case."""
        return self.header.with_calls(to_calls(self.best))

    def consider(self, program: Program) -> None:
        """Make `program` the best if it is simpler and shows the finding."""
        if program in self.seen or not is_writable(program):
            return
        rank = _rank(program)
        if rank >= self.rank:
            return
        self.seen.add(program)
        self.runs += 1
        if not self.same(self.header.with_calls(to_calls(program))):
            return
        self.best, self.rank = program, rank
        if self.progress is not None:
            self.progress(self.case(), self.runs)

    def run(self) -> None:
        """All passes, over and over, until none of them finds anything or the budget is spent."""
        start = None
        while start != self.best:
            start = self.best
            for candidates in PASSES:
                for program in candidates(self):
                    if self.runs >= self.budget:
                        return
                    self.consider(program)


# --- Passes ---------------------------------------------------------------------------------------


def drop_calls(search: Search) -> Iterator[Program]:
    """Fewer calls: halves first, then quarters, down to single calls, each from the end.

    The end goes first because whatever follows the failing call is superfluous.
    """
    size = max(len(search.best) // 2, 1)
    while size:
        end = len(search.best)
        while end > 0:
            start = max(end - size, 0)
            # Right after a success as well: what came before `start` has not moved.
            yield search.best[:start] + search.best[end:]
            end = start
        size //= 2


def simplify_flags(search: Search) -> Iterator[Program]:
    """Flags towards the ordinary ones: all at once, the unknown bits, bit by bit, two bits.

    Two bits at a time turn MAP_SHARED into MAP_PRIVATE.
    """
    for kind in ALL_KINDS:
        ordinary = kind.ordinary
        if ordinary is None or (isinstance(kind, Number) and kind.tries):
            continue
        for sites in _equal_then_single(search.best, kind):
            value = _value(search.best, sites[0])
            yield _set(search.best, sites, ordinary)
            if not isinstance(kind, Flags):  # a number, not a set of bits
                continue
            yield _set(search.best, sites, value & kind.known)
            bits = [1 << bit for bit in range((kind.known | ordinary).bit_length())]
            for change in (*bits, *(one | other for one, other in combinations(bits, 2))):
                value = _value(search.best, sites[0])
                if change & (value ^ ordinary) == change:
                    yield _set(search.best, sites, value ^ change)


def drop_operands(search: Search) -> Iterator[Program]:
    """Optional operands to their defaults; file descriptors to small numbers."""
    for index, call in enumerate(search.best):
        for position, param in enumerate(CALLS[call.name].params):
            if param.default is not None:
                yield _set(search.best, [Site(index, position)], param.default)
    for kind in ALL_KINDS:
        if isinstance(kind, Number) and kind.tries:
            for sites in _equal_then_single(search.best, kind):
                for value in kind.tries:
                    yield _set(search.best, sites, value)


def lower_numbers(search: Search) -> Iterator[Program]:
    """Attempts that fail: earlier ones; limits: rounder ones."""
    for kind in ALL_KINDS:
        for sites in _equal_then_single(search.best, kind) if isinstance(kind, Nth) else ():
            for value in range(kind.low, min(_value(search.best, sites[0]), _MANY_ATTEMPTS)):
                yield _set(search.best, sites, value)
    for kind in ALL_KINDS:
        for sites in _equal_then_single(search.best, kind) if isinstance(kind, Amount) else ():
            value = _value(search.best, sites[0])
            for unit in (search.geometry.slot_bytes, search.geometry.page_bytes, 1):
                for count in range(9):
                    yield _set(search.best, sites, count * unit)
            for rounded in _rounded(value, search.geometry):
                yield _set(search.best, sites, rounded)


def cut_space(search: Search) -> Iterator[Program]:
    """Takes a piece out of the address space, between two addresses that the program names.

    Everything above comes down and every range across the piece gets shorter, so all relations
    between the calls survive; pieces of whole slots or PUDs keep the offsets within them too.
    """
    geometry = search.geometry
    index = 0
    while index + 1 < len(edges := points(search.best)):
        start, end = edges[index], edges[index + 1]
        gap = end - start
        for size in dict.fromkeys(
            (
                gap,
                round_down(gap, geometry.pud_bytes),
                round_down(gap - 1, geometry.slot_bytes),
                round_down(gap, geometry.slot_bytes),
                round_down(gap // 2, geometry.slot_bytes),
                round_down(gap - 1, geometry.page_bytes),
                round_down(gap // 2, geometry.page_bytes),
                geometry.pud_bytes,
                geometry.slot_bytes,
                geometry.page_bytes,
            )
        ):
            if 0 < size <= gap:
                yield without(search.best, Range(start, start + size))
        index += 1


def shrink_lengths(search: Search) -> Iterator[Program]:
    """Lengths: all that are equal together (an mremap and the mmap it moves), then one by one."""
    for sites in _equal_then_single(search.best, LEN):
        address = base_of(search.best, sites[0])
        for value in _shorter(_value(search.best, sites[0]), address, search.geometry):
            yield _set(search.best, sites, value)
        yield from _bisect(search, sites)


def narrow_ranges(search: Search) -> Iterator[Program]:
    """A part of a range in place of the whole: one that starts later, and one page of it.

    The parts start where other calls have something to say, and at boundaries.  An mremap keeps
    its source and destination in step.
    """
    geometry = search.geometry
    for index in range(len(search.best)):
        span = next(iter(spans(search.best[index])), None)
        if span is None:
            continue
        last = span.end - 1
        starts = dict.fromkeys(
            (
                round_down(last, geometry.pud_bytes),
                round_down(last, geometry.slot_bytes),
                round_down(last, geometry.page_bytes),
                round_down((span.start + span.end) // 2, geometry.slot_bytes),
                round_down((span.start + span.end) // 2, geometry.page_bytes),
                round_up(span.start + 1, geometry.slot_bytes),
                round_up(span.start + 1, geometry.pud_bytes),
                *points(search.best),
            )
        )
        for start in starts:
            for length in (geometry.page_bytes, geometry.slot_bytes, span.end - start):
                part = narrowed(search.best[index], start, length)
                if part is not None:
                    yield _replace(search.best, {index: part})


def simplify_addresses(search: Search) -> Iterator[Program]:
    """Addresses towards 0 and to boundaries, everything that lies in one range together.

    First all addresses, then those of ranges that touch, of one range, the equal ones, and last
    each on its own; every group is shifted as a whole.  Then the two sides of an mremap trade
    places, so that the source comes first.
    """
    for sites in _address_groups(search.best):
        base = min(_value(search.best, site) for site in sites)
        for target in _nearer_addresses(base, search.geometry):
            base = min(_value(search.best, site) for site in sites)
            yield _shift(search.best, sites, target - base)
        yield from _bisect(search, sites)
    for call in search.best:
        if len(named := spans(call)) == 2:
            yield _traded(search.best, *named)
    for sites in _equal_then_single(search.best, OFFSET):
        for value in _nearer_addresses(_value(search.best, sites[0]), search.geometry):
            yield _set(search.best, sites, value)


def drop_pairs(search: Search) -> Iterator[Program]:
    """Any two calls that only make sense together, such as an mmap and its munmap."""
    for first, second in combinations(range(len(search.best) - 1, -1, -1), 2):
        program = search.best
        if first < len(program):  # it has become shorter otherwise, and the next round goes on
            yield program[:second] + program[second + 1 : first] + program[first + 1 :]


# In this order: what removes most comes first, pairs of calls, which are many, last.
PASSES: tuple[Callable[[Search], Iterator[Program]], ...] = (
    drop_calls,
    simplify_flags,
    drop_operands,
    lower_numbers,
    cut_space,
    shrink_lengths,
    narrow_ranges,
    simplify_addresses,
    drop_pairs,
)


# --- Numbers worth trying -------------------------------------------------------------------------


def _bisect(search: Search, sites: list[Site]) -> Iterator[Program]:
    """The smallest number with one digit, with two … that will do, by bisection.

    The lowest of the operands takes the number, the others keep their distance from it.  Numbers
    with the same digits are bisected apart: over all numbers, half of an acceptable 0x400000 is as
    good, but half of 0x300000 is less simple and would send the search the wrong way.
    """
    for digits in range(1, 5):
        base = min(_value(search.best, site) for site in sites)
        if digits > _digits(base):
            return
        low, high = 0, _MAGNITUDES * 15 << 4 * (digits - 1)
        while low < high:
            middle = (low + high) // 2
            target = _number(digits, middle)
            base = min(_value(search.best, site) for site in sites)
            if target < base:
                yield _shift(search.best, sites, target - base)
            if target >= base or min(_value(search.best, site) for site in sites) == target:
                high = middle
            else:
                low = middle + 1


_MANY_ATTEMPTS = 64  # later ones come down step by step, round by round
_MAGNITUDES = 13  # hex digits above the smallest page, in 64 bits


def _number(digits: int, index: int) -> int:
    """The index-th multiple of the smallest page among those with that many digits, ascending."""
    first = 1 << 4 * (digits - 1)
    zeroes, offset = divmod(index, 15 * first)
    return (first + offset) * SMALLEST_PAGE << 4 * zeroes


def _shorter(length: int, address: int, geometry: Geometry) -> Iterator[int]:
    """Lengths below `length` for a range at `address`, the boldest first."""
    page, slot, pud = geometry.page_bytes, geometry.slot_bytes, geometry.pud_bytes
    yield 0
    for unit in (page, slot, pud):
        yield from (unit, 2 * unit, 3 * unit, 4 * unit)
    for unit in (slot, pud):
        yield round_up(address + 1, unit) - address  # to the end of the slot it starts in
        yield round_up(address + 1, unit) - address + page
    yield from _rounded(length, geometry)


def _nearer_addresses(address: int, geometry: Geometry) -> Iterator[int]:
    """Addresses that are simpler than `address` or lie at a boundary near it, the boldest first."""
    page, slot, pud = geometry.page_bytes, geometry.slot_bytes, geometry.pud_bytes
    yield 0
    for unit in (slot, pud):
        yield address % unit
        for count in (1, 2, 3, 4):
            yield unit * count
            yield unit * count + address % unit
    yield pud - slot
    yield pud - page
    yield slot - page
    yield from _rounded(address, geometry)


def _rounded(value: int, geometry: Geometry) -> Iterator[int]:
    """`value` rounded to boundaries, cut to its last and its first digits, and one unit less."""
    units = (geometry.pud_bytes, geometry.slot_bytes, geometry.page_bytes)
    for unit in units:
        yield round_down(value, unit)
        yield round_up(value, unit)
    for digits in range(1, value.bit_length() // 4 + 1):
        yield value % 16**digits
    for digits in range(value.bit_length() // 4, 0, -1):
        yield round_down(value, 16**digits)
        yield round_up(value, 16**digits)
    for unit in units:
        yield value - unit


# --- How simple a program is ----------------------------------------------------------------------


def _rank(program: Program) -> Simplicity:
    """Simplicity of a program in search form."""
    flags, length_digits, length_bytes, address_digits, address_bytes = map(
        sum, zip((0, 0, 0, 0, 0), *map(_call_rank, program), strict=True)
    )
    return Simplicity(
        len(program), flags, length_digits, length_bytes, address_digits, address_bytes, program
    )


@lru_cache(maxsize=1 << 14)
def _call_rank(call: Call) -> tuple[int, int, int, int, int]:
    """What a call adds to the fields of `Simplicity` between the first and the last."""
    flags = length_digits = length_bytes = address_digits = address_bytes = 0
    for kind, value in zip(KINDS[call.name], call.args, strict=True):
        match kind.counts_as:
            case "length":
                length_digits += _digits(value)
                length_bytes += value
            case "address":
                address_digits += _digits(value)
                address_bytes += value
            case "flags":
                flags += kind.strangeness(value)
    return flags, length_digits, length_bytes, address_digits, address_bytes


def _digits(value: int) -> int:
    """Significant hex digits without trailing zeroes, and `UNALIGNED` more within a page."""
    if not value:
        return 0
    trailing = (value & -value).bit_length() - 1
    digits = (value.bit_length() + 3) // 4 - trailing // 4
    return digits + UNALIGNED if value % SMALLEST_PAGE else digits


# --- Groups of operands, and changing them --------------------------------------------------------


def _sites(program: Program, kind: Operand) -> list[Site]:
    """All operands of a kind, in program order."""
    return [
        Site(index, position)
        for index, call in enumerate(program)
        for position, found in enumerate(KINDS[call.name])
        if found is kind
    ]


def _equal_then_single(program: Program, kind: Operand) -> list[list[Site]]:
    """Groups of operands with equal values, the largest group first, then each operand alone."""
    sites = _sites(program, kind)
    equal: dict[int, list[Site]] = {}
    for site in sites:
        equal.setdefault(_value(program, site), []).append(site)
    shared = [group for group in equal.values() if len(group) > 1]
    return sorted(shared, key=len, reverse=True) + [[site] for site in sites]


def _address_groups(program: Program) -> list[list[Site]]:
    """Addresses that are worth shifting together; every group once, from large ones to single."""
    sites = _sites(program, ADDR)
    named = [span for call in program for span in spans(call)]
    areas = [*union(named), *dict.fromkeys(named)]
    inside = [
        [site for site in sites if area.start <= _value(program, site) <= area.end]
        for area in areas
    ]
    equal = _equal_then_single(program, ADDR)
    # Some are equal by chance only, such as the end of one move and the start of another.
    pairs = [pair for group in equal for pair in combinations(group, 2)]
    groups = (sites, *inside, *equal, *pairs)
    unique = dict.fromkeys(tuple(group) for group in groups if group)
    return [list(group) for group in sorted(unique, key=len, reverse=True)]


def _value(program: Program, site: Site) -> int:
    return program[site.call].args[site.position]


def _set(program: Program, sites: Iterable[Site], value: int) -> Program:
    """The program with one value at all of these places."""
    return _change(program, dict.fromkeys(sites, value))


def _shift(program: Program, sites: Iterable[Site], delta: int) -> Program:
    """The program with `delta` bytes added at all of these places."""
    return _change(program, {site: _value(program, site) + delta for site in sites})


def _traded(program: Program, here: Range, there: Range) -> Program:
    """The program with all that lies in one range in the other and the other way round."""
    delta = there.start - here.start
    values = {}
    for site in _sites(program, ADDR):
        value = _value(program, site)
        if here.start <= value < here.end:
            values[site] = value + delta
        elif there.start <= value < there.end:
            values[site] = value - delta
    return _change(program, values)


def _change(program: Program, values: dict[Site, int]) -> Program:
    calls: dict[int, Call] = {}
    for site, value in values.items():
        call = calls.get(site.call, program[site.call])
        calls[site.call] = call.with_arg(site.position, value)
    return _replace(program, calls)


def _replace(program: Program, calls: dict[int, Call]) -> Program:
    """The program with some calls replaced, by index."""
    changed = list(program)
    for index, call in calls.items():
        changed[index] = call
    return tuple(changed)
