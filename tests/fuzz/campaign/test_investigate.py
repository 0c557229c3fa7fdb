"""A new finding is minimized, kept and told, without a fuzzing process."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.executor import parted
from fuzz.campaign.inquiry import Answer, Inquiry, answer
from fuzz.campaign.investigate import Investigations
from fuzz.campaign.local import Local
from fuzz.campaign.report import summary
from fuzz.campaign.round import Report, Round
from fuzz.campaign.session import RunOptions, Session
from fuzz.defects.catalogue import exhibit_named
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import NOT_MINIMIZED
from fuzz.forms.text import load, parse
from fuzz.lib.plain import PlainError
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


def investigated(session: Session, crashes: Crashes) -> set[str]:
    """Look into all that was found.  Returns: what the status line has said meanwhile."""
    executor = Local(session.corpus, session.seeds, session.crashes, session.workdir, 2)
    investigations = Investigations(session, crashes, executor)
    said = set()
    while investigations.busy:
        investigations.begin()
        said.add(session.progress.minimizing)
        for found in parted(executor.heard(1.0))[1]:
            investigations.take(found)
    executor.close()
    investigations.cut_short()
    return said


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
        investigated(session, crashes)
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
    with (
        exhibit_named("B-12-own-head").installed(),
        Session(RunOptions(tmp_path, seed=1)) as session,
    ):
        session.met(LARGEST_BITE, UNFAULTED, KERNEL)
        said_meanwhile = investigated(session, Crashes(session))
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
    assert said_meanwhile >= {
        f"minimizing {LARGEST_BITE.name}",
        f"looking for harm near {LARGEST_BITE.name}",
    }


def test_the_search_for_harm_can_be_cut_short_and_loses_no_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        exhibit_named("B-12-own-head").installed(),
        Session(RunOptions(tmp_path, seed=1)) as session,
    ):
        session.met(LARGEST_BITE, UNFAULTED, KERNEL)
        executor = Local(session.corpus, session.seeds, session.crashes, session.workdir)
        investigations = Investigations(session, Crashes(session), executor)
        while session.queue:
            investigations.begin()
            for found in parted(executor.heard(1.0))[1]:
                investigations.take(found)
        investigations.begin()
        executor.close()
        investigations.cut_short()
        assert session.ledger.cases.load(LARGEST_BITE) is not None
        assert session.ledger.cases.load_harm(LARGEST_BITE) is None
        path = session.path(LARGEST_BITE)
    said = capsys.readouterr().out
    assert f"NEW FINDING {LARGEST_BITE.name}" in said
    assert said.endswith(f"looking for harm was cut short:\n  pmdfuzz harm {path}\n")


class Asked:
    """An executor that only says what it was asked."""

    places = helpers = 2
    round_seconds = 1.0
    remote = False

    def __init__(self) -> None:
        self.inquiries: list[Inquiry] = []

    def begin(self, task: Round | Inquiry) -> None:
        assert isinstance(task, Inquiry)
        self.inquiries.append(task)

    def heard(self, timeout: float) -> list[Report | Answer]:
        return []

    def stop(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_finding_is_asked_about_once_and_its_answer_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = showing(LEAK, KERNEL).bucket
    assert bucket is not None
    with Session(RunOptions(tmp_path, seed=1)) as session:
        session.met(bucket, LEAK, KERNEL)
        executor = Asked()
        investigations = Investigations(session, Crashes(session), executor)
        investigations.begin()
        investigations.begin()
        (inquiry,) = executor.inquiries
        assert Inquiry.parsed(json.loads(json.dumps(inquiry.plain()))) == inquiry
        found = answer(inquiry)
        assert Answer.parsed(json.loads(json.dumps(found.plain())), inquiry) == found
        investigations.take(found)
        investigations.take(found)
        assert not investigations.busy
    assert capsys.readouterr().out.count("known: shrink-leak") == 1


def test_an_inquiry_that_is_lost_leaves_the_finding_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Session(RunOptions(tmp_path, seed=1)) as session:
        session.met(LARGEST_BITE, UNFAULTED, KERNEL)
        executor = Asked()
        investigations = Investigations(session, Crashes(session), executor)
        investigations.begin()
        investigations.take(Answer.none(executor.inquiries[0], "signal 9"))
        assert not investigations.busy
        kept = session.ledger.cases.load(LARGEST_BITE)
        assert kept is not None and NOT_MINIMIZED in kept.found
    assert "not minimized: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"inquiry": "another"}, "in place of"),
        ({"geometry": "tiny"}, "was not asked about"),
        ({"case": "mremap("}, "answer.case: "),
        ({"bucket": {"rule": "x", "call": "mremap", "defect": ""}}, "x--mremap in place of"),
        ({"program": "ffff"}, "another version of pmdfuzz"),
        ({"failed": [{"case": "touch(0x0, 0x1000)", "kernel": 1, "error": ""}]}, "int in place"),
    ],
)
def test_what_is_no_answer_is_refused(change: dict[str, object], why: str, tmp_path: Path) -> None:
    with Session(RunOptions(tmp_path, seed=1)) as session:
        session.met(LARGEST_BITE, UNFAULTED, KERNEL)
        executor = Asked()
        Investigations(session, Crashes(session), executor).begin()
        (inquiry,) = executor.inquiries
    none = Answer.none(inquiry, "none").plain()
    with pytest.raises(PlainError, match=why):
        Answer.parsed({**none, **change}, inquiry)


def test_a_known_defect_is_not_followed(tmp_path: Path) -> None:
    kernel = kernel_named("linux-6.7", "i386")
    case = load(ROOT / "corpus" / "museum" / "b-09-result-wraps.case")
    bucket = Bucket("move-result", "mremap", "B-09")
    options = RunOptions(tmp_path, seed=1, kernels=("linux-6.7",), geometries=("i386",))
    with Session(options) as session:
        session.met(bucket, case, kernel)
        investigated(session, Crashes(session))
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
        investigated(session, crashes)
        assert not crashes.any
        case = load(session.path(bucket))
    assert len(case.calls) == 2 and not case.found
    assert (
        f"minimized: {bucket.name}, found by an earlier run: 2 calls; " in capsys.readouterr().out
    )
