"""Run a case on a model kernel: calls in, results, page-table bytes and violations out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from engine.base.address import Range
from engine.base.kernel import Kernel
from engine.base.violation import Violation
from engine.state.space import AddressSpace, Listener
from fuzz.calls.arena import Arena
from fuzz.calls.registry import HANDLERS, as_made, as_result, leaves_arena, operands, that_do
from fuzz.calls.syscall import Does
from fuzz.case import Case, CaseError, Result
from fuzz.oracle.oracle import Mismatch, Oracle
from fuzz.rules.judge import CHECKS
from fuzz.rules.limits import Attempts
from fuzz.rules.move import MoveRules
from fuzz.rules.state import StateRules, check_fresh
from fuzz.rules.tlb import check_tlb

# Calls after which the page tables may be wrong in a new way: every rule is checked there.
# Measured by `python -m fuzz.bench rules`.
RulesAfter = Literal["last", "moving", "call"]
_MOVING = that_do(Does.MOVES)
_REPLACING = that_do(Does.REPLACES)  # an address space that nothing was asked for
_MAPPING = that_do(Does.MAPS)  # have a check of their own of how many VMAs there are


class Found(NamedTuple):
    """A violation, and the index of the call during or after which it was noticed."""

    call: int
    violation: Violation


@dataclass(slots=True)
class Outcome:
    """What running a case showed.

    `results` of the calls that ran; `page_tables` bytes of page tables after each, as VmPTE;
    `violations` in order; `space` the state at the end.
    """

    case: Case
    kernel: Kernel
    space: AddressSpace
    results: list[Result] = field(default_factory=list)
    page_tables: list[int] = field(default_factory=list)
    violations: list[Found] = field(default_factory=list)


def execute(
    case: Case,
    kernel: Kernel,
    *,
    stop: bool,
    listeners: Iterable[Listener] = (),
    on_step: Callable[[int, AddressSpace], None] | None = None,
    check: bool = True,
    oracle: bool = True,
    rules_after: RulesAfter = "moving",
    commit_limit_bytes: int | None = None,
) -> Outcome:
    """Run a case from an empty address space.

    Arguments: `listeners` hear of points after the rules; `stop` ends the program at the first
    violation; `on_step` is called with -1 before the first call and with its index after each;
    `check` switches the rules on, `oracle` the comparison of contents, too (only with `check`);
    `rules_after` after which calls the whole state is judged: the last, every moving one, or each;
    `commit_limit_bytes` see Limits.request.
    Errors raised: CaseError for a call the model does not know.
    """
    move_rules = MoveRules()
    space = AddressSpace(kernel, (move_rules, *listeners) if check else listeners)
    space.limits.request = commit_limit_bytes
    if check:
        space.violations += check_fresh(space)
    outcome = Outcome(case, kernel, space)
    geometry = space.geometry
    arena = Arena.of(geometry)
    reference = (
        Oracle(
            geometry.page_bytes,
            geometry.word_bits,
            geometry.slot_bytes,
            exec_only=geometry.exec_only_keys,
        )
        if check and oracle
        else None
    )
    state_rules, base = StateRules(), space.arena.start
    last_index = len(case.calls) - 1
    results, page_tables = outcome.results, outcome.page_tables

    def mapped() -> list[tuple[int, int]]:
        return [(vma.start - base, vma.end - base) for vma in space.vmas]

    if on_step is not None:
        on_step(-1, space)
    for index, call in enumerate(case.calls):
        call = as_made(call, geometry)
        last, moving = index == last_index, call.name in _MOVING
        handler = HANDLERS.get(call.name)
        if handler is None:
            raise CaseError(f"{call.name} is not modelled; known calls: {', '.join(HANDLERS)}")
        counted = Attempts(space) if check and space.failures.armed else None
        args = operands(geometry, call)
        if leaves_arena(space, arena, call.name, args):
            result: Result = "SKIP"
        else:
            look = CHECKS.get(call.name) if check else None
            judge = look(space, move_rules, *args) if look else None
            returned = handler(space, *args)
            if judge is not None:
                space.violations += judge(returned)
            result = as_result(space, returned)
        if counted is not None and call.name not in _REPLACING:
            splits = call.name not in _MAPPING
            space.violations += counted.check_vmas(space, splits=splits)
        results.append(result)
        page_tables.append(space.tree.bytes_used())
        if check and (last or rules_after == "call" or (moving and rules_after == "moving")):
            space.violations += state_rules.check(space)
        if check and space.tlb.cached:
            space.violations += check_tlb(space)
        if reference is not None:
            # A failed madvise may have got any part of its way: the oracle has to look.
            looking = last or moving or (call.name == "madvise" and result != 0)
            looked_at = space.contents() if looking else None
            for mismatch in reference.apply(call, result, looked_at, mapped):
                space.report(_disagreement(space, mismatch))
        if space.violations:
            outcome.violations += [Found(index, violation) for violation in space.violations]
            space.violations = []
        if on_step is not None:
            on_step(index, space)
        if stop and outcome.violations:
            break
    return outcome


def _disagreement(space: AddressSpace, mismatch: Mismatch) -> Violation:
    page, base = space.geometry.page_bytes, space.arena.start
    start = base + mismatch.start_page * page
    return Violation(
        "oracle-contents",
        Range(start, start + mismatch.count * page),
        f"{mismatch.kind} {mismatch.found}",
        str(mismatch.expected),
    )
