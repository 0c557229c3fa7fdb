"""A report is made again when a minute is over and something has changed, and when a run ends."""

from pathlib import Path

from fuzz.findings.ledger import Ledger
from fuzz.report.keep import EVERY_SECONDS, Keeper, kept
from fuzz.report.write import INDEX
from tests.lib.clock import Clock
from tests.lib.workdirs import ABOUT, KNOWN, STACK, UNKNOWN, stock


def test_it_is_made_again_after_a_minute_if_something_has_changed(tmp_path: Path) -> None:
    workdir, clock = stock(tmp_path / "work", {KNOWN: STACK}), Clock()
    keeper = Keeper(workdir, tmp_path / "out", clock=clock)
    assert keeper.look() is not None
    clock.now += EVERY_SECONDS
    assert keeper.look() is None
    stock(workdir, {UNKNOWN: STACK})
    assert keeper.look() is not None
    stock(workdir, {KNOWN: STACK})
    assert keeper.look() is None
    clock.now += EVERY_SECONDS
    assert keeper.look() is not None


def test_a_run_in_progress_is_looked_at_until_it_is_over(tmp_path: Path) -> None:
    """Killed, it writes nothing any more."""
    workdir, clock = stock(tmp_path / "work", {KNOWN: STACK}), Clock()
    keeper = Keeper(workdir, tmp_path / "out", clock=clock)
    with Ledger.open(workdir) as ledger:
        ledger.history.begin(ABOUT)
        made = keeper.look()
        assert made is not None
        assert made.in_progress
        clock.now += EVERY_SECONDS
        assert keeper.look() is not None
        ledger.history.end(0)
    clock.now += EVERY_SECONDS
    made = keeper.look()
    assert made is not None
    assert not made.in_progress


def test_there_may_be_nothing_yet(tmp_path: Path) -> None:
    assert Keeper(tmp_path / "work", tmp_path / "out").look() is None
    with kept(tmp_path / "work", tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()


def test_the_last_report_has_all(tmp_path: Path) -> None:
    workdir, out = tmp_path / "work", tmp_path / "out"
    with kept(workdir, out):
        stock(workdir, {KNOWN: STACK})
    assert KNOWN.name in (out / INDEX).read_text()
