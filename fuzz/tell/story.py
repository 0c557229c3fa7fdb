"""The story of a case on a kernel: what each call returned and changed, up to its finding."""

from itertools import pairwise

from engine.base.address import Range
from engine.base.kernel import Kernel
from engine.base.points import ENTER, STEPS, Point
from engine.base.violation import Violation
from engine.state.space import AddressSpace
from fuzz.case import Call, Case, Result
from fuzz.defects.known import DEFECTS
from fuzz.execute import execute
from fuzz.forms.text import format_call
from fuzz.rules.index import BY_SLUG
from fuzz.rules.judge import RulesAfter
from fuzz.showing import Shown, showing
from fuzz.tell.draw import draw, draw_change


class Witness:
    """Watches a run and draws the address space at the moments that explain its finding.

    `drawings` holds the state before the first call and after each, up to the finding's.  Of that
    call, `at_start` is the state when its last page-table move began, `at_violation` that of the
    first moment after the rule was broken, which may be gone when the call is over.  None: there
    was no such moment.
    """

    hears = STEPS

    def __init__(self, found: Shown | None) -> None:
        """`found` is the finding, known from an earlier run; None: there is none."""
        self.drawings: list[str] = []
        self.at_start: str | None = None
        self.at_violation: str | None = None
        self._found = found

    def __call__(self, space: AddressSpace, point: Point) -> None:
        """See engine.base.points."""
        found, now = self._found, len(self.drawings) - 1
        if found is None or now != found.call or self.at_violation is not None:
            return
        for violation in space.violations:
            if violation.rule == found.bucket.rule:
                self.at_violation = draw(space, where=violation.where)
                return
        if point.name == ENTER:
            self.at_start = draw(space)

    def step(self, index: int, space: AddressSpace) -> None:
        """See `on_step` of `execute`."""
        found = self._found
        if found is None or index < found.call:
            self.drawings.append(draw(space))
        elif index == found.call:
            self.drawings.append(draw(space, where=found.violation.where))


def story(
    case: Case, kernel: Kernel, *, colour: bool = False, rules_after: RulesAfter = "moving"
) -> str:
    """Every call with its result and what it changed, up to the one that shows the finding.

    A violation in the middle of a call is shown as it was then: the address space when the move
    began, and when the rule was broken.
    Arguments: `rules_after` see `fuzz.execute.execute`.
    """
    shown = showing(case, kernel, rules_after)
    found = shown.found
    witness = Witness(found)
    execute(
        case,
        kernel,
        stop=False,
        listeners=[witness],
        on_step=witness.step,
        rules_after=rules_after,
    )
    parts = []
    for number, (before, after) in enumerate(pairwise(witness.drawings)):
        parts.append(_told(case.calls[number], shown.results[number], kernel))
        if found is not None and number == found.call and witness.at_violation is not None:
            if witness.at_start is not None:
                parts.append("when the move starts:")
                parts.append(draw_change(before, witness.at_start, colour=colour))
                before = witness.at_start
            parts.append(f"when {found.bucket.rule} is broken:")
            after = witness.at_violation
        changed = draw_change(before, after, colour=colour)
        parts.append(changed if after != before else "  (no change)")
    if found is not None:
        parts.append(f"violation: {in_arena(found.violation, kernel)}")
        if found.bucket.defect:
            parts.append(f"known: {found.bucket.defect}, {DEFECTS[found.bucket.defect].title}")
    return "\n".join(parts).lstrip("\n")


def describe(
    case: Case, kernel: Kernel, *, colour: bool = False, rules_after: RulesAfter = "moving"
) -> str:
    """The finding that a case shows: the rule in words, and the story.

    Arguments: `rules_after` see `fuzz.execute.execute`.
    Errors raised: ValueError if the case shows none.
    """
    shown = showing(case, kernel, rules_after)
    if shown.found is None:
        raise ValueError(f"no rule is broken on {kernel.name}")
    rule = BY_SLUG[shown.rule]
    told = story(case, kernel, colour=colour, rules_after=rules_after)
    return f"{rule.id} {rule.slug}: {rule.statement}\n\n{told}"


def in_arena(violation: Violation, kernel: Kernel) -> str:
    """A violation in one line, its place as arena offsets: the numbers that cases use."""
    start, end = (address - kernel.geometry.arena.start for address in violation.where)
    return str(Violation(violation.rule, Range(start, end), violation.found, violation.expected))


def _told(call: Call, result: Result, kernel: Kernel) -> str:
    return "\n" + format_call(call._replace(result=result), kernel.geometry.page_bytes)
