"""Programs for a subject elsewhere: what crosses the network, and what of it is refused."""

import json
from collections import deque
from concurrent.futures import Future
from dataclasses import replace

import pytest

from engine.base.kernel import kernel_named
from fuzz.campaign.afar import Afar
from fuzz.campaign.round import program
from fuzz.campaign.trial import Nature, Shown, Trial, answers, shown
from fuzz.forms import text
from fuzz.lib.plain import PlainError, plain
from fuzz.subjects.model import Model
from fuzz.subjects.subject import SubjectError
from tests.lib.standin import StandIn

MODEL = Model(kernel_named("linux-6.18"))
CASE = text.parse("mmap(0, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS)\n").program()
TRIAL = Trial("t-1", "model:linux-6.18", Nature.of(MODEL), (text.dump(CASE),), False, program())
ANSWER = shown(TRIAL, MODEL)


@pytest.mark.parametrize("subject", [MODEL, StandIn(refuses={"mmap": {"MAP_SHARED": "-EINVAL"}})])
def test_what_a_subject_is_survives_the_network(subject: Model) -> None:
    nature = Nature.of(subject)
    trial = Trial.parsed(json.loads(json.dumps(replace(TRIAL, nature=nature).plain())))
    assert trial.nature == nature and nature.able == subject.able


def test_what_was_shown_survives_the_network() -> None:
    found = Shown.parsed(json.loads(json.dumps(ANSWER.plain())), TRIAL)
    assert found == ANSWER
    assert found.rows() == json.loads(json.dumps([MODEL.observe(CASE)]))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"trial": "another"}, "shown.trial: 'another'"),
        ({"program": "another"}, "another version"),
        ({"nature": None}, "nature is missing"),
        ({"nature": plain(Nature.of(MODEL)._replace(geometry="flat"))}, "flat"),
        ({"observations": []}, "0 observations of 1"),
        ({"observations": ["{"]}, "Expecting"),
        ({"observations": ["[]"]}, "no object"),
        ({"observations": ["{}"]}, "'ret' must have an entry"),
        ({"observations": ['{"ret": [0], "vmas": 5}']}, "'vmas' must be"),
        ({"observations": ['{"ret": [0], "kernel": {"kind": "bug"}}']}, "is no report"),
    ],
)
def test_what_nobody_can_have_shown_is_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(PlainError, match=why):
        Shown.parsed(ANSWER.plain() | fields, TRIAL)


def test_a_trial_whose_case_cannot_be_read_is_refused() -> None:
    with pytest.raises(PlainError, match=r"trial\.cases: "):
        Trial.parsed(TRIAL.plain() | {"cases": ["munmap()"]})


def test_a_subject_that_is_another_one_elsewhere_is_told() -> None:
    with pytest.raises(SubjectError, match=r"another one here than .*: name 'linux-6.12', there"):
        shown(TRIAL, Model(kernel_named("linux-6.12")))


def test_trials_are_answered_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = replace(TRIAL, id="t-2", nature=None, subject="nothing")
    answers([json.dumps(nobody.plain())])
    answers([json.dumps(TRIAL.plain())] * 2)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "no subject is called 'nothing'" in Shown.parsed(told[0], nobody).why
    assert [Shown.parsed(line, TRIAL) for line in told[1:]] == [ANSWER, ANSWER]


class Elsewhere:
    """Does trials when it is asked to."""

    def __init__(self) -> None:
        self.asked: deque[tuple[Trial, Future[Shown]]] = deque()
        self.at_once = True

    def ask(self, trial: Trial) -> "Future[Shown]":
        self.asked.append((trial, Future()))
        return self.do() if self.at_once else self.asked[-1][1]

    def do(self) -> "Future[Shown]":
        trial, asked = self.asked.popleft()
        asked.set_result(shown(trial, MODEL))
        return asked


def test_what_has_begun_elsewhere_is_taken_when_it_is_there() -> None:
    there = Elsewhere()
    subject = Afar("model:linux-6.18", there.ask, lambda: 2)
    assert subject.ready and subject.at_once == 2
    there.at_once = False
    first, second = subject.begin([CASE, CASE]), subject.begin([CASE])
    assert not subject.ready
    there.do()
    assert subject.ready and len(list(first)) == 2 and not subject.ready
    there.do()
    assert subject.ready and len(list(second)) == 1


def test_what_is_cancelled_elsewhere_is_lost() -> None:
    there = Elsewhere()
    subject = Afar("model:linux-6.18", there.ask, lambda: 1)
    there.at_once = False
    begun = subject.begin([CASE])
    there.asked.pop()[1].cancel()
    with pytest.raises(SubjectError, match="about to end"):
        list(begun)
