"""Programs for tests: what makes a list of calls a program that can be written."""

from collections.abc import Iterable

from fuzz.case import Call


def limits_first(calls: Iterable[Call]) -> tuple[Call, ...]:
    """The calls with the limits among them where they belong, each of them once."""
    listed = tuple(calls)
    limits = {each.args[0]: each for each in listed if each.name == "@limit"}
    return (*limits.values(), *(each for each in listed if each.name != "@limit"))
