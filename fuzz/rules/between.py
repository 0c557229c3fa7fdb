"""What others do in the middle of a call, taken into what rules compare with the state before it.

A rule says what a call makes of the memory that it finds.  When somebody else changes that memory
meanwhile, the rule is about the memory as that leaves it: so each change is made to the picture of
the state before, too, there where the page was then.
"""

from typing import Protocol

from engine.base.points import ACTED, ACTS, Point
from engine.state.space import AddressSpace
from engine.state.table import Picture
from fuzz.calls.actors import Deed
from fuzz.calls.registry import as_result
from fuzz.case import Between, Call


class Sights(Protocol):
    """What rules compare with the state before a call."""

    def retell(self, then: Picture, now: Picture) -> bool:
        """Somebody has changed the leaves.  Returns: are pages of the call on their way?"""


class Deeds:
    """A listener: what others do, as long as a call takes.

    `made` is what the oracle is told of it.
    Arguments: `sights` what is compared with the state before the call.
    """

    hears = frozenset((ACTS, ACTED))
    __slots__ = ("_sights", "_then", "made")

    def __init__(self, sights: Sights) -> None:
        self.made: list[Between] = []
        self._sights = sights
        self._then: Picture = {}

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        assert isinstance(point, Deed)
        if point.name == ACTS:
            self._then = space.tree.frozen()
            return
        moving = self._sights.retell(self._then, space.tree.frozen())
        base, args = point.actor.base, list(point.actor.args)
        for index in base.addresses:
            args[index] -= space.arena.start
        result = as_result(space, point.actor.returned)
        self.made.append(Between(Call(base.name, tuple(args), result), moving))
