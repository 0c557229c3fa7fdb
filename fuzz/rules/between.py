"""What others do in the middle of a call, taken into what rules compare with the state before it.

A rule says what a call makes of the memory that it finds.  When somebody else changes that memory
meanwhile, the rule is about the memory as that leaves it: so each change is made to the picture of
the state before, too, there where the page was then.
"""

from collections.abc import Sequence
from typing import Protocol

from engine.base.points import ACTED, ACTS, MREMAP_UNLOCKED, Point
from engine.state.space import AddressSpace
from engine.state.table import Picture
from fuzz.calls.actors import Deed
from fuzz.calls.registry import as_result
from fuzz.case import Between, Call


class Sights(Protocol):
    """What rules compare with the state before a call."""

    def retell(self, then: Picture, now: Picture) -> Sequence[tuple[int, int, int]]:
        """Somebody has changed the leaves.  Returns: where pages of the call may be by now."""

    def forget(self) -> None:
        """What the call has left cannot be told from what others make of it."""


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
        went = self._sights.retell(self._then, space.tree.frozen())
        base, args, origin = point.actor.base, list(point.actor.args), space.arena.start
        for index in base.addresses:
            args[index] -= origin
        result = as_result(space, point.actor.returned)
        behind = point.at.name == MREMAP_UNLOCKED
        if behind:
            self._sights.forget()
        ahead = tuple((low - origin, high - origin, delta) for low, high, delta in went)
        self.made.append(Between(Call(base.name, tuple(args), result), ahead, behind))
