"""A run tells the ledger where it stands, for `pmdfuzz status` and for the history."""

import contextlib
import time
from collections.abc import Iterator

from fuzz.campaign.session import Session
from fuzz.findings.database import LedgerError
from fuzz.findings.history import About, Standing
from fuzz.lib.fingerprint import of_this_project


class Chronicle:
    """Tells of a session; a ledger that cannot be written is told of once, and the run goes on."""

    def __init__(self, session: Session) -> None:
        """The run begins; its progress knows from now on what those before it add up to."""
        self._session = session
        self._history = session.ledger.history
        geometries = tuple(geometry.name for geometry in session.geometries)
        about = About(session.run_id, tuple(session.kernels), geometries, of_this_project())
        with self._explained():
            before, progress = self._history.begin(about), session.progress
            progress.runs_before, progress.seconds_before, progress.execs_before = before

    def tell(self, *, now: bool = False) -> None:
        """Where the run stands; cheap enough to be called always, unless it is to be told `now`."""
        with self._explained():
            self._history.tell(self._standing(), now=now)

    def end(self, status: int) -> None:
        """The run is over, with that exit status."""
        self.tell(now=True)
        with self._explained():
            self._history.end(status)

    def _standing(self) -> Standing:
        progress = self._session.progress
        last_new = None if progress.last_new is None else time.time() - progress.last_new
        return Standing(
            seconds=progress.seconds,
            executions=progress.execs,
            per_second=progress.execs_per_second,
            inputs=progress.corpus,
            cells=progress.cells,
            unknown=progress.findings,
            known=progress.known,
            last_new=last_new,
            doing=", ".join(filter(None, (progress.doing, progress.minimizing))),
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except LedgerError as error:
            self._session.once(f"{error}\nThe run goes on; `pmdfuzz status` knows less of it.")
