"""Who asks the rules: before and after each call, and at each point of a move.

`Judge` is for one run of a program, `MoveRules` for the moves in it, `StateRules` for its quiet
moments.  Which rules there are, and when they are checked, is said by the files that check them.
"""

from collections.abc import Sequence
from typing import Literal

from engine.base.points import ENTER, LEAVE, PMD_OCCUPIED, PUD_OCCUPIED, Point
from engine.base.violation import Violation
from engine.move import MovePoint
from engine.state.space import AddressSpace
from fuzz.calls.registry import Returned, that_do
from fuzz.calls.syscall import Does
from fuzz.case import Call, Result
from fuzz.rules.contents import Contents
from fuzz.rules.index import checks_on
from fuzz.rules.rule import FRESH, NOTHING, SHORTAGE, STATE, TLB, CheckFunction, Occasion
from fuzz.rules.sight import Moving, Sight
from fuzz.rules.view import Memory, State

# Calls after which the page tables may be wrong in a new way: every rule is checked there.
# Measured by `python -m fuzz.bench rules`.
RulesAfter = Literal["last", "moving", "call"]
_MOVING = that_do(Does.MOVES)

Functions = tuple[CheckFunction, ...]


def _functions(occasion: Occasion, name: str = "") -> Functions:
    return tuple(check.function for check in checks_on(occasion, name) if check.function)


def _by_name(occasion: Occasion) -> dict[str, Functions]:
    names = {name for check in checks_on(occasion) for name in check.names}
    return {name: _functions(occasion, name) for name in names}


ON: dict[Occasion, Functions] = {occasion: _functions(occasion) for occasion in Occasion}
AT = _by_name(Occasion.POINT)
AFTER = _by_name(Occasion.CALL)
# What of the state before a call its checks compare.
BEFORE = {name: max(check.before for check in checks_on(Occasion.CALL, name)) for name in AFTER}


class MoveRules:
    """A listener: the rules at points of page-table moves."""

    __slots__ = ("_sight", "occupied")

    hears = frozenset(AT) | Moving.FOLLOWED

    def __init__(self) -> None:
        self._sight: Moving | None = None
        self.occupied = 0  # entries that a whole table could not move to

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        assert isinstance(point, MovePoint)
        sight, name = self._sight, point.name
        if name == ENTER or sight is None:
            sight = self._sight = Moving(space, point.move)
        elif name in (PMD_OCCUPIED, PUD_OCCUPIED):
            self.occupied += 1
        sight.arrive(point)
        for function in AT.get(name, ()):
            for violation in function(sight):
                space.report(violation)
        sight.depart()
        if name == LEAVE:
            self._sight = None  # else what it has seen would stay until the space goes


class StateRules:
    """Every rule on a whole state, checked time and again on one space."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Memory = {}

    def check(self, space: AddressSpace) -> list[Violation]:
        """What is wrong now, in the order of the rules."""
        state = State(space, self._known)
        found = [violation for function in ON[STATE] for violation in function(state)]
        self._known = state.sound
        return found


def check_state(space: AddressSpace) -> list[Violation]:
    """Every rule on a whole state, in order."""
    return StateRules().check(space)


class Judge:
    """The rules of one run.  What they find is added to `space.violations`.

    Arguments: `rules_after` after which calls the whole state is judged: the last, every moving
    one, or each; `oracle` compare contents, too.
    """

    def __init__(self, space: AddressSpace, *, rules_after: RulesAfter, oracle: bool) -> None:
        self._space = space
        self._rules_after = rules_after
        self._moves = MoveRules()
        self._states = StateRules()
        self._contents = Contents(space) if oracle else None
        self._sight: Sight | None = None
        space.listen(self._moves)
        for function in ON[FRESH]:
            space.violations += function(space)

    def before(self, call: str, args: Sequence[int]) -> None:
        """A call is about to be made, with these operands and real addresses."""
        if call in AFTER or self._space.failures.armed:
            self._moves.occupied = 0
            self._sight = Sight(self._space, call, args, BEFORE.get(call, NOTHING))

    def after(self, returned: Returned) -> None:
        """It has returned."""
        sight, self._sight = self._sight, None
        if sight is None:
            return
        violations = self._space.violations
        sight.returned(returned, self._moves.occupied)
        for function in AFTER.get(sight.call, ()):
            violations += function(sight)
        if sight.attempts is not None:
            for function in ON[SHORTAGE]:
                violations += function(sight)

    def quiet(self, call: Call, result: Result, *, last: bool) -> None:
        """The call is over, or was skipped.

        Arguments: `result` as a case has it; `last` it is the last of its program.
        """
        space, moving = self._space, call.name in _MOVING
        if last or self._rules_after == "call" or (moving and self._rules_after == "moving"):
            space.violations += self._states.check(space)
        if space.tlb.cached:
            for function in ON[TLB]:
                space.violations += function(space)
        if self._contents is not None:
            # A failed madvise may have got any part of its way: the oracle has to look.
            looking = last or moving or (call.name == "madvise" and result != 0)
            space.violations += self._contents.check(call, result, looking=looking)
