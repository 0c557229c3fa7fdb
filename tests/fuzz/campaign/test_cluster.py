"""Rounds on workers of a cluster: what comes back, who is refused, and what is lost with whom."""

import contextlib
import gc
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("distributed", reason="needs dask.distributed, which is not installed here")

import dask
import psutil
from distributed import LocalCluster, Security

from engine.base.kernel import kernel_named
from fuzz.campaign import cluster as cluster_module
from fuzz.campaign import remote
from fuzz.campaign import round as round_module
from fuzz.campaign.child import RunError
from fuzz.campaign.cluster import Cluster
from fuzz.campaign.executor import parted
from fuzz.campaign.inquiry import Answer, Inquiry
from fuzz.campaign.round import Report, program
from fuzz.campaign.run import run
from fuzz.campaign.session import RunOptions, Tls
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import load, parse
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.subjects.model import Model
from fuzz.subjects.subject import SubjectError
from tests.lib import workers
from tests.lib.constants import ROOT
from tests.lib.rounds import ROUND

SHOWING = ROOT / "corpus" / "regressions" / "thread-c-overlapping.case"
INQUIRY = Inquiry(
    id="i-1",
    about="minimal",
    bucket=Bucket("dest-entry-none", "execve_stack", "B-01"),
    kernel="linux-6.1",
    geometry="x86-64",
    case=SHOWING.read_text(),
    kernels=("linux-6.1", "linux-6.18"),
    target="x86-64",
    usual="x86-64",
    like=None,
    rules_after="moving",
    budget=200,
    program=program(),
)
LONG = 120.0  # seconds until a test gives up
# dask leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Garbage is collected here, and not in the tests of others."""
    yield
    gc.collect()


class Running(NamedTuple):
    """A cluster that is there, and how to reach it."""

    address: str
    tls: Tls


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers, to which nothing is done; connections are encrypted."""
    folder = tmp_path_factory.mktemp("tls")
    security = Security.temporary()
    tls = Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    for path, name in zip(tls, names, strict=True):
        assert path is not None
        path.write_text(getattr(security, name))
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        resources={"vm": 1},
        host="tls://127.0.0.1",
        dashboard_address="127.0.0.1:0",
        security=security,
    ) as there:
        yield Running(there.scheduler_address, tls)


@pytest.fixture
def shared(running: Running) -> Iterator[Cluster]:
    """A session's view of them."""
    with contextlib.closing(Cluster(*running)) as executor:
        yield executor


@pytest.fixture
def observing(running: Running) -> Iterator[Cluster]:
    """The view of one that is against a subject."""
    with contextlib.closing(Cluster(*running, with_subjects=True)) as executor:
        yield executor


@pytest.fixture
def single() -> Iterator[Cluster]:
    """One worker, for a test that does something to it."""
    with contextlib.closing(Cluster("local:1")) as executor:
        yield executor


def until(executor: Cluster, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline, executor.news()
        time.sleep(0.1)


def heard(executor: Cluster) -> Report | Answer:
    """What comes in next."""
    found: list[Report | Answer] = []
    until(executor, lambda: found.extend(executor.heard(0.1)) or found)
    (one,) = found
    return one


def report_of(executor: Cluster, name: str) -> Report:
    """The report of the round, once it is there."""
    report = heard(executor)
    assert isinstance(report, Report) and report.round == name
    return report


def answer_of(executor: Cluster) -> Answer:
    """The answer to the inquiry, once it is there."""
    answer = heard(executor)
    assert isinstance(answer, Answer) and answer.inquiry == INQUIRY.id
    return answer


def processes(executor: Cluster) -> list[int]:
    """Those of the workers, by their ids."""

    found: list[int] = []

    async def ask() -> None:
        found.extend((await executor._client.run(os.getpid)).values())

    executor._wait_for(ask(), LONG)
    return found


def stands_for(monkeypatch: pytest.MonkeyPatch, work: Callable[[str], Any]) -> None:
    """Let workers do this in place of rounds."""
    monkeypatch.setattr(cluster_module.remote, "fuzz", work)


@pytest.mark.atheris
def test_a_round_on_a_worker_reports_what_it_has_found(shared: Cluster) -> None:
    shared.begin(replace(ROUND, id="full", runs=300, sample=()))
    report = report_of(shared, "full")
    assert report.end is not None and not report.end.why
    assert report.execs >= 300 and report.program == program()
    assert report.inputs and report.cells and report.findings


@pytest.mark.atheris
def test_a_worker_takes_its_round_along_and_another_one_does_the_next(single: Cluster) -> None:
    single.begin(replace(ROUND, id="first", runs=None, seconds=LONG))
    until(single, lambda: harnesses(single))
    fuzzing = harnesses(single)
    os.kill(processes(single)[0], signal.SIGKILL)
    report = report_of(single, "first")
    assert report.end is not None and report.end.lost
    until(single, lambda: not any(one.is_running() for one in fuzzing))
    until(single, lambda: single.places)  # its nanny has started another
    assert [line.partition(" (")[0] for line in single.news()] == ["worker 0"] * 3
    single.begin(replace(ROUND, id="second", runs=None, seconds=LONG))
    until(single, lambda: harnesses(single))
    single.stop()  # this one is asked to end
    report = report_of(single, "second")
    assert report.end is not None and not report.end.lost and not report.end.why


def harnesses(executor: Cluster) -> list[psutil.Process]:
    """The fuzzing processes of the workers."""
    found = []
    for number in processes(executor):
        found += psutil.Process(number).children()
    return found


def test_an_inquiry_is_answered_by_a_worker(shared: Cluster) -> None:
    shared.begin(INQUIRY)
    assert shared.places == 1, "it takes the place of a round"
    answer = answer_of(shared)
    assert not answer.why and answer.bucket == INQUIRY.bucket
    assert answer.case is not None and len(parse(answer.case).calls) == 1
    assert shared.places == 2


def test_an_inquiry_that_nobody_can_answer_says_why(shared: Cluster) -> None:
    shared.begin(replace(INQUIRY, case=INQUIRY.case + "munmap()\n"))
    answer = answer_of(shared)
    assert answer.case is None and answer.why.startswith("PlainError: inquiry.case: ")


def test_an_inquiry_that_ends_its_workers_is_given_up(
    single: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module.remote, "inquire", workers.dying)
    monkeypatch.setattr(cluster_module, "_TRIES", 2)
    single.begin(INQUIRY)
    answer = answer_of(single)
    assert answer.case is None and "is gone" in answer.why


def test_a_subject_is_run_by_workers(observing: Cluster) -> None:
    here = Model(kernel_named("linux-6.1"))
    subject = observing.subject("model:linux-6.1")
    assert (subject.name, subject.able, subject.geometry) == (here.name, here.able, here.geometry)
    assert subject.at_once == 2 and observing.places == 0, "each keeps its thread for trials"
    cases = [load(SHOWING).program(), load(SHOWING).with_calls(())]
    begun = [subject.begin(cases), subject.begin(cases[:1])]
    until(observing, lambda: subject.ready)
    assert [list(one) for one in begun] == [list(here.run(cases)), [here.observe(cases[0])]]
    subject.to_the_end = True
    assert subject.observe(cases[0]) == here.observe(cases[0])


def test_a_subject_that_nobody_can_have_says_why(observing: Cluster) -> None:
    with pytest.raises(SubjectError, match="no subject is called 'nothing'"):
        observing.subject("nothing")
    told = [line for line in observing.news() if "gets no more programs" in line]
    assert len(told) == 2, "by name"


def test_a_worker_without_the_resource_has_no_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 5.0)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as there,
        contextlib.closing(Cluster(there.scheduler_address, with_subjects=True)) as executor,
    ):
        with pytest.raises(SubjectError) as raised:
            executor.subject("model:linux-6.1")
        assert executor.places == 1
    assert 'no worker has the resource "vm", which model:linux-6.1 needs' in str(raised.value)
    assert f"dask worker {there.scheduler_address} " in str(raised.value)


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (workers.observing_nothing, "shown.observations: no object"),
        (workers.without_a_subject, "it does not boot"),
    ],
)
def test_what_no_observation_is_comes_from_nobody_any_more(
    observing: Cluster, monkeypatch: pytest.MonkeyPatch, work: Callable[[str], str], why: str
) -> None:
    subject = observing.subject("model:linux-6.1")
    observing.news()
    monkeypatch.setattr(cluster_module.remote, "observe", work)
    monkeypatch.setattr(observing, "_gone_seconds", 1.0)
    with pytest.raises(SubjectError, match='; now no worker has the resource "vm"'):
        subject.observe(load(SHOWING).program())
    told = observing.news()
    assert len(told) == 2 and all(why in line for line in told)


def test_places_are_threads_of_workers(shared: Cluster) -> None:
    assert (shared.places, shared.helpers) == (2, 1)
    assert shared.round_seconds == cluster_module.ROUND_SECONDS
    shared._threads = 30_000
    assert shared.round_seconds == 2000
    assert shared.standing == "2 workers" and not shared.over


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (workers.pickled, "no text"),
        (workers.no_json, "Expecting property name"),
        (workers.of_another, "report.round: 'another'"),
    ],
)
def test_what_no_report_is_refuses_its_worker(
    shared: Cluster, monkeypatch: pytest.MonkeyPatch, work: Callable[[str], object], why: str
) -> None:
    stands_for(monkeypatch, work)
    shared.begin(ROUND)
    report = report_of(shared, ROUND.id)
    assert report.end is not None and report.end.lost and "is refused" in report.end.why
    assert why in shared.news()[-1]
    assert shared.places == 1 and shared.standing == "1 worker"


def test_what_is_raised_over_there_ends_the_round(
    shared: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_for(monkeypatch, workers.raising)
    shared.begin(ROUND)
    report = report_of(shared, ROUND.id)
    assert report.end is not None and report.end.why == "ArithmeticError: over there"
    assert not report.end.lost and shared.places == 2


def test_a_round_waits_for_a_place(shared: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for(monkeypatch, workers.empty)
    for number in range(5):
        shared.begin(replace(ROUND, id=f"many-{number}"))
    found: list[str] = []
    until(
        shared,
        lambda: (
            found.extend(report.round for report in parted(shared.heard(0))[0]) or len(found) == 5
        ),
    )
    assert sorted(found) == [f"many-{number}" for number in range(5)]


def told_by(**fields: object) -> str:
    """What a worker says that has this otherwise."""
    return json.dumps(json.loads(remote.who()) | fields)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (remote.who(), ""),
        (told_by(objection="no atheris"), "no atheris"),
        (
            told_by(program="0123456789abcdef"),
            "what it has is of another version of pmdfuzz (01234",
        ),
        (told_by(program="another", python="3.2"), "what it has for Python 3.2 is of another"),
        (told_by(program=1), "it.program: int in place of str"),
        (json.dumps({"objection": ""}), "it: program is missing"),
        (json.dumps([]), "it: list in place of dict"),
        (ModuleNotFoundError("No module named 'fuzz'"), "(No module named 'fuzz')"),
        (None, "it says None"),
        ("{", "Expecting"),
        (b"{}", "it says b'{}'"),
    ],
)
def test_who_cannot_join_is_told_why(answer: object, why: str) -> None:
    objection = cluster_module._objection(answer)
    assert why in objection and bool(why) == bool(objection)


def test_a_worker_says_who_it_is() -> None:
    assert json.loads(remote.who())["program"] == program()


def test_another_program_is_refused_by_name(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_module, "program", lambda: "of another version")
    with contextlib.closing(Cluster(*running)) as executor:
        assert executor.places == 0
        told = executor.news()
    assert [line.partition(" (")[0] for line in sorted(told)] == ["worker 0", "worker 1"]
    assert all("another version of pmdfuzz" in line for line in told)


def test_a_scheduler_that_stays_away_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for(monkeypatch, workers.endless)
    there = LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with contextlib.closing(Cluster(there.scheduler_address, gone_seconds=1.0)) as executor:
        executor.begin(ROUND)
        until(executor, lambda: any(one.tasks for one in executor._members.values()))
        there.close()
        report = report_of(executor, ROUND.id)
        assert report.end is not None and report.end.lost
        until(executor, lambda: executor.over)
        assert executor.places == 0 and "nobody has come back within 1 s" in executor.over


def test_a_worker_of_ours_that_dask_gives_up_is_replaced(single: Cluster) -> None:
    first = processes(single)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0s"}):
        os.kill(first[0], signal.SIGKILL)
        until(single, lambda: not single.places)
        until(single, lambda: single.places)
    assert processes(single) != first and not single.over


def test_workers_of_ours_that_stay_away_end_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "_replace", lambda _: None)
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "0s"}),
        contextlib.closing(Cluster("local:1", gone_seconds=1.0)) as executor,
    ):
        os.kill(processes(executor)[0], signal.SIGKILL)
        until(executor, lambda: executor.over)
    assert executor.over.startswith("all workers are gone")


def test_what_nobody_is_left_to_do_is_not_waited_for() -> None:
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as there,
        contextlib.closing(Cluster(there.scheduler_address, gone_seconds=1.0)) as executor,
    ):
        executor.begin(INQUIRY)
        time.sleep(2 * cluster_module._LOOK_SECONDS)
        assert not executor.over, "somebody may join"
        executor.stop()  # the time is up
        assert answer_of(executor).why == "nobody could do it"
        assert executor.over.startswith("all workers are gone")


def test_a_cluster_without_workers_is_waited_for() -> None:
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as there,
        contextlib.closing(Cluster(there.scheduler_address)) as executor,
    ):
        told = executor.news()
    assert [line.partition(" at ")[0] for line in told] == ["nobody works"]
    assert told[0].endswith("waiting for workers")


def test_nobody_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.5)
    with pytest.raises(RunError, match=r"--cluster tcp://127\.0\.0\.1:1: "):
        Cluster("tcp://127.0.0.1:1")


def test_strangers_do_not_reach_an_encrypted_cluster(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.5)
    with pytest.raises(RunError, match="--cluster tls://"):
        Cluster(running.address)
    with pytest.raises(RunError, match="nowhere"):
        Cluster(running.address, Tls(tmp_path / "nowhere"))


@pytest.mark.atheris
def test_a_run_on_a_cluster_keeps_what_it_finds(
    running: Running, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = RunOptions(tmp_path, kernels=("linux-6.1",), runs=200, seed=5, minimize_budget=50)
    options = replace(options, seeds=(SHOWING,), cluster=running.address, tls=running.tls)
    assert run(options) == FINE
    told = capfd.readouterr().out
    assert "have joined: 2 workers" in told and "known: " in told
    assert list((tmp_path / "findings").glob("*.case"))
    assert list((tmp_path / "corpus" / "x86-64").iterdir())


@pytest.mark.atheris
def test_a_run_against_a_subject_that_workers_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is another kernel than its model is, and so a finding, which is minimized there, too."""
    options = RunOptions(tmp_path, kernels=("linux-6.12",), runs=150, seed=5, cluster="local:1")
    assert run(replace(options, against=("model:linux-6.18",), minimize_budget=50)) == SURPRISES
    told = capfd.readouterr().out
    assert "against linux-6.18, beside linux-6.12" in told
    assert re.search(
        r"^NEW FINDING machine-differs--\w+: linux-6.18 is not linux-6.12$", told, re.M
    )
    assert re.search(
        r"^\d+ inputs were run on linux-6.18 and compared with linux-6.12$", told, re.M
    )
