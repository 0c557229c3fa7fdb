"""What workers of a cluster in tests do in place of rounds; they import it by name."""

import json
import time

from fuzz.campaign.round import End, Report, Round
from fuzz.campaign.trial import Shown, Trial


def empty(text: str) -> str:
    """A round that finds nothing."""
    task = Round.parsed(json.loads(text))
    return json.dumps(Report(task.id, task.program, execs=5, end=End()).plain())


def endless(text: str) -> str:
    """A round that does not end by itself."""
    while True:
        time.sleep(0.1)


def pickled(text: str) -> object:
    """What no report is: an object."""
    return End("an object")


def no_json(text: str) -> str:
    return "{"


def of_another(text: str) -> str:
    """The report of a round that nobody has asked for."""
    task = Round.parsed(json.loads(text))
    return json.dumps(Report("another", task.program, end=End()).plain())


def raising(text: str) -> str:
    raise ArithmeticError("over there")


def dying(text: str) -> str:
    import os

    os._exit(0)


def observing_nothing(text: str) -> str:
    """What no observation is."""
    task = Trial.parsed(json.loads(text))
    return json.dumps(Shown(task.id, task.program, task.nature, ("[]",) * len(task.cases)).plain())


def without_a_subject(text: str) -> str:
    task = Trial.parsed(json.loads(text))
    return json.dumps(Shown.none(task, "it does not boot").plain())
