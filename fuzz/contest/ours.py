"""This fuzzer: the fuzzing process of a run, with a watch around what runs programs."""

import os
from typing import TYPE_CHECKING, NoReturn

import atheris

from fuzz.campaign.child import Setting
from fuzz.campaign.harness import Target
from fuzz.contest.trial import Task

if TYPE_CHECKING:  # the engine must be covered first
    from fuzz.defects.defect import Defect


def play(task: Task, tell: int, setting: Setting, flags: list[str]) -> NoReturn:
    """Until the trial is over."""
    bugs: list[Defect] = []

    def bug_named(name: str) -> "Defect":
        from fuzz.contest import bugs as known

        bugs.append(known.bug_named(name))
        return bugs[0]

    unheard = os.open(os.devnull, os.O_WRONLY)  # what it reports to a session
    target = Target(setting._replace(events=unheard), bug_named)
    from fuzz.contest.watch import Watch

    target.execute = Watch(bugs[0], task, tell).execute
    atheris.Setup(
        ["contest", *flags],
        target.one_input,
        custom_mutator=target.mutate,
        custom_crossover=target.cross_over,
    )
    atheris.Fuzz()
    raise AssertionError("atheris.Fuzz() returned")
