"""Run a case on a model kernel: calls in, results, page-table bytes and violations out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.base.kernel import Kernel
from engine.base.violation import Violation
from engine.state.space import AddressSpace, Listener
from fuzz.calls.actors import PREFIX, Actor
from fuzz.calls.arena import Arena
from fuzz.calls.registry import (
    CALLS,
    as_made,
    as_result,
    is_skipped,
    last_made,
    operands,
    untagged,
)
from fuzz.case import NEVER, WAITS, Case, CaseError, Result
from fuzz.lib.processes import TooLong
from fuzz.lib.steps import StepLimit
from fuzz.rules.judge import Judge, RulesAfter, asked
from fuzz.rules.returns import ENDINGS, ending

_SWAPPING = ("swapout", f"{PREFIX}swapout")

BrokenAt = tuple[int, str]  # the index of a call, and the slug of the rule that it broke


class Found(NamedTuple):
    """A violation, and the index of the call during or after which it was noticed."""

    call: int
    violation: Violation

    @property
    def key(self) -> BrokenAt:
        """By what it is recognised in a run on another kernel."""
        return self.call, self.violation.rule


@dataclass(slots=True)
class Outcome:
    """What running a case showed.

    `results` of the calls that returned; `page_tables` bytes of page tables after each, as VmPTE;
    `violations` in order; `space` the state at the end; `waits` for which lock somebody would have
    waited who was to come in between, by index of the call that says so.
    """

    case: Case
    kernel: Kernel
    space: AddressSpace
    results: list[Result] = field(default_factory=list)
    page_tables: list[int] = field(default_factory=list)
    violations: list[Found] = field(default_factory=list)
    waits: dict[int, str] = field(default_factory=dict)

    @property
    def ending(self) -> Violation | None:
        """The violation by which a call did not return, if one did not: the last of all."""
        last = self.violations[-1].violation if self.violations else None
        return last if last is not None and last.rule in ENDINGS else None


def execute(
    case: Case,
    kernel: Kernel,
    *,
    stop: bool,
    until: int | None = None,
    listeners: Iterable[Listener] = (),
    on_step: Callable[[int, AddressSpace], None] | None = None,
    check: bool = True,
    oracle: bool = True,
    rules: frozenset[str] | None = None,
    rules_after: RulesAfter = "moving",
    commit_limit_bytes: int | None = None,
    shortages_last: bool = False,
    steps: StepLimit | None = None,
) -> Outcome:
    """Run a case from an empty address space.

    A call that does not return, but raises something, is a violation, and the end of the program.
    Arguments: `listeners` hear of points after the rules; `stop` ends the program at the first
    violation; `until` is the index of the last call that is made, None that of the last one there
    is; `on_step` is called with -1 before the first call and with its index after each;
    `check` switches the rules on, `oracle` the comparison of contents, too (only with `check`);
    `rules` are the slugs of those that are in question, None all: no others need be told;
    `rules_after` after which calls the whole state is judged: the last, every moving one, or each;
    `commit_limit_bytes` see Limits.request; `shortages_last`: what fails does so to the end of the
    mremap in which it began; `steps` counts what the calls execute, and limits it.
    Errors raised: CaseError for a call the model does not know; what rules, oracle, `listeners` and
    `on_step` raise.
    """
    space = AddressSpace(kernel)
    space.limits.request = commit_limit_bytes
    space.failures.lasting = shortages_last
    space.has_swap = any(call.name in _SWAPPING for call in case.calls)
    judge = None
    if check:
        judge = Judge(space, rules_after=rules_after, oracle=oracle, asked=asked(rules))
    for listener in listeners:
        space.listen(listener)
    outcome = Outcome(case, kernel, space)
    geometry = space.geometry
    arena = Arena.of(geometry)
    last_index = last_made(case.calls)
    results, page_tables = outcome.results, outcome.page_tables
    actors: dict[int, Actor] = {}  # by index of what says that they come in between

    if on_step is not None:
        on_step(-1, space)
    for index, call in enumerate(case.calls):
        call = as_made(call, geometry)
        declared = CALLS.get(call.name)  # looked up once: that is done for every call
        if declared is None:
            raise CaseError(f"{call.name} is not modelled; known calls: {', '.join(CALLS)}")
        if geometry.has_tags:
            call = untagged(call, geometry)
        args = operands(arena, declared, call.args)
        if is_skipped(space, arena, declared, args):
            result: Result = "SKIP"
        else:
            if judge is not None:
                judge.before(call.name, args)
            try:
                if steps is None:
                    returned = declared.model(space, *args)
                else:
                    returned = steps.run(declared.model, space, *args)
            except (Exception, TooLong) as error:
                ended = ending(error, space.arena)
                if ended is None:
                    raise
                outcome.violations += [Found(index, one) for one in (*space.violations, ended)]
                break
            if judge is not None:
                judge.after(returned)
            if declared.base is not None:
                actors[index], returned = returned, None
            result = as_result(space, returned)
            if shortages_last and call.name == "mremap":
                space.failures.end()
        results.append(result)
        page_tables.append(space.tree.bytes_used())
        if judge is not None:
            judge.quiet(call, result, last=index == last_index)
        if space.violations:
            outcome.violations += [Found(index, violation) for violation in space.violations]
            space.violations = []
        if on_step is not None:
            on_step(index, space)
        if index == until or (stop and outcome.violations):
            break
    for index, actor in actors.items():
        outcome.results[index] = _came_of(space, actor)
        if actor.waits:
            outcome.waits[index] = actor.waits
    return outcome


def _came_of(space: AddressSpace, actor: Actor) -> Result:
    """The result of what somebody else did in the middle of a call."""
    if not actor.came:
        return NEVER
    return WAITS if actor.waits else as_result(space, actor.returned)
