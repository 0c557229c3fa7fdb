"""Who asks the rules: before and after each call, and at each point of a move.

`Judge` is for one run of a program, `MoveRules` for the moves in it, `StateRules` for its quiet
moments.  Which rules there are, and when they are checked, is said by the files that check them.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

from engine.base.points import ENTER, LEAVE, PMD_OCCUPIED, PUD_OCCUPIED, Point
from engine.base.violation import Violation
from engine.move import MovePoint
from engine.state.space import AddressSpace
from engine.state.table import Picture
from fuzz.calls.registry import Returned, that_do
from fuzz.calls.syscall import Does
from fuzz.case import Call, Result
from fuzz.rules.between import Deeds
from fuzz.rules.contents import ORACLE_CONTENTS, Contents
from fuzz.rules.index import checks_on
from fuzz.rules.rule import FRESH, NOTHING, SHORTAGE, STATE, TLB, Check, CheckFunction, Occasion
from fuzz.rules.sight import Moving, Sight
from fuzz.rules.view import Memory, State

# Calls after which the page tables may be wrong in a new way: every rule is checked there.
# Measured by `python -m fuzz.bench rules`.
RulesAfter = Literal["last", "moving", "call"]
_MOVING = that_do(Does.MOVES)

Functions = tuple[CheckFunction, ...]


class Asked:
    """The functions that are asked: `on` an occasion, `at` a point of a move, `after` a call.

    `before` is what those after a call compare of the state before it; `contents` is true if the
    oracle is asked, too.
    Arguments: `rules` the slugs of those that are in question; None: all.
    """

    def __init__(self, rules: frozenset[str] | None = None) -> None:
        def in_question(check: Check) -> bool:
            return rules is None or any(rule.slug in rules for rule in check.rules)

        def checks(occasion: Occasion, name: str = "") -> list[Check]:
            return [check for check in checks_on(occasion, name) if in_question(check)]

        def by_name(occasion: Occasion) -> dict[str, Functions]:
            names = {name for check in checks(occasion) for name in check.names}
            return {name: _functions(checks(occasion, name)) for name in names}

        self.on = {occasion: _functions(checks(occasion)) for occasion in Occasion}
        self.at = by_name(Occasion.POINT)
        self.after = by_name(Occasion.CALL)
        self.before = {
            name: max(check.before for check in checks(Occasion.CALL, name)) for name in self.after
        }
        self.contents = rules is None or ORACLE_CONTENTS.slug in rules


def _functions(checks: Iterable[Check]) -> Functions:
    return tuple(check.function for check in checks if check.function)


asked = lru_cache(maxsize=256)(Asked)  # known defects break the same few rules again and again
ALL = asked(None)


class MoveRules:
    """A listener: the rules at points of page-table moves."""

    __slots__ = ("_at", "_sight", "call", "occupied", "went")

    hears = frozenset(ALL.at) | Moving.FOLLOWED

    def __init__(self, asked: Asked = ALL) -> None:
        self._at = asked.at
        self._sight: Moving | None = None
        self.occupied = 0  # entries that a whole table could not move to
        self.went: list[tuple[int, int, int]] = []  # in a call: where to, [start, end), how far
        self.call: Sight | None = None  # the call that moves

    def retell(self, then: Picture, now: Picture) -> Sequence[tuple[int, int, int]]:
        """Somebody else has changed the leaves from `then` to `now` in the middle of a call.

        Returns: where pages of the call may be, [start, end), and how far that is.
        """
        if self._sight is not None:
            self._sight.retell(then, now)
        if self.call is not None:
            self.call.retell(then, now, self.went)
        return self.went

    def forget(self) -> None:
        """What the call has left cannot be told from what others make of it."""
        self.call = None

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        assert isinstance(point, MovePoint)
        sight, name = self._sight, point.name
        if name == ENTER or sight is None:
            sight = self._sight = Moving(space, point.move)
        elif name in (PMD_OCCUPIED, PUD_OCCUPIED):
            self.occupied += 1
        if name == ENTER and not point.move.rollback:
            move = point.move
            self.went.append((move.new, move.new + move.old_end - move.old, sight.delta))
        sight.arrive(point)
        for function in self._at.get(name, ()):
            for violation in function(sight):
                space.report(violation)
        sight.depart()
        if name == LEAVE:
            self._sight = None  # else what it has seen would stay until the space goes


class StateRules:
    """The rules on a whole state, checked time and again on one space."""

    __slots__ = ("_functions", "_known")

    def __init__(self, asked: Asked = ALL) -> None:
        self._functions = asked.on[STATE]
        self._known: Memory = {}

    def check(self, space: AddressSpace) -> list[Violation]:
        """What is wrong now, in the order of the rules."""
        if not self._functions:
            return []
        state = State(space, self._known)
        found = [violation for function in self._functions for violation in function(state)]
        self._known = state.sound
        return found


def check_state(space: AddressSpace) -> list[Violation]:
    """Every rule on a whole state, in order."""
    return StateRules().check(space)


class Judge:
    """The rules of one run.  What they find is added to `space.violations`.

    Arguments: `rules_after` after which calls the whole state is judged: the last, every moving
    one, or each; `oracle` compare contents, too; `asked` which rules are in question.
    """

    def __init__(
        self, space: AddressSpace, *, rules_after: RulesAfter, oracle: bool, asked: Asked = ALL
    ) -> None:
        self._space = space
        self._rules_after = rules_after
        self._asked = asked
        self._moves = MoveRules(asked)
        self._states = StateRules(asked)
        self._contents = Contents(space) if oracle and asked.contents else None
        self._deeds = Deeds(self._moves)
        space.listen(self._moves)
        space.listen(self._deeds)
        for function in asked.on[FRESH]:
            space.violations += function(space)

    def before(self, call: str, args: Sequence[int]) -> None:
        """A call is about to be made, with these operands and real addresses."""
        self._moves.went.clear()
        compared = self._asked.before.get(call)
        if compared is not None or self._space.failures.armed:
            self._moves.occupied = 0
            self._moves.call = Sight(self._space, call, args, compared or NOTHING)

    def after(self, returned: Returned) -> None:
        """It has returned."""
        sight, self._moves.call = self._moves.call, None
        if sight is None:
            return
        violations = self._space.violations
        sight.returned(returned, self._moves.occupied)
        for function in self._asked.after.get(sight.call, ()):
            violations += function(sight)
        if sight.attempts is not None:
            for function in self._asked.on[SHORTAGE]:
                violations += function(sight)

    def quiet(self, call: Call, result: Result, *, last: bool) -> None:
        """The call is over, or was skipped.

        Arguments: `result` as a case has it; `last` it is the last of its program.
        """
        space, moving = self._space, call.name in _MOVING
        if last or self._rules_after == "call" or (moving and self._rules_after == "moving"):
            space.violations += self._states.check(space)
        if space.tlb.cached:
            for function in self._asked.on[TLB]:
                space.violations += function(space)
        if self._contents is not None:
            # A failed madvise may have got any part of its way: the oracle has to look.
            made = self._deeds.made
            looking = last or moving or (call.name == "madvise" and result != 0) or bool(made)
            space.violations += self._contents.check(call, result, made, looking=looking)
            made.clear()
