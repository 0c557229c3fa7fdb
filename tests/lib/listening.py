"""Functions as listeners of an address space."""

from collections.abc import Callable
from typing import NamedTuple

from engine.base.points import Point
from engine.state.space import AddressSpace


class Listening(NamedTuple):
    """A function that is called at some points."""

    hears: frozenset[str]
    call: Callable[[AddressSpace, Point], object]

    def __call__(self, space: AddressSpace, point: Point, /) -> None:
        self.call(space, point)


def at(*names: str) -> Callable[[Callable[[AddressSpace, Point], object]], Listening]:
    """Makes a function a listener to the points of these names."""
    return lambda call: Listening(frozenset(names), call)
