"""Groups of operands that are worth changing together, and programs in which they are changed."""

from collections.abc import Iterable
from itertools import combinations

from engine.base.address import Range
from fuzz.calls.operand import ADDR, Operand
from fuzz.case import Call
from fuzz.minimize.ranges import KINDS, Program, Site, spans, union


def sites_of(program: Program, kind: Operand) -> list[Site]:
    """All operands of a kind, in program order."""
    return [
        Site(index, position)
        for index, call in enumerate(program)
        for position, found in enumerate(KINDS[call.name])
        if found is kind
    ]


def equal_then_single(program: Program, kind: Operand) -> list[list[Site]]:
    """Groups of operands with equal values, the largest group first, then each operand alone."""
    sites = sites_of(program, kind)
    equal: dict[int, list[Site]] = {}
    for site in sites:
        equal.setdefault(value_at(program, site), []).append(site)
    shared = [group for group in equal.values() if len(group) > 1]
    return sorted(shared, key=len, reverse=True) + [[site] for site in sites]


def address_groups(program: Program) -> list[list[Site]]:
    """Addresses that are worth shifting together; every group once, from large ones to single."""
    sites = sites_of(program, ADDR)
    named = [span for call in program for span in spans(call)]
    areas = [*union(named), *dict.fromkeys(named)]
    inside = [
        [site for site in sites if area.start <= value_at(program, site) <= area.end]
        for area in areas
    ]
    equal = equal_then_single(program, ADDR)
    # Some are equal by chance only, such as the end of one move and the start of another.
    pairs = [pair for group in equal for pair in combinations(group, 2)]
    groups = (sites, *inside, *equal, *pairs)
    unique = dict.fromkeys(tuple(group) for group in groups if group)
    return [list(group) for group in sorted(unique, key=len, reverse=True)]


def value_at(program: Program, site: Site) -> int:
    """What stands there."""
    return program[site.call].args[site.position]


def with_value(program: Program, sites: Iterable[Site], value: int) -> Program:
    """The program with one value at all of these places."""
    return _changed(program, dict.fromkeys(sites, value))


def shifted(program: Program, sites: Iterable[Site], delta: int) -> Program:
    """The program with `delta` bytes added at all of these places."""
    return _changed(program, {site: value_at(program, site) + delta for site in sites})


def traded(program: Program, here: Range, there: Range) -> Program:
    """The program with all that lies in one range in the other and the other way round."""
    delta = there.start - here.start
    values = {}
    for site in sites_of(program, ADDR):
        value = value_at(program, site)
        if here.start <= value < here.end:
            values[site] = value + delta
        elif there.start <= value < there.end:
            values[site] = value - delta
    return _changed(program, values)


def _changed(program: Program, values: dict[Site, int]) -> Program:
    calls: dict[int, Call] = {}
    for site, value in values.items():
        call = calls.get(site.call, program[site.call])
        calls[site.call] = call.with_arg(site.position, value)
    return replaced(program, calls)


def replaced(program: Program, calls: dict[int, Call]) -> Program:
    """The program with some calls replaced, by index."""
    changed = list(program)
    for index, call in calls.items():
        changed[index] = call
    return tuple(changed)
