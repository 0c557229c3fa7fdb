"""The story of a case on a kernel: what each call returned, changed and broke."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from engine.base.kernel import Kernel
from engine.base.points import ENTER, STEPS, Point
from engine.base.violation import Violation
from engine.state import terms
from engine.state.space import AddressSpace
from fuzz.case import Call, Case, Result
from fuzz.defects.known import DEFECTS
from fuzz.execute import execute
from fuzz.forms.text import format_call
from fuzz.rules.index import BY_SLUG, gravity
from fuzz.rules.judge import RulesAfter
from fuzz.showing import Showing, showing
from fuzz.tell.draw import draw, draw_change


class Witness:
    """Watches a run and draws the address space at the moments that explain what it breaks.

    `drawings` holds the state before the first call and after each.  Of calls that break a rule,
    by index, `at_start` is the state when the last page-table move began before it was broken, and
    `at_violation` that of the first moment after, which may be gone when the call is over.  A call
    is in neither if there was no such moment.
    """

    hears = STEPS

    def __init__(self, marked: Mapping[int, Violation]) -> None:
        """`marked` has, by index of the call, the violation that its drawings point at."""
        self.drawings: list[str] = []
        self.at_start: dict[int, str] = {}
        self.at_violation: dict[int, str] = {}
        self._marked = marked

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        now = len(self.drawings) - 1
        marked = self._marked.get(now)
        if marked is None or now in self.at_violation:
            return
        for violation in space.violations:
            if violation.rule == marked.rule:
                self.at_violation[now] = draw(space, where=violation.where)
                return
        if point.name == ENTER:
            self.at_start[now] = draw(space)

    def step(self, index: int, space: AddressSpace) -> None:
        """See `on_step` of `execute`."""
        marked = self._marked.get(index)
        self.drawings.append(draw(space, where=marked.where if marked else None))


def story(
    case: Case, kernel: Kernel, *, colour: bool = False, rules_after: RulesAfter = "moving"
) -> str:
    """Every call with its result, what it changed, and the rules that it broke.

    A violation in the middle of a call is shown as it was then: the address space when the move
    began, and when the rule was broken.  A call that breaks several rules is drawn for the
    worst of them.
    Arguments: `rules_after` see `fuzz.execute.execute`.
    """
    shown = showing(case, kernel, rules_after)
    found = shown.found
    broken: dict[int, list[Violation]] = {}
    for call, violation in shown.violations:
        broken.setdefault(call, []).append(violation)
    marked = {call: min(violations, key=_gravity) for call, violations in broken.items()}
    witness = Witness(marked)
    execute(
        case,
        kernel,
        stop=False,
        listeners=[witness],
        on_step=witness.step,
        rules_after=rules_after,
    )
    parts = []
    results: Sequence[Result | None] = shown.results
    if len(results) in broken:  # a call that did not return: there is no state after it
        results = (*results, None)
        witness.drawings.append(witness.drawings[-1])
    for number, (before, after) in enumerate(pairwise(witness.drawings)):
        parts.append(_told(case.calls[number], results[number], kernel))
        moments = [("", after)]
        if number in witness.at_violation:
            broke = f"when {marked[number].rule} is broken:"
            moments = [(broke, witness.at_violation[number]), ("when the call returns:", after)]
            if number in witness.at_start:
                moments.insert(0, ("when the move starts:", witness.at_start[number]))
        if results[number] is None:
            moments.pop()
        if moments:
            parts += _drawn(before, moments, colour=colour)
        for violation in broken.get(number, ()):
            line = f"violation: {terms.violation(kernel.geometry, violation)}"
            if line not in parts:  # what stays broken is told once
                parts.append(line)
            if found is not None and violation is found.violation and found.bucket.defect:
                parts.append(f"known: {found.bucket.defect}, {DEFECTS[found.bucket.defect].title}")
    return "\n".join(parts).lstrip("\n")


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
    """A line for each rule that a case breaks, the worst first: its severity, and its meaning."""
    slugs = dict.fromkeys(found.violation.rule for found in shown.violations)
    rules = [BY_SLUG[slug] for slug in sorted(slugs, key=gravity)]
    return [f"{rule.severity:<8}  {rule.id} {rule.slug}: {rule.statement}" for rule in rules]


def _drawn(before: str, moments: Sequence[tuple[str, str]], *, colour: bool) -> Iterator[str]:
    """What changed up to each moment of a call, below its title; the last is its return.

    A return that changed nothing since the moment before is left out.
    """
    *inside, (title, after) = moments
    for moment, now in inside:
        yield moment
        yield draw_change(before, now, colour=colour)
        before = now
    if after != before:
        yield from filter(None, (title, draw_change(before, after, colour=colour)))
    elif not inside:
        yield "  (no change)"


def _gravity(violation: Violation) -> int:
    return gravity(violation.rule)


def _told(call: Call, result: Result | None, kernel: Kernel) -> str:
    return "\n" + format_call(call._replace(result=result), kernel.geometry.page_bytes)
