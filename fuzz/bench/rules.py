"""What the rules cost, groups of them left out, and each rule on a whole state by itself:
`python -m fuzz.bench rules`."""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple, get_args
from unittest.mock import patch

from engine.base.kernel import Kernel, kernel_named
from engine.state.space import AddressSpace
from fuzz.bench.programs import programs
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.forms import wire
from fuzz.rules import judge
from fuzz.rules.index import FILES
from fuzz.rules.judge import MoveRules, RulesAfter
from fuzz.rules.rule import STATE
from fuzz.rules.sight import Snapshot
from fuzz.rules.view import State

_REPEAT = 3  # trials of which the fastest counts


class Cost(NamedTuple):
    """What a group of rules adds to the engine, in microseconds of CPU time a program."""

    what: str
    microseconds: float


def _once(cases: Sequence[Case], run: Callable[[Case], object]) -> float:
    """Microseconds a program takes."""
    start = time.process_time()
    for case in cases:
        run(case)
    return (time.process_time() - start) / len(cases) * 1e6


def _each(cases: Sequence[Case], run: Callable[[Case], object]) -> float:
    """The same, at best."""
    return min(_once(cases, run) for _ in range(_REPEAT))


def _saved(cases: Sequence[Case], run: Callable[[Case], object], name: str) -> float:
    """Microseconds a program takes less without a file of rules; in turns, as machines vary."""
    whole, less = float("inf"), float("inf")
    for _ in range(_REPEAT):
        whole = min(whole, _once(cases, run))
        with _left_out(name):
            less = min(less, _once(cases, run))
    return whole - less


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
    for name in FILES:
        yield Cost(f"{name}.py", _saved(cases, run, name))
    oracle = _each(cases, lambda case: execute(case, kernel, stop=False, oracle=False))
    yield Cost("the oracle", everything - oracle)


@contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Without what one file of rules checks."""
    module = f"fuzz.rules.{name}"

    def others(functions: judge.Functions) -> judge.Functions:
        return tuple(function for function in functions if function.__module__ != module)

    with ExitStack() as patches:
        for table in (judge.ALL.on, judge.ALL.at, judge.ALL.after):
            less = {key: others(functions) for key, functions in table.items()}
            patches.enter_context(patch.dict(table, less))
        yield


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
        for function in judge.ALL.on[STATE]:
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
            clock(name, partial(list, function(state)))

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
