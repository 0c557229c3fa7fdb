"""What a contestant is told, and what comes of it; nothing here imports the engine."""

from typing import NamedTuple

WHOLE, BLIND, UNPLANNED = "pmdfuzz", "no-feedback", "no-plans"
STATEFUL, RANDOM, NOISE, PROVIDER = "hypothesis", "random", "bytes", "atheris"
CONTESTANTS = {
    WHOLE: "this fuzzer",
    BLIND: "its mutator without feedback of coverage: any program before may be the next parent",
    UNPLANNED: "this fuzzer without plans: scenes, edges, rows",
    STATEFUL: "a RuleBasedStateMachine of Hypothesis",
    RANDOM: "programs by chance, of a generator that knows what calls and operands are for",
    NOISE: "programs of bytes by chance",
    PROVIDER: "Atheris with a FuzzedDataProvider, and no mutator of its own",
}


class Task(NamedTuple):
    """One trial: who looks for which bug, with which seed, for how many seconds of CPU time."""

    contestant: str
    bug: str
    seed: int
    seconds: float


class Moment(NamedTuple):
    """When something was seen first: after so many programs, and seconds of CPU time."""

    executions: int
    seconds: float


class Played(NamedTuple):
    """What came of a trial; None where it did not come that far.

    `reached` a program came to the bug, `triggered` one did something else than without it,
    `found` one broke a rule by it.  `spent` is how long it took in all.
    """

    reached: Moment | None
    triggered: Moment | None
    found: Moment | None
    spent: Moment
