"""The life of a finding.

=========  =======================================================================================
new        the run that found it is the only one that has met it
open       later runs have met it, too, or nobody knows
fixed      the last retest has not shown it any more
accepted   somebody said why it may stay; it does not count for exit statuses
reopened   it had been fixed, and was met or shown again
=========  =======================================================================================

The first two are read off the sightings; a change to one of the others is recorded, with the time
and why, and the last one holds.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from fuzz.findings.bucket import Bucket
from fuzz.findings.database import Database

NEW, OPEN, FIXED, ACCEPTED, REOPENED = STATES = ("new", "open", "fixed", "accepted", "reopened")


class Change(NamedTuple):
    """A finding has got into a state."""

    state: str
    at: float  # seconds since 1970, UTC
    why: str  # empty: nobody said


class States:
    """The changes of states that a ledger knows of."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def last(self) -> dict[Bucket, Change]:
        """The last change of each finding that had one.  Errors raised: LedgerError."""
        rows = self._database.rows(
            "SELECT rule, call, defect, state, at, why FROM changes ORDER BY number"
        )
        return {Bucket(*row[:3]): Change(*row[3:]) for row in rows}

    def history(self, bucket: Bucket) -> list[Change]:
        """All changes of a finding, the first one first.  Errors raised: LedgerError."""
        rows = self._database.rows(
            "SELECT state, at, why FROM changes WHERE (rule, call, defect) = (?, ?, ?) "
            "ORDER BY number",
            *bucket,
        )
        return [Change(*row) for row in rows]

    def change(self, bucket: Bucket, state: str, why: str = "") -> None:
        """Let a finding be in a state from now on.  Errors raised: LedgerError."""
        assert state in STATES
        self._database.write(
            "INSERT INTO changes (rule, call, defect, at, state, why) VALUES (?, ?, ?, ?, ?, ?)",
            [(*bucket, self._clock(), state, why)],
        )

    def retested(self, program: str) -> None:
        """All findings have been retested by a program with that fingerprint.

        Errors raised: LedgerError.
        """
        self._database.write("INSERT INTO retests VALUES (?, ?)", [(self._clock(), program)])

    def last_retest(self) -> str | None:
        """The fingerprint of the program that did it last; None: none has.

        Errors raised: LedgerError.
        """
        rows = self._database.rows("SELECT program FROM retests ORDER BY rowid DESC LIMIT 1")
        return rows[0][0] if rows else None
