"""How the inputs of a working directory are read: for which geometries they are."""

from pathlib import Path

from engine.base.geometry import Geometry, geometry_named
from fuzz.findings.database import LedgerError
from fuzz.findings.history import About
from fuzz.findings.ledger import Ledger
from fuzz.inputs.inputs import shared_out


def last_run(workdir: Path) -> About | None:
    """What the last run there was about, if the ledger can say."""
    try:
        ledger = Ledger.reading(workdir)
    except LedgerError:
        return None
    if ledger is None:
        return None
    with ledger:
        run = ledger.history.last_run()
    return run.about if run else None


def geometries_of(first: str, last: About | None) -> list[Geometry]:
    """Those by which the inputs of a folder are read: the run's, if it was the last one's.

    Arguments: `first` is the folder's name, the first geometry of its run.
    """
    if last is not None and last.geometries[0] == first:
        return [geometry_named(name) for name in last.geometries]
    return shared_out(geometry_named(first))
