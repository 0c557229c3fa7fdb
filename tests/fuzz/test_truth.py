"""The model against real kernels: results, page-table bytes, VMAs and pages of recorded programs.

The repository holds a sample of the recordings.  With PMDFUZZ_TRUTH set to a directory of
KERNEL.jsonl files, all of their programs that the model can run are compared instead.
"""

import gzip
import json
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from engine.kernel import KERNELS, kernel_named
from fuzz.case import Case
from fuzz.execute import MODELLED_CALLS, Outcome, execute
from fuzz.known import known_defect
from fuzz.observe import FIELDS, differences, observation
from fuzz.text import parse_call

SAMPLE = Path(__file__).parent / "data"
RECORDED = ("linux-6.1", "linux-6.12", "linux-6.18")
CATEGORIES = {"mv", "nbr", "chn", "mul", "shr", "thp", "kch", "mrg", "mad", "mlk", "err", "rnd"}


def recordings(kernel: str) -> Iterator[dict[str, object]]:
    """The recorded observations of one kernel."""
    directory = os.environ.get("PMDFUZZ_TRUTH")
    if directory:
        lines = (Path(directory) / f"{kernel}.jsonl").read_text(encoding="utf-8")
    else:
        lines = gzip.decompress((SAMPLE / f"truth-{kernel}.jsonl.gz").read_bytes()).decode()
    return map(json.loads, lines.splitlines())


def category(recording: dict[str, object]) -> str:
    """`mv` of `mv000049`."""
    return str(recording["id"]).rstrip("0123456789")


def calls_of(recording: dict[str, object]) -> list[str]:
    ops = recording["ops"]
    assert isinstance(ops, list)
    return ops


def is_modelled(recording: dict[str, object]) -> bool:
    return {call.partition("(")[0] for call in calls_of(recording)} <= MODELLED_CALLS


def by_category(kernel: str) -> dict[str, list[dict[str, object]]]:
    modelled = sorted(filter(is_modelled, recordings(kernel)), key=lambda r: str(r["id"]))
    return {name: list(group) for name, group in groupby(modelled, category)}


TRUTH = {kernel: by_category(kernel) for kernel in RECORDED}


def unknown_defects(outcome: Outcome) -> list[str]:
    """Broken rules, but for the defects that the recorded kernel has and does not warn of."""
    known: set[str] = set()
    lines = []
    for index, violation in outcome.violations:
        if known_defect(violation.rule, outcome.case.calls[index], outcome.kernel):
            known.add(violation.rule)  # a state stays as it is: later calls find it again
        if violation.rule not in known:
            lines.append(f"call {index}: {violation}")
    return lines


@pytest.mark.parametrize(
    ("kernel", "name"), [(kernel, name) for kernel in RECORDED for name in TRUTH[kernel]]
)
def test_the_model_does_what_the_kernel_did(kernel: str, name: str) -> None:
    wrong = []
    for recording in TRUTH[kernel][name]:
        case = Case(tuple(map(parse_call, calls_of(recording))))
        outcome = execute(case, kernel_named(kernel), stop=False)
        found = differences(recording, observation(outcome, str(recording["id"])))
        found += unknown_defects(outcome)
        wrong += [f"{recording['id']} {line}" for line in found]
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(wrong[:20])


def test_the_recordings_are_what_the_comparison_needs() -> None:
    programs = {
        kernel: {r["id"]: r["ops"] for group in TRUTH[kernel].values() for r in group}
        for kernel in TRUTH
    }
    assert programs["linux-6.1"] == programs["linux-6.12"] == programs["linux-6.18"]
    assert len(programs["linux-6.1"]) > 300
    assert set(TRUTH["linux-6.1"]) == CATEGORIES
    assert all(set(FIELDS) <= set(r) for kernel in TRUTH for g in TRUTH[kernel].values() for r in g)


@pytest.mark.parametrize("recorded", RECORDED)
@pytest.mark.parametrize("kernel", [name for name in KERNELS if name in RECORDED])
def test_the_recordings_tell_kernels_apart(recorded: str, kernel: str) -> None:
    """The comparison can fail: a model of another kernel does not pass."""
    differing = 0
    for group in TRUTH[recorded].values():
        for recording in group[:: max(1, len(group) // 30)]:
            case = Case(tuple(map(parse_call, calls_of(recording))))
            outcome = execute(case, kernel_named(kernel), check=False)
            differing += bool(differences(recording, observation(outcome, "")))
    assert (differing > 10) is (recorded != kernel), differing
