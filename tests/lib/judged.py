"""What a run shows, as the fuzzer judges it."""

from collections.abc import Callable
from functools import partial

from engine.state.space import AddressSpace
from fuzz.defects.attribute import Runs, Shown, findings
from fuzz.execute import Outcome, execute
from fuzz.rules.judge import check_state

Step = Callable[[int, AddressSpace], None]


def unexplained(outcome: Outcome, on_step: Step | None = None) -> Shown | None:
    """What a run that went on behind violations shows that no known defect explains.

    Arguments: `on_step` of that run, see `fuzz.execute.execute`; it does the same in every run.
    """
    if not outcome.violations:
        return None
    runs = Runs(outcome.case, partial(execute, stop=False, on_step=on_step))
    first = findings(runs, outcome.kernel)[0]
    return None if first.bucket.defect else first


def sound(space: AddressSpace) -> bool:
    """Does the whole state break no rule, and has nothing else been broken?"""
    return not check_state(space) and not space.violations
