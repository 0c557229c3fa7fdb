"""The story of a case on a kernel: what each call returned, changed and broke."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from engine.base.address import Range
from engine.base.kernel import Kernel
from engine.base.points import ACTED, ACTS, ENTER, STEPS, Point
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from fuzz.calls.actors import Deed
from fuzz.calls.registry import DIRECTIVES, why_skipped
from fuzz.case import Case, Result
from fuzz.defects import known
from fuzz.execute import execute
from fuzz.forms.text import format_call
from fuzz.rules.index import BY_SLUG, gravity
from fuzz.rules.judge import RulesAfter
from fuzz.showing import Showing, showing
from fuzz.tell.deeds import done
from fuzz.tell.draw import WIDTH, Drawing, draw, draw_change

_MARK_COLUMNS = 2  # in front of the lines of a drawing that is compared

_STARTS = "when the move starts:"


class Witness:
    """Watches a run and draws the address space at the moments that explain what happens.

    `drawings` holds the state before the first call and after each.  `moments` are drawings in the
    middle of a call, by its index, with what they show: when somebody else comes in between, and
    what that has done; of calls that break a rule, the state when the last page-table move began
    before it was broken, and that of the first moment after, which may be gone when the call is
    over.
    """

    hears = STEPS | {ACTS, ACTED}

    def __init__(self, broken: Mapping[int, Sequence[Violation]], width: int = WIDTH) -> None:
        """Begin.

        Arguments: `broken` has, by index of the call, its violations, the worst first, which is
        drawn; `width` of the drawings, in columns.
        """
        self.drawings: list[Drawing] = []
        self.moments: dict[int, list[tuple[str, Drawing]]] = {}
        self._broken = broken
        self._width = width
        self._seen: set[int] = set()  # calls whose violation is drawn

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        now = len(self.drawings) - 1
        moments = self.moments.setdefault(now, [])
        if isinstance(point, Deed):
            told = f"at {point.at.name}:" if point.name == ACTS else f"{done(space, point)}:"
            moments.append((told, self._drawn(space)))
            return
        if now not in self._broken or now in self._seen:
            return
        for violation in space.violations:
            if violation.rule == self._broken[now][0].rule:
                drawn = self._drawn(space, violation.where, [violation.rule])
                moments.append((f"when {violation.rule} is broken:", drawn))
                self._seen.add(now)
                return
        if point.name == ENTER:
            moments[:] = [one for one in moments if one[0] != _STARTS]
            moments.append((_STARTS, self._drawn(space)))

    def inside(self, call: int) -> list[tuple[str, Drawing]]:
        """The moments in the middle of a call, in order."""
        moments = self.moments.get(call, [])
        return [one for one in moments if call in self._seen or one[0] != _STARTS]

    def step(self, index: int, space: AddressSpace) -> None:
        """See `on_step` of `execute`."""
        broken = self._broken.get(index, ())
        where = broken[0].where if broken else None
        self.drawings.append(self._drawn(space, where, [one.rule for one in broken]))

    def _drawn(
        self, space: AddressSpace, where: Range | None = None, rules: Sequence[str] = ()
    ) -> Drawing:
        return draw(space, where=where, rules=rules, width=self._width)


def story(
    case: Case, kernel: Kernel, *, colour: bool = False, rules_after: RulesAfter = "moving"
) -> str:
    """Every call with its result, what it changed, and the rules that it broke.

    A violation in the middle of a call is shown as it was then: the address space when the move
    began, and when the rule was broken.  A call that breaks several rules is drawn for the
    worst of them.
    Arguments: `rules_after` see `fuzz.execute.execute`.
    """
    steps = _steps(case, kernel, rules_after, colour=colour)
    return "\n".join(line for step in steps for line in step.lines).lstrip("\n")


def decisive(case: Case, kernel: Kernel, width: int) -> list[str]:
    """What is drawn of the call that breaks the rule which the finding is called after, in lines.

    Arguments: `width` of the lines, in columns.
    Returns: [] if no rule is broken.
    """
    found = showing(case, kernel).found
    if found is None:
        return []
    steps = _steps(case, kernel, "moving", width=width - _MARK_COLUMNS)
    drawn = next(step.drawn for number, step in enumerate(steps) if number == found.call)
    return "\n".join(drawn).splitlines()


class _Step(NamedTuple):
    """What is told of a call: itself, what it changed, the rules that it broke."""

    call: str
    drawn: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it, below an empty line."""
        return "", self.call, *self.drawn, *self.broken


def _steps(
    case: Case,
    kernel: Kernel,
    rules_after: RulesAfter,
    *,
    colour: bool = False,
    width: int = WIDTH,
) -> Iterator[_Step]:
    """Each call of a case; those behind one that does not return are left out."""
    shown = showing(case, kernel, rules_after)
    broken: dict[int, list[Violation]] = {}
    told: set[str] = set()
    for call, violation in shown.violations:
        line = terms.violation(kernel.geometry, violation)
        if line not in told:  # what stays broken is told once
            told.add(line)
            broken.setdefault(call, []).append(violation)
    known_by = {id(one.violation): one.bucket.defect for one in shown.findings}
    worst_first = {call: sorted(those, key=_gravity) for call, those in broken.items()}
    witness = Witness(worst_first, width)
    execute(
        case.with_calls(case.calls[: len(shown.results)]),  # those that return
        kernel,
        stop=False,
        listeners=[witness],
        on_step=witness.step,
        rules_after=rules_after,
    )
    results: Sequence[Result | None] = shown.results
    if len(results) in broken:  # a call that did not return: there is no state after it
        results = (*results, None)
        witness.drawings.append(witness.drawings[-1])
    for number, (before, after) in enumerate(pairwise(witness.drawings)):
        moments = witness.inside(number)
        moments.append(("when the call returns:" if moments else "", after))
        drawn: tuple[str, ...] = ()
        if results[number] == "SKIP":
            drawn = (f"  (not run: it {why_skipped(kernel.geometry, case.calls[number])})",)
        elif results[number] is not None and case.calls[number].name not in DIRECTIVES:
            drawn = tuple(_drawn(before, moments, colour=colour))
        lines = []
        for violation in broken.get(number, ()):
            lines.append(f"violation: {terms.violation(kernel.geometry, violation)}")
            if defect := known_by.get(id(violation)):
                lines.append(f"known: {known.told(defect)}")
        made = case.calls[number]._replace(result=results[number])
        yield _Step(format_call(made, kernel.geometry.page_bytes), drawn, tuple(lines))


def describe(
    case: Case, kernel: Kernel, *, colour: bool = False, rules_after: RulesAfter = "moving"
) -> str:
    """The finding that a case shows: all rules that it breaks in words, and the story.

    Arguments: `rules_after` see `fuzz.execute.execute`.
    Errors raised: ValueError if the case shows none.
    """
    shown = showing(case, kernel, rules_after)
    if shown.found is None:
        raise ValueError(f"no rule is broken on {kernel.name}")
    told = story(case, kernel, colour=colour, rules_after=rules_after)
    return "\n".join([*broken_rules(shown), "", told])


def broken_rules(shown: Showing) -> list[str]:
    """What a case shows: a line for each rule that its finding breaks, and each defect it met.

    The worst comes first; a line has its severity, and what the rule means.
    """
    lines = []
    for one in shown.findings:
        if one is not shown.found and one.bucket.defect:
            lines.append(f"known     {known.told(one.bucket.defect)}")
            continue
        for slug in dict.fromkeys(found.violation.rule for found in one.broken):
            rule = BY_SLUG[slug]
            lines.append(f"{rule.severity:<8}  {rule.id} {rule.slug}: {rule.statement}")
    return lines


def _drawn(
    before: Drawing, moments: Sequence[tuple[str, Drawing]], *, colour: bool
) -> Iterator[str]:
    """What changed up to each moment of a call, below its title; the last is its return.

    A return that changed nothing since the moment before is left out.
    """
    *inside, (title, after) = moments
    for moment, now in inside:
        yield moment
        same = moment.startswith("at ") and not now.differs(before)
        yield "  (no change)" if same else draw_change(before, now, colour=colour)
        before = now
    if after.differs(before):
        yield from filter(None, (title, draw_change(before, after, colour=colour)))
    elif not inside:
        yield "  (no change)"


def _gravity(violation: Violation) -> int:
    return gravity(violation.rule)
