"""Which findings of a run count for its exit status, and why others do not."""

from fuzz.campaign.session import Seen, Session
from fuzz.findings.bucket import Bucket
from fuzz.findings.states import ACCEPTED, REOPENED

_LISTED = "in the baseline"


def pardon(session: Session, seen: Seen) -> str:
    """Why a finding that was met does not count; empty if it does.

    Where there is a baseline, that alone says what is old.
    """
    if seen.state == ACCEPTED:
        return "accepted"
    if session.baseline is not None:
        if seen.bucket in session.baseline.reasons:
            return _LISTED
    elif seen.old and not session.counts_old and seen.state != REOPENED:
        return "old"
    return _pardon_of_defect(session, seen.bucket)


def any_counts(session: Session) -> bool:
    """Does one count, among those that the retest at the start has reopened, too?"""
    met = any(not pardon(session, seen) for seen in session.findings.values())
    return met or any(not pardon_of_reopened(session, bucket) for bucket in session.reopened)


def pardon_of_reopened(session: Session, bucket: Bucket) -> str:
    """The same as `pardon` of a finding that the retest at the start has reopened."""
    if session.baseline is not None and bucket in session.baseline.reasons:
        return _LISTED
    return _pardon_of_defect(session, bucket)


def _pardon_of_defect(session: Session, bucket: Bucket) -> str:
    return "" if session.options.count_known or not bucket.defect else f"known: {bucket.defect}"
