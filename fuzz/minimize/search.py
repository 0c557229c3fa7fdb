"""Makes a case as simple as it can be while it still shows the same finding.

The search is a list of passes.  A pass is a generator of candidates that it builds from the best
case so far, which may change under it while it runs: it reads `search.best` afresh at every step.
Every candidate goes through one gate, `Search.consider`, which asks the predicate only about
candidates that are strictly simpler than the best and were never asked about before.  The order
is total and well founded, so the search ends, and equal inputs give equal results.

What is simpler, first difference decides (`simplicity`):

1. fewer calls;
2. flags nearer to the ordinary ones (`ORDINARY`), counted in bits that differ, optional
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

from engine.base.address import WORD_MASK, Range, round_down, round_up
from engine.base.geometry import Geometry
from engine.base.uapi import (
    MADV_NORMAL,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    PROT_READ,
    PROT_WRITE,
    UFFDIO_REGISTER_MODE_WP,
)
from fuzz.case import (
    FLAG_KINDS,
    SIGNATURES,
    SYMBOLS,
    Call,
    Case,
    Kind,
    bounds,
)

UNALIGNED = 16  # more digits than any number has
SMALLEST_PAGE = 4096

# The flags a case has unless they matter.  MAP_FIXED is among them, and so no extra: a case whose
# addresses are all written down is easier to read than one where the kernel chooses.
ORDINARY: dict[Kind, int] = {
    Kind.PROT: PROT_READ | PROT_WRITE,
    Kind.MAP: MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS,
    Kind.REMAP: 0,
    Kind.ADVICE: MADV_NORMAL,
    Kind.MODE: UFFDIO_REGISTER_MODE_WP,
    Kind.FEATURES: 0,
    Kind.SWITCH: 1,
    Kind.CPU: 0,
    Kind.FAILURE: 0,
}

Program = tuple[Call, ...]


class Site(NamedTuple):
    """Where an operand stands."""

    call: int
    position: int


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
    return _rank(_to_search_form(case.calls))


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
        self.best = _to_search_form(case.calls)
        self.rank = _rank(self.best)
        self.seen = {self.best}
        self.runs = 1

    def case(self) -> Case:
        """The best program as a case."""
        return self.header.with_calls(_to_calls(self.best))

    def consider(self, program: Program) -> None:
        """Make `program` the best if it is simpler and shows the finding."""
        if program in self.seen or not _is_writable(program):
            return
        rank = _rank(program)
        if rank >= self.rank:
            return
        self.seen.add(program)
        self.runs += 1
        if not self.same(self.header.with_calls(_to_calls(program))):
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
    for kind, ordinary in ORDINARY.items():
        for sites in _equal_then_single(search.best, kind):
            value = _value(search.best, sites[0])
            known = 0
            for flag in SYMBOLS.get(kind, {}).values():
                known |= flag
            yield _set(search.best, sites, ordinary)
            if kind not in FLAG_KINDS:  # a number, not a set of bits
                continue
            yield _set(search.best, sites, value & known)
            bits = [1 << bit for bit in range((known | ordinary).bit_length())]
            for change in (*bits, *(one | other for one, other in combinations(bits, 2))):
                value = _value(search.best, sites[0])
                if change & (value ^ ordinary) == change:
                    yield _set(search.best, sites, value ^ change)


def drop_operands(search: Search) -> Iterator[Program]:
    """Optional operands to their defaults; file descriptors to small numbers."""
    for index, call in enumerate(search.best):
        for position, param in enumerate(SIGNATURES[call.name]):
            if param.default is not None:
                yield _set(search.best, [Site(index, position)], param.default)
    for sites in _equal_then_single(search.best, Kind.FD):
        for value in (-1, 0, 1, 2, 3):
            yield _set(search.best, sites, value)


def lower_numbers(search: Search) -> Iterator[Program]:
    """Attempts that fail: earlier ones; limits: rounder ones."""
    for sites in _equal_then_single(search.best, Kind.NTH):
        for value in range(1, min(_value(search.best, sites[0]), _MANY_ATTEMPTS)):
            yield _set(search.best, sites, value)
    for sites in _equal_then_single(search.best, Kind.AMOUNT):
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
    while index + 1 < len(points := _points(search.best)):
        start, end = points[index], points[index + 1]
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
                yield _without(search.best, Range(start, start + size))
        index += 1


def shrink_lengths(search: Search) -> Iterator[Program]:
    """Lengths: all that are equal together (an mremap and the mmap it moves), then one by one."""
    for sites in _equal_then_single(search.best, Kind.LEN):
        address = _base_of(search.best, sites[0])
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
        span = next(iter(_spans(search.best[index])), None)
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
                *_points(search.best),
            )
        )
        for start in starts:
            for length in (geometry.page_bytes, geometry.slot_bytes, span.end - start):
                narrowed = _narrow(search.best[index], start, length)
                if narrowed is not None:
                    yield _replace(search.best, {index: narrowed})


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
        if _has_destination(call):
            yield _traded(search.best, *_spans(call))
    for sites in _equal_then_single(search.best, Kind.OFFSET):
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


# --- Search form ----------------------------------------------------------------------------------


_DOWNWARD = frozenset({"execve_stack", "relocate"})
_POINTS = frozenset({"migrate_begin", "migrate_end", "touch_on"})  # one address, no length

_WORD = (0, WORD_MASK)

# Kinds of the operands in search form, by name of the call.
_KINDS: dict[str, tuple[Kind, ...]] = {
    name: (Kind.LEN, Kind.ADDR, Kind.LEN)
    if name in _DOWNWARD
    else tuple(param.kind for param in params)
    for name, params in SIGNATURES.items()
}


def _to_search_form(calls: Iterable[Call]) -> Program:
    """Calls as the passes see them: no results, unsigned operands, stacks by size.

    The `start` operand of a stack move is replaced by the size of the stack: its end is where it
    hangs, and its size is a length like any other, which may equal the shift.
    """
    return tuple(_call_to_search_form(call) for call in calls)


def _call_to_search_form(call: Call) -> Call:
    args = call.args
    if call.name in _DOWNWARD:
        start, end, shift = args
        args = (end - start, end, shift)
    return Call(
        call.name,
        tuple(
            value & WORD_MASK if bounds(kind) == _WORD else value
            for kind, value in zip(_KINDS[call.name], args, strict=True)
        ),
    )


def _to_calls(program: Program) -> Program:
    """The calls that a program in search form stands for."""
    return tuple(
        call.with_arg(0, (call.args[1] - call.args[0]) & WORD_MASK)
        if call.name in _DOWNWARD
        else call
        for call in program
    )


def _is_writable(program: Program) -> bool:
    """True if every number fits its operand; passes need not care, they may compute too far."""
    return all(map(_call_is_writable, program))


@lru_cache(maxsize=1 << 14)  # nearly all calls of a candidate are those of the best
def _call_is_writable(call: Call) -> bool:
    return all(
        low <= value <= high
        for (low, high), value in zip(map(bounds, _KINDS[call.name]), call.args, strict=True)
    )


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
    for param, kind, value in zip(SIGNATURES[call.name], _KINDS[call.name], call.args, strict=True):
        if kind is Kind.LEN or kind is Kind.AMOUNT:
            length_digits += _digits(value)
            length_bytes += value
        elif kind is Kind.ADDR or kind is Kind.OFFSET:
            address_digits += _digits(value)
            address_bytes += value
        elif kind is Kind.FD:
            flags += value != param.default
        elif kind is Kind.NTH:
            flags += value - 1
        elif kind not in FLAG_KINDS:
            flags += value != ORDINARY.get(kind, value)
        else:
            flags += (value ^ ORDINARY[kind]).bit_count()
    return flags, length_digits, length_bytes, address_digits, address_bytes


def _digits(value: int) -> int:
    """Significant hex digits without trailing zeroes, and `UNALIGNED` more within a page."""
    if not value:
        return 0
    trailing = (value & -value).bit_length() - 1
    digits = (value.bit_length() + 3) // 4 - trailing // 4
    return digits + UNALIGNED if value % SMALLEST_PAGE else digits


# --- Ranges of a program --------------------------------------------------------------------------


def _spans(call: Call) -> tuple[Range, ...]:
    """The ranges a call names, its main one first; none for a call without an address."""
    args = call.args
    at = _address_position(call)
    if at is None:
        return ()
    if call.name in _POINTS:
        return (Range(args[at], args[at]),)
    if call.name in _DOWNWARD:
        return (Range(args[1] - args[0], args[1]),)
    main = Range(args[0], args[0] + args[1])
    if _has_destination(call):
        return (main, Range(args[4], args[4] + args[2]))
    return (main,)


def _address_position(call: Call) -> int | None:
    """Which operand is the call's address, if any."""
    kinds = _KINDS[call.name]
    return kinds.index(Kind.ADDR) if Kind.ADDR in kinds else None


def _has_destination(call: Call) -> bool:
    """True for an mremap that names the place to move to."""
    places = MREMAP_FIXED | MREMAP_DONTUNMAP
    return call.name == "mremap" and bool(call.args[3] & places or call.args[4])


def _points(program: Program) -> list[int]:
    """All addresses that the program names, as start or end of a range, ascending from 0."""
    spans = [span for call in program for span in _spans(call)]
    return sorted({0, *(max(edge, 0) for span in spans for edge in span)})


def _base_of(program: Program, site: Site) -> int:
    """Start of the range that a length belongs to."""
    call = program[site.call]
    spans = _spans(call)
    assert spans
    return spans[-1 if call.name == "mremap" and site.position == 2 else 0].start


def _narrow(call: Call, start: int, length: int) -> Call | None:
    """The call with its main range cut down to `length` bytes from `start`; None if not possible.

    Both sides of an mremap lose the same, so it still moves or resizes as it did.
    """
    span = _spans(call)[0]
    if not (span.start <= start and start + length <= span.end and 0 < length < span.length):
        return None
    front, back = start - span.start, span.end - start - length
    args = list(call.args)
    if call.name in _DOWNWARD:
        args[:2] = length, start + length
        return Call(call.name, tuple(args))
    args[:2] = start, length
    if call.name == "mremap":
        args[2] = max(args[2] - front - back, 0)
        if _has_destination(call):
            args[4] += front
    return Call(call.name, tuple(args))


def _without(program: Program, hole: Range) -> Program:
    """The program in an address space that lacks `hole`.

    A hole in the source of a move is one in its destination as well, and the other way round;
    these follow from each other along a chain of moves.
    """
    moves = [spans for call in program if len(spans := _spans(call)) == 2]
    holes = [hole]
    for known in holes:  # grows meanwhile
        if len(holes) > len(moves):
            break  # no chain: moves that overlap themselves, whose holes multiply without end
        images = dict.fromkeys(image for move in moves for image in _images(move, known))
        holes += [image for image in images if image not in holes]
    merged = _union(holes)

    def squeeze(address: int) -> int:
        return address - sum(
            min(gone.end, address) - gone.start for gone in merged if gone.start < address
        )

    return tuple(_squeezed(call, squeeze) for call in program)


def _squeezed(call: Call, squeeze: Callable[[int], int]) -> Call:
    """The call with its ranges mapped by `squeeze`, edge by edge."""
    args = list(call.args)
    spans = [Range(squeeze(span.start), squeeze(span.end)) for span in _spans(call)]
    if not spans:
        return call
    main = spans[0]
    if call.name in _POINTS:
        at = _address_position(call)
        assert at is not None
        return call.with_arg(at, main.start)
    if call.name in _DOWNWARD:
        args[:2] = main.length, main.end
        return Call(call.name, tuple(args))
    if call.name == "mremap":
        if len(spans) == 2:
            args[2], args[4] = spans[1].length, spans[1].start
        else:  # the kernel chooses the place, but the size still follows
            args[2] = max(args[2] - (args[1] - main.length), 0)
    args[:2] = main.start, main.length
    return Call(call.name, tuple(args))


def _images(move: tuple[Range, ...], hole: Range) -> Iterator[Range]:
    """Where a move takes a hole inside its source, and where it takes one in its target from."""
    for here, there in (move, move[::-1]):
        if here.contains(hole):
            shift = there.start - here.start
            yield Range(hole.start + shift, hole.end + shift)


def _union(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as ranges that neither overlap nor touch, ascending."""
    merged: list[Range] = []
    for span in sorted(ranges):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Range(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


# --- Groups of operands, and changing them --------------------------------------------------------


def _sites(program: Program, kind: Kind) -> list[Site]:
    """All operands of a kind, in program order."""
    return [
        Site(index, position)
        for index, call in enumerate(program)
        for position, found in enumerate(_KINDS[call.name])
        if found is kind
    ]


def _equal_then_single(program: Program, kind: Kind) -> list[list[Site]]:
    """Groups of operands with equal values, the largest group first, then each operand alone."""
    sites = _sites(program, kind)
    equal: dict[int, list[Site]] = {}
    for site in sites:
        equal.setdefault(_value(program, site), []).append(site)
    shared = [group for group in equal.values() if len(group) > 1]
    return sorted(shared, key=len, reverse=True) + [[site] for site in sites]


def _address_groups(program: Program) -> list[list[Site]]:
    """Addresses that are worth shifting together; every group once, from large ones to single."""
    sites = _sites(program, Kind.ADDR)
    spans = [span for call in program for span in _spans(call)]
    areas = [*_union(spans), *dict.fromkeys(spans)]
    inside = [
        [site for site in sites if area.start <= _value(program, site) <= area.end]
        for area in areas
    ]
    equal = _equal_then_single(program, Kind.ADDR)
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
    for site in _sites(program, Kind.ADDR):
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
