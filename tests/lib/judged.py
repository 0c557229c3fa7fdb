"""What a run shows, as the fuzzer judges it."""

from fuzz.execute import Outcome
from fuzz.showing import Showing, Shown


def unexplained(outcome: Outcome) -> Shown | None:
    """The finding of a run that went on behind violations, unless a known defect explains it."""
    found = Showing.of(outcome).found
    return None if found is None or found.bucket.defect else found
