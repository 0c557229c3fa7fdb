"""What a run shows, as the fuzzer judges it."""

from engine.state.space import AddressSpace
from fuzz.execute import Outcome
from fuzz.rules.judge import check_state
from fuzz.showing import Showing, Shown


def unexplained(outcome: Outcome) -> Shown | None:
    """The finding of a run that went on behind violations, unless a known defect explains it."""
    found = Showing.of(outcome).found
    return None if found is None or found.bucket.defect else found


def sound(space: AddressSpace) -> bool:
    """Does the whole state break no rule, and has nothing else been broken?"""
    return not check_state(space) and not space.violations
