"""What others do in the middle of a call: `@at POINT N: CALL`.

At the N-th time from then on that a call comes to the point (engine/base/points.py), another thread
of the process, the kernel or another process makes that CALL.  It runs there only if it would not
have to wait (fuzz/calls/waits.py): so what the model interleaves, the kernel permits.

A walk of the reverse map looks for a page's table first, and then takes the lock of that: a last
operand SLOWLY has it stop in between, until the step of the move is over, or wants the locks of the
reverse map.  Meanwhile whoever else wants these, or faults, is taken to wait for the lock of the
page.  Source: map_pte(), which since 6.13 asks again (pmd_same()) whether that is the table.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from engine.base.points import (
    ACTED,
    ACTS,
    ALWAYS_HELD,
    ITERATION,
    LEAVE,
    MOVE_HUGE,
    MOVE_PMD,
    MOVE_PTES,
    MOVE_PUD,
    Point,
)
from engine.move import MovePoint, rmap_locks
from engine.state.space import AddressSpace
from fuzz.calls.arena import Arena
from fuzz.calls.operand import Choice, Nth
from fuzz.calls.record import NTH, POINT, choice
from fuzz.calls.syscall import Makes, Param, Span, Syscall
from fuzz.calls.waits import conflict, waits_for

PREFIX = "@at "
_FRONT = 2  # operands before those of the call itself
_WEIGHTS = {"iteration": 3, "move-ptes": 2, "move-normal-pmd": 2, "enter": 2, "leave": 2}
_VISIT = Nth(meaning="visit", low=1, high=1 << 20, likely={1: 24, 2: 6, 3: 3, 4: 2, 5: 1, 6: 1})


class PointKind(Choice):
    """A point; one that a call comes to earlier is simpler."""

    def strangeness(self, value: int) -> int:
        """See `Operand.strangeness`."""
        return value


_MOVERS_BEGIN = frozenset((MOVE_PTES, MOVE_PMD, MOVE_PUD, MOVE_HUGE))
_GOES_ON = _MOVERS_BEGIN | {ITERATION, LEAVE}  # points at which a walk that has stopped may do so


@dataclass(eq=False, slots=True)
class Actor:
    """Somebody who makes a call when another call comes to a point: a listener.

    `left` times more it has to come there; `came` says that it did; then `waits` is the lock that
    the call would have waited for and so was not made, or `returned` what it gave.  `walk` is what
    is left of one that has stopped before the lock of a table, until the move is done with that.
    """

    base: Syscall
    point: str
    left: int
    args: tuple[int, ...]
    came: bool = field(init=False, default=False)
    waits: str = field(init=False, default="")
    returned: Any = field(init=False, default=None)
    walk: Generator[int, None, Any] | None = field(init=False, default=None)

    @property
    def hears(self) -> Collection[str]:
        """See `Listener`."""
        return {self.point} | _GOES_ON if self._slow is not None else (self.point,)

    @property
    def _slow(self) -> Callable[..., Generator[int, None, Any]] | None:
        """How the call is made step by step, if it is to be."""
        return self.base.acts.slowly if self.base.acts is not None and self.args[-1] else None

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        if space.acting:
            return
        if self.walk is not None:
            if _has_the_lock(point):
                self._act(space, point, self._go_on)
                space.walking = False
        elif not self.came and point.name == self.point:
            self.left -= 1
            if not self.left:
                self._comes(space, point)

    def _comes(self, space: AddressSpace, point: Point) -> None:
        """The moment is there."""
        self.came = True
        self.waits = waits_for(space, point, self.base, self.args)
        if self.waits:
            return
        if self._slow is None or not _stops_at(point):
            self._act(space, point, partial(self.base.model, space, *self.args))
            return
        self.walk = self._slow(space, *self.args)
        page = self.args[0] & -space.geometry.page_bytes
        self._act(space, point, partial(self._go_on, page))
        space.walking = self.walk is not None

    def _act(self, space: AddressSpace, point: Point, make: Callable[[], Any]) -> None:
        """Make the call, or some of it, and tell that."""
        space.acting = True
        self.tell(space, ACTS, point)
        self.returned = make()
        self.tell(space, ACTED, point)
        space.acting = False

    def _go_on(self, stops: int | None = None) -> Any:
        """Go on with a walk up to the address where it `stops`, or to its end.

        Returns: its result, None if it has stopped.
        """
        assert self.walk is not None
        while True:
            try:
                if next(self.walk) == stops:
                    return None
            except StopIteration as end:
                self.walk = None
                return end.value

    def tell(self, space: AddressSpace, name: str, point: Point) -> None:
        """Tell who listens to `acts` or `acted`."""
        for listener in space.listeners.get(name, ()):
            listener(space, Deed(name, point.start, point.end, point.held, self, point))


def _stops_at(point: Point) -> bool:
    """May a walk that begins there be overtaken by the next step of the move?

    Not if that takes the locks that the walk holds.
    """
    return (
        isinstance(point, MovePoint)
        and point.name != LEAVE
        and not (point.name in _MOVERS_BEGIN and rmap_locks(point.move, point.name))
    )


def _has_the_lock(point: Point) -> bool:
    """Does a walk that has stopped go on: is the step over, or does the next one wait for it?"""
    if not isinstance(point, MovePoint) or point.name not in _GOES_ON:
        return False
    return point.name not in _MOVERS_BEGIN or bool(rmap_locks(point.move, point.name))


@dataclass(slots=True)
class Deed(Point):
    """The points `acts` and `acted`: somebody does something at another point."""

    actor: Actor
    at: Point


def in_between(base: Syscall, number: int) -> Syscall:
    """The form of a call that others make in the middle of another one: `@at POINT N: CALL`.

    As a call of a program it only says so: its result is what comes of it.
    """
    assert base.acts is not None
    kind = _points_of(base.needs)
    names, lacks = list(kind.names), base.lacks

    def appoint(space: AddressSpace, point: int, nth: int, *args: int) -> Actor:
        actor = Actor(base, names[point], nth, args)
        space.listen(actor)
        return actor

    def stays(arena: Arena, point: int, nth: int, *args: int) -> bool:
        del point, nth
        return base.stays(arena, *args)

    def fills(args: Sequence[int], locking: bool) -> int:
        return base.fills(args[_FRONT:], locking)

    span = base.span
    return replace(
        base,
        number=number,
        name=PREFIX + base.name,
        params=(Param("point", kind), Param("n", _VISIT), *base.params),
        model=appoint,
        made_by=Makes.MODEL,
        stays=stays,
        record=(
            choice(0, POINT),
            choice(1, NTH),
            *(step._replace(operand=step.operand + _FRONT) for step in base.record),
        ),
        codes=base.acts.codes,
        span=span
        and Span(span.start + _FRONT, _behind(span.length), _behind(span.end), span.fresh),
        lacks=lacks and (lambda point, nth, *args: lacks(*args)),
        fills=fills,
        theme=0,
        acts=None,
        base=base,
    )


def _behind(position: int | None) -> int | None:
    """Where an operand stands behind the point and the number."""
    return None if position is None else position + _FRONT


@cache
def _points_of(needs: int) -> PointKind:
    """The points at which somebody who needs these locks may come in between."""
    names = [name for name, held in ALWAYS_HELD.items() if not conflict(held, needs)]
    return PointKind(
        meaning="point",
        names={name: at for at, name in enumerate(names)},
        others=False,
        high=len(names) - 1,
        likely={at: _WEIGHTS.get(name, 1) for at, name in enumerate(names)},
    )
