"""A new finding is minimized, kept and told, without a fuzzing process."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.investigate import Interrupted, investigate
from fuzz.campaign.report import summary
from fuzz.campaign.session import RunOptions, Session
from fuzz.defects.catalogue import exhibit_named
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import load, parse
from fuzz.rules.judge import RulesAfter
from fuzz.showing import replay, showing
from tests.lib.constants import ROOT

KERNEL = kernel_named("linux-6.18")
# A move that shrinks leaks commit charge, which is noticed when the whole state is judged.
LEAK = parse(
    "mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "mremap(0x10000, 0x4000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000)\n"
    "touch(0x40000, 0x1000)\n"
)


@pytest.mark.parametrize(
    ("rules_after", "bucket"),
    [
        ("moving", Bucket("committed", "mremap", "shrink-leak")),
        ("call", Bucket("committed", "mremap", "shrink-leak")),
        ("last", Bucket("committed", "touch", "shrink-leak")),
    ],
)
def test_a_finding_is_minimized_as_the_run_has_judged_it(
    rules_after: RulesAfter, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert showing(LEAK, KERNEL, rules_after).bucket == bucket
    with Session(RunOptions(tmp_path, seed=1, rules_after=rules_after)) as session:
        session.met(bucket, LEAK, KERNEL)
        crashes = Crashes(session)
        (seen,) = session.queue
        investigate(session, seen, crashes, lambda: None)
        assert not crashes.any
        assert showing(session.ledger.cases.load(bucket), KERNEL, rules_after).bucket == bucket
    said = capsys.readouterr().out
    assert said.count("known: shrink-leak") == said.count("\n") == 1


# Realignment inside a VMA without a page: only the course is another one.
UNFAULTED = parse(
    "mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "mremap(0x3ff000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1ff000)\n"
)
LARGEST_BITE = Bucket("largest-bite", "mremap")


def test_a_finding_without_harm_is_followed_by_what_it_leads_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = 0
    with (
        exhibit_named("B-12-own-head").installed(),
        Session(RunOptions(tmp_path, seed=1)) as session,
    ):

        def breathe() -> None:
            nonlocal ran
            ran += 1
            doing.add(session.progress.doing)

        doing: set[str] = set()
        session.met(LARGEST_BITE, UNFAULTED, KERNEL)
        (seen,) = session.queue
        investigate(session, seen, Crashes(session), breathe)
        harm = session.ledger.cases.load_harm(LARGEST_BITE)
        assert harm is not None
        (shown,) = replay(harm)
        assert shown.as_expected
        assert "others-untouched" in {found.violation.rule for found in shown.violations}
        after = summary(session, 1, "").split("Next:\n")[1].splitlines()
        assert after[1] == f"  pmdfuzz show {session.harm_path(LARGEST_BITE)}"
    said = capsys.readouterr().out
    finding, leads = said.split(f"{LARGEST_BITE.name} LEADS TO others-untouched--mremap on ")
    assert f"NEW FINDING {LARGEST_BITE.name} on linux-6.18" in finding
    assert "touch(" not in finding
    assert "violation: oracle-contents at [" in leads
    assert f"Reproduce with: pmdfuzz replay {session.harm_path(LARGEST_BITE)}" in leads
    assert f"looking for harm near {LARGEST_BITE.name}" in doing
    assert ran > 10


def test_the_search_for_harm_can_be_interrupted_and_loses_no_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        exhibit_named("B-12-own-head").installed(),
        Session(RunOptions(tmp_path, seed=1)) as session,
    ):

        def breathe() -> None:
            if session.progress.doing.startswith("looking for harm"):
                raise Interrupted

        session.met(LARGEST_BITE, UNFAULTED, KERNEL)
        (seen,) = session.queue
        investigate(session, seen, Crashes(session), breathe)
        assert session.ledger.cases.load(LARGEST_BITE) is not None
        assert session.ledger.cases.load_harm(LARGEST_BITE) is None
        path = session.path(LARGEST_BITE)
    said = capsys.readouterr().out
    assert f"NEW FINDING {LARGEST_BITE.name}" in said
    assert said.endswith(f"looking for harm was cut short:\n  pmdfuzz harm {path}\n")


def test_a_known_defect_is_not_followed(tmp_path: Path) -> None:
    kernel = kernel_named("linux-6.7", "i386")
    case = load(ROOT / "corpus" / "museum" / "b-09-result-wraps.case")
    bucket = Bucket("move-result", "mremap", "B-09")
    options = RunOptions(tmp_path, seed=1, kernels=("linux-6.7",), geometries=("i386",))
    with Session(options) as session:
        session.met(bucket, case, kernel)
        (seen,) = session.queue
        investigate(session, seen, Crashes(session), lambda: None)
        assert session.ledger.cases.load(bucket) is not None
        assert session.ledger.cases.load_harm(bucket) is None


def test_what_a_stopped_run_has_left_is_minimized_and_told_as_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = showing(LEAK, KERNEL).bucket
    assert bucket is not None
    with Session(RunOptions(tmp_path, seed=1)) as stopped:
        stopped.met(bucket, replace(LEAK, kernel=KERNEL.name), KERNEL)
    with Session(RunOptions(tmp_path, seed=2)) as session:
        crashes = Crashes(session)
        (seen,) = session.queue
        investigate(session, seen, crashes, lambda: None)
        assert not crashes.any
        case = load(session.path(bucket))
    assert len(case.calls) == 2 and not case.found
    assert (
        f"minimized: {bucket.name}, found by an earlier run: 2 calls; " in capsys.readouterr().out
    )
