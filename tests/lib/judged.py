"""What a run shows, as the fuzzer judges it."""

from fuzz.defects.known import Shown, shown
from fuzz.execute import Outcome


def unexplained(outcome: Outcome) -> Shown | None:
    """The finding of a run that went on behind violations, unless a known defect explains it."""
    found = shown(outcome)
    return None if found is None or found.bucket.defect else found
