"""Which findings of a run count for its exit status."""

from fuzz.campaign.session import Seen, Session
from fuzz.findings.bucket import Bucket
from fuzz.findings.states import ACCEPTED, REOPENED


def counts(session: Session, seen: Seen) -> bool:
    """Does a finding that was met count?"""
    fresh = session.counts_old or not seen.old or seen.state == REOPENED
    return fresh and seen.state != ACCEPTED and _is_asked_for(session, seen.bucket)


def any_counts(session: Session) -> bool:
    """Does one, among those that the retest at the start has reopened, too?"""
    return any(counts(session, seen) for seen in session.findings.values()) or any(
        _is_asked_for(session, bucket) for bucket in session.reopened
    )


def _is_asked_for(session: Session, bucket: Bucket) -> bool:
    return session.options.count_known or not bucket.defect
