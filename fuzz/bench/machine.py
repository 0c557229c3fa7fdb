"""The model beside the machine, how fast each is: `python -m fuzz.bench machine`.

It takes files of programs (JSON lines with `ops`, such as recordings, or cases); without files it
takes random programs, as `pmdfuzz check` makes them.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.base.kernel import kernel_named
from fuzz.bench.programs import cases_of
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.subjects.agent import Agent
from fuzz.subjects.beside import beside_model
from fuzz.subjects.difference import difference
from fuzz.subjects.host import Host, host_kernel


class Beside(NamedTuple):
    """Programs a second of everyone who ran them, the machine first, and on how many of the
    programs machine and model agree."""

    per_second: dict[str, float]
    agreeing: int


def beside(kernel: str, cases: Sequence[Case], repeat: int = 3) -> Beside:
    """Run the programs on the machine, then on the model, on one core; the best of `repeat`.

    CPU time of the worker and of this process, so that other programs disturb little.
    Errors raised: SubjectError, UnknownName.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # the worker inherits it
    try:
        with beside_model(kernel) as pair:
            host, model = pair.subject, pair.model
            assert isinstance(host, Host)
            machine = 0.0
            host.observe(cases[0])
            for _ in range(repeat):
                before = _worker_seconds(host)
                observed = list(host.run(cases))
                machine = max(machine, len(cases) / (_worker_seconds(host) - before))
            found = [model.observe(case) for case in cases]
            return Beside(
                {
                    f"machine, {host.name}": machine,
                    f"model, {model.name}": _per_second(model.observe, cases, repeat),
                    "model with rules and oracle": _per_second(
                        lambda case: execute(case, model.kernel, stop=False), cases, repeat
                    ),
                },
                sum(difference(*each) is None for each in zip(cases, observed, found, strict=True)),
            )
    finally:
        os.sched_setaffinity(0, allowed)


def _worker_seconds(agent: Agent) -> float:
    """CPU time of the worker, as clock_getcpuclockid(3) finds it."""
    assert agent.worker is not None
    return time.clock_gettime((~agent.worker << 3) | 2)


def _per_second(work: Callable[[Case], object], cases: Sequence[Case], repeat: int) -> float:
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        for case in cases:
            work(case)
        best = min(best, time.process_time() - start)
    return len(cases) / best


def machine(options: argparse.Namespace) -> None:
    """Print the speeds of machine and model on the same programs."""
    name = options.kernel or host_kernel().name
    cases = cases_of(options.files, kernel_named(name), options.inputs, options.seed)
    calls = sum(len(case.calls) for case in cases)
    print(f"{len(cases)} programs, {calls / len(cases):.1f} calls each, one core\n")
    speeds, agreeing = beside(name, cases)
    machine_speed = next(iter(speeds.values()))
    print(f"{'':36}{'programs/s':>12}{'machine/it':>12}")
    for who, per_second in speeds.items():
        print(f"{who:36}{per_second:12.0f}{machine_speed / per_second:12.2f}")
    print(f"{agreeing} of {len(cases)} programs agree")
