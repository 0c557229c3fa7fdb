"""What the rules cost, groups of them left out, and each rule on a whole state by itself:
`python -m fuzz.bench rules`."""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple, get_args
from unittest.mock import patch

from engine.base.kernel import Kernel, kernel_named
from engine.state.space import AddressSpace
from fuzz import execute as executing
from fuzz.bench.programs import programs
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.case import Case
from fuzz.execute import RulesAfter, execute
from fuzz.forms import wire
from fuzz.rules import judge
from fuzz.rules.move import MoveRules
from fuzz.rules.mremap import Snapshot
from fuzz.rules.state import STATE_RULES
from fuzz.rules.view import State

# The checks that are left out together, by the names that their callers have for them.
GROUPS: dict[str, tuple[str, ...]] = {
    "what a call returns (S-01)": (
        "check_errors",
        "check_stack_errors",
        "check_relocate_errors",
        "check_refused_stack",
    ),
    "before and after a call (S-02 to S-11)": (
        "check_mremap",
        "check_mapping",
        "check_growth",
        "check_execve_stack",
        "check_stack_mapping",
    ),
    "VMAs and attempts of an mremap (V-12, S-14)": ("check_layout",),
    "places (S-13)": ("check_mmap", "check_munmap", "check_free"),
    "userfaultfd (S-09, I-22)": ("check_uffd",),
    "TLBs (I-13, I-14)": ("check_tlb",),
    "emptied tables (I-29)": ("check_emptied",),
}
_REPEAT = 3  # trials of which the fastest counts


class Cost(NamedTuple):
    """What a group of rules adds to the engine, in microseconds of CPU time a program."""

    what: str
    microseconds: float


def _each(cases: Sequence[Case], run: Callable[[Case], object]) -> float:
    """Microseconds a program takes."""
    best = float("inf")
    for _ in range(_REPEAT):
        start = time.process_time()
        for case in cases:
            run(case)
        best = min(best, time.process_time() - start)
    return best / len(cases) * 1e6


def group_costs(kernel: Kernel, cases: Sequence[Case]) -> Iterator[Cost]:
    """The engine alone, then what the groups add to it."""
    alone = _each(cases, lambda case: execute(case, kernel, stop=False, check=False))
    yield Cost("engine alone", alone)
    moves = _each(
        cases, lambda case: execute(case, kernel, stop=False, check=False, listeners=[MoveRules()])
    )
    yield Cost("rules around moves", moves - alone)
    for after in get_args(RulesAfter):

        def run(case: Case, after: RulesAfter = after) -> object:
            return execute(case, kernel, stop=False, oracle=False, rules_after=after)

        yield Cost(f"all rules, whole state after: {after}", _each(cases, run) - alone)


def left_out_costs(kernel: Kernel, cases: Sequence[Case]) -> Iterator[Cost]:
    """What a run with all rules and the oracle takes, then what it saves to leave out groups."""

    def run(case: Case) -> object:
        return execute(case, kernel, stop=False)

    everything = _each(cases, run)
    yield Cost("all rules and the oracle", everything)
    for what, names in GROUPS.items():
        with ExitStack() as patches:
            for name in names:
                caller = judge if hasattr(judge, name) else executing
                patches.enter_context(patch.object(caller, name, _nothing))
            yield Cost(what, everything - _each(cases, run))
    oracle = _each(cases, lambda case: execute(case, kernel, stop=False, oracle=False))
    yield Cost("the oracle", everything - oracle)


def _nothing(*_: object) -> tuple[()]:
    return ()


def state_costs(kernel: Kernel, cases: Sequence[Case]) -> Iterator[Cost]:
    """Each rule on the state after each call, without the memory of the check before."""
    spent: dict[str, float] = defaultdict(float)

    def clock(what: str, work: Callable[[], object]) -> None:
        start = time.process_time()
        work()
        spent[what] += time.process_time() - start

    def look(_: int, space: AddressSpace) -> None:
        state = State(space)
        clock("walking the tables", partial(State, space))
        clock("snapshot for a call", partial(Snapshot, space))
        for rule in STATE_RULES:
            clock(rule.__name__, partial(list, rule(state)))

    for case in cases:
        execute(case, kernel, stop=False, check=False, on_step=look)
    for what, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        yield Cost(what, seconds / len(cases) * 1e6)


def rules(options: argparse.Namespace) -> None:
    """Print what the groups of rules cost, and each rule on a whole state."""
    kernel = kernel_named(options.kernel, options.geometry)
    inputs = programs(kernel, options.inputs, options.seed)
    cases = [wire.decode(data, kernel.geometry, MODELLED_CALLS) for data in inputs]
    calls = sum(len(case.calls) for case in cases)
    print(f"{len(cases)} programs, {calls / len(cases):.1f} calls each, {kernel.name}\n")
    for title, costs in (
        ("µs of CPU time a program", group_costs(kernel, cases)),
        ("the same, with groups of rules left out", left_out_costs(kernel, cases)),
        ("the same, looking after every call", state_costs(kernel, cases)),
    ):
        print(title)
        for cost in costs:
            print(f"  {cost.what:40}{cost.microseconds:10.1f}", flush=True)
