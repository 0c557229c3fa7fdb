"""What a run hands over: verdicts with their reasons, JUnit XML, baselines, JSON."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.calls.registry import call
from fuzz.campaign.child import RunError
from fuzz.campaign.result import Result, hand_over
from fuzz.campaign.session import RunOptions, Session
from fuzz.campaign.verdict import any_counts, pardon
from fuzz.case import Case
from fuzz.findings import states
from fuzz.findings.baseline import Baseline
from fuzz.findings.bucket import Bucket
from fuzz.lib.exits import BAD_INPUT, FINE, INTERRUPTED, SURPRISES

KERNEL = kernel_named("linux-6.18")
CASE = Case((call("touch", 0, 0x1000),), kernel=KERNEL.name)
UNKNOWN, KNOWN = Bucket("leaf-has-vma", "mremap"), Bucket("committed", "mremap", "B-37")
DIFFERS = Bucket("differs-result-realign", "mremap")


def opened(tmp_path: Path, **more: object) -> Session:
    options = RunOptions(tmp_path / "work", seed=1)
    return Session(replace(options, **more))  # type: ignore[arg-type]


def met(session: Session, *buckets: Bucket) -> None:
    for bucket in buckets:
        session.met(bucket, CASE, KERNEL)
        session.record(bucket, KERNEL.name, 3, by="1", execs=1)


def verdicts(session: Session) -> dict[Bucket, str]:
    return {bucket: pardon(session, seen) for bucket, seen in session.findings.items()}


# --- Verdicts -------------------------------------------------------------------------------------


def test_what_is_old_known_or_accepted_does_not_count(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        met(session, UNKNOWN, KNOWN)
        assert verdicts(session) == {UNKNOWN: "", KNOWN: "known: B-37"}
    with opened(tmp_path) as session:
        session.ledger.states.change(DIFFERS, states.ACCEPTED, "so")
        met(session, UNKNOWN, KNOWN, DIFFERS)
        assert verdicts(session) == {UNKNOWN: "old", KNOWN: "old", DIFFERS: "accepted"}
        assert not any_counts(session)
    with opened(tmp_path, count_old=True, count_known=True) as session:
        met(session, UNKNOWN, KNOWN, DIFFERS)
        assert verdicts(session) == {UNKNOWN: "", KNOWN: "", DIFFERS: "accepted"}


def test_a_baseline_alone_says_what_is_old(tmp_path: Path) -> None:
    path = tmp_path / "baseline"
    Baseline({UNKNOWN: "reported"}).save(path)
    with opened(tmp_path) as session:
        met(session, UNKNOWN, DIFFERS)
    with opened(tmp_path, baseline=path) as session:
        met(session, UNKNOWN, KNOWN, DIFFERS)
        assert verdicts(session) == {UNKNOWN: "in the baseline", KNOWN: "known: B-37", DIFFERS: ""}
        session.reopened = [UNKNOWN]
        session.findings.pop(DIFFERS)
        assert not any_counts(session)


def test_a_baseline_that_is_not_there_or_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "baseline"
    with pytest.raises(RunError, match="No such file"):
        opened(tmp_path, baseline=path)
    path.write_text("no name\n")
    for update in (True, False):
        with pytest.raises(RunError, match=":1: 'no name' is not the name of a finding"):
            opened(tmp_path, baseline=path, update_baseline=update)


def test_a_baseline_is_updated_with_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "baseline"
    for known in (False, True):
        options = {"baseline": path, "update_baseline": True, "count_known": known}
        with opened(tmp_path, **options) as session:
            met(session, UNKNOWN, KNOWN)
            assert hand_over(session, SURPRISES).status == FINE
            assert hand_over(session, INTERRUPTED).status == INTERRUPTED
        assert set(Baseline.load(path).reasons) == ({UNKNOWN, KNOWN} if known else {UNKNOWN})
    assert Baseline.load(path).reasons[UNKNOWN].startswith("run ")
    with opened(tmp_path, baseline=path, count_known=True) as session:
        met(session, UNKNOWN, KNOWN)
        assert not any_counts(session)


def test_a_baseline_loses_what_is_fixed_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline"
    Baseline({UNKNOWN: "reported", KNOWN: "known", DIFFERS: "so"}).save(path)
    for update, left in ((False, {UNKNOWN, KNOWN, DIFFERS}), (True, {KNOWN, DIFFERS})):
        with opened(tmp_path, baseline=path, update_baseline=update) as session:
            session.ledger.states.change(UNKNOWN, states.FIXED)
            session.ledger.states.change(DIFFERS, states.REOPENED)
            assert hand_over(session, FINE).status == FINE
        assert set(Baseline.load(path).reasons) == left
    assert "baseline: 0 more, 1 fixed and taken out, 2 in all" in capsys.readouterr().out
    with opened(tmp_path, baseline=path, update_baseline=True) as session:
        met(session, UNKNOWN)  # back again
        assert hand_over(session, SURPRISES).status == FINE
    assert set(Baseline.load(path).reasons) == {UNKNOWN, KNOWN, DIFFERS}


def test_files_that_cannot_be_written_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "none" / "file"
    more = {"baseline": nowhere, "update_baseline": True, "junit": nowhere}
    with opened(tmp_path, **more) as session:
        met(session, UNKNOWN)
        assert hand_over(session, SURPRISES).status == BAD_INPUT
    assert capsys.readouterr().err.count(f"pmdfuzz run: {nowhere}: cannot write: ") == 2


# --- JSON -----------------------------------------------------------------------------------------


def test_the_result_is_plain_data(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        met(session, UNKNOWN, KNOWN, DIFFERS)
        told = json.loads(json.dumps(hand_over(session, SURPRISES).as_json()))
        path = session.path(KNOWN)
    assert (told["status"], told["kernels"], told["geometries"]) == (
        SURPRISES,
        ["linux-6.18"],
        ["x86-64", "small"],
    )
    known, differs, unknown = told["findings"]
    assert known["program"] == path.read_text() != ""
    known.pop("program")
    assert known == {
        "name": KNOWN.name,
        "rule": "committed",
        "call": "mremap",
        "defect": "B-37",
        "state": "new",
        "pardon": "known: B-37",
        "severity": "harm",
        "hits": {"linux-6.18": 3},
        "case": str(path),
    }
    assert (differs["severity"], differs["pardon"]) == (None, None)
    assert (unknown["severity"], unknown["pardon"]) == ("harm", None)


def test_what_the_retest_has_reopened_is_among_the_findings(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        session.ledger.cases.save(UNKNOWN, CASE)
        session.reopened = [UNKNOWN]
        (one,) = Result.of(session, SURPRISES).findings
        assert (one.name, one.state, one.pardon, one.hits) == (
            UNKNOWN.name,
            "reopened",
            None,
            {},
        )
        met(session, UNKNOWN)
        assert len(Result.of(session, SURPRISES).findings) == 1


# --- JUnit ----------------------------------------------------------------------------------------


def junit(session: Session, status: int) -> ET.Element:
    path = session.workdir / "junit.xml"
    session.options = replace(session.options, junit=path)
    hand_over(session, status)
    return ET.parse(path).getroot()[0]


def test_junit_has_failures_and_what_was_skipped(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        met(session, UNKNOWN, KNOWN)
        suite = junit(session, SURPRISES)
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    run, known, unknown = suite
    assert (run.get("name"), len(run)) == ("linux-6.18", 0)
    assert (known.get("name"), known[0].tag, known[0].get("message")) == (
        KNOWN.name,
        "skipped",
        "known: B-37",
    )
    (failure,) = unknown
    assert (failure.tag, failure.get("type")) == ("failure", "harm")
    assert "touch(0x0, 0x1000)" in (failure.text or "")


def test_junit_of_a_run_that_failed_has_an_error(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        suite = junit(session, INTERRUPTED)
        assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
        assert suite[0][0].tag == "error"
        assert (len(junit(session, FINE)), len(junit(session, FINE)[0])) == (1, 0)


def test_junit_is_xml_whatever_a_case_says(tmp_path: Path) -> None:
    odd = "a\x00b\x0b\x1b[31m & <tag> ]]> \U0001f600 é"
    with opened(tmp_path) as session:
        met(session, UNKNOWN)
        session.path(UNKNOWN).write_text(odd, encoding="utf-8")
        (failure,) = junit(session, SURPRISES)[1]
    assert (failure.text or "").endswith("a\ufffdb\ufffd\ufffd[31m & <tag> ]]> \U0001f600 é")
