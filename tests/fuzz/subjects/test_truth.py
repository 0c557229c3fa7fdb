"""The model against real kernels: results, page-table bytes, VMAs and pages of recorded programs.

The repository holds a sample of the recordings of each kernel: `corpus/truth`.  All of them,
KERNEL.jsonl files, are compared as well (marker `truth`) if they are in the directory that
PMDFUZZ_TRUTH names, or in shared/truth beside the repository; and so are those of other releases in
its folder `kernels`, KERNEL.jsonl.xz.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from itertools import chain, groupby, islice, permutations
from pathlib import Path

import pytest

from engine.base.kernel import Kernel, kernel_named
from fuzz.calls.operand import Flags
from fuzz.calls.registry import CALLS, MODELLED_CALLS
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.forms.text import parse_call
from fuzz.subjects.difference import difference, items, shared
from fuzz.subjects.observe import FIELDS, observation
from fuzz.subjects.recordings import opened
from tests.lib.constants import ROOT
from tests.lib.judged import unexplained

SAMPLE = ROOT / "corpus" / "truth"
RECORDED = ("linux-6.1", "linux-6.12", "linux-6.18")
CATEGORIES = {"mv", "nbr", "chn", "mul", "shr", "thp", "kch", "mrg", "mad", "mlk", "err", "rnd"}
OBJECTS = {"obj", "fil", "map"}  # shared objects, huge pages, files: for the sample only
# Releases whose kernels are computed.
POINT_RELEASES = (
    "linux-6.12.43",
    "linux-6.16.12",
    "linux-6.17.13",
    "linux-6.18.15",
    "linux-6.19.14",
    "linux-7.0.13",
    "linux-7.1.13",
    "linux-7.2.6",
    "linux-7.2.13",
    "linux-7.3",
)
# Other page tables, recorded in virtual machines: of each geometry 2,100 programs made at random.
ON_GEOMETRIES = {
    "i386-pae-2g": "linux-6.1.176",
    "x86-64-la57": "linux-7.3.4",
    "arm64-4k-48": "linux-7.3.4",
    "arm64-4k-52": "linux-7.3.4",
    "arm64-16k-47": "linux-7.3.4",
    "arm64-16k-52": "linux-7.3.4",
}
# The other half of the language, recorded in virtual machines, with the optional fields.
EXTENDED = ("linux-6.12", "linux-6.18.15", "linux-7.3")
CALLS_OF_EXTENDED = {
    "fork",
    "exit_child",
    "swapout",
    "soft_dirty_clear",
    "mseal",
    "mlock2",
    "uffd_register",
    "uffd_wp",
    "@limit map_count",
    "@limit as",
    "@limit memlock",
}
SAMPLED = 10  # every so manieth of them in a short run


def full_directory() -> Path | None:
    """Where all recordings are; None: not on this machine."""
    named = os.environ.get("PMDFUZZ_TRUTH")
    if named:
        return Path(named)
    beside = ROOT.parent / "shared" / "truth"
    return beside if beside.is_dir() else None


def recordings(kernel: str, directory: Path | None) -> Iterator[dict[str, object]]:
    """The recorded observations of one kernel: all in `directory`, or the sample."""
    path = directory / f"{kernel}.jsonl" if directory else SAMPLE / f"{kernel}.jsonl.xz"
    with opened(path) as lines:
        yield from map(json.loads, lines)


def category(recording: dict[str, object]) -> str:
    """`mv` of `mv000049`."""
    return str(recording["id"]).rstrip("0123456789")


def calls_of(recording: dict[str, object]) -> list[str]:
    ops = recording["ops"]
    assert isinstance(ops, list)
    return ops


def is_modelled(recording: dict[str, object]) -> bool:
    return {call.partition("(")[0] for call in calls_of(recording)} <= MODELLED_CALLS


@cache
def by_category(kernel: str, directory: Path | None = None) -> dict[str, list[dict[str, object]]]:
    found = recordings(kernel, directory)
    modelled = sorted(filter(is_modelled, found), key=lambda r: str(r["id"]))
    return {name: list(group) for name, group in groupby(modelled, category)}


each_category = pytest.mark.parametrize("name", sorted(CATEGORIES))
each_sampled = pytest.mark.parametrize("name", sorted(CATEGORIES | OBJECTS))
each_kernel = pytest.mark.parametrize("kernel", RECORDED)


@each_kernel
@each_sampled
def test_the_model_does_what_the_kernel_did(kernel: str, name: str) -> None:
    compare(kernel, by_category(kernel)[name])


@pytest.mark.truth
@pytest.mark.slow
@pytest.mark.skipif(
    full_directory() is None, reason="no full recordings here: PMDFUZZ_TRUTH names their directory"
)
@each_kernel
@each_category
def test_the_model_does_what_the_kernel_did_in_full(kernel: str, name: str) -> None:
    compare(kernel, by_category(kernel, full_directory())[name])


@pytest.mark.parametrize("kernel", POINT_RELEASES)
def test_the_computed_kernel_does_what_the_release_did(kernel: str) -> None:
    compare(kernel, list(recordings(kernel, None)))


@pytest.mark.truth
@pytest.mark.slow
@pytest.mark.parametrize("kernel", POINT_RELEASES)
def test_the_computed_kernel_does_what_the_release_did_in_full(kernel: str) -> None:
    directory = full_directory() or ROOT
    for path in (directory / "kernels" / f"{kernel}.jsonl.xz", directory / f"{kernel}.jsonl"):
        if path.exists():
            with opened(path) as lines:
                compare(kernel, list(filter(is_modelled, map(json.loads, lines))))
            return
    pytest.skip("no recordings of this release here")


@pytest.mark.parametrize("geometry", ON_GEOMETRIES)
def test_the_model_has_other_page_tables(geometry: str) -> None:
    compare_on(geometry, recorded_on(geometry)[::SAMPLED])


@pytest.mark.truth
@pytest.mark.slow
@pytest.mark.parametrize("geometry", ON_GEOMETRIES)
def test_the_model_has_other_page_tables_in_full(geometry: str) -> None:
    rows = recorded_on(geometry)
    assert len(rows) >= 2_000
    compare_on(geometry, rows)


@cache
def recorded_on(geometry: str) -> list[dict[str, object]]:
    with opened(SAMPLE / f"{ON_GEOMETRIES[geometry]}@{geometry}.jsonl.xz") as lines:
        return list(map(json.loads, lines))


def compare_on(geometry: str, rows: list[dict[str, object]]) -> None:
    kernel = kernel_named(ON_GEOMETRIES[geometry], geometry)
    assert list(differing(kernel, rows)) == []


def differing(kernel: Kernel, rows: list[dict[str, object]]) -> Iterator[str]:
    """Which programs differ in any field that was recorded, and in what first."""
    for row in rows:
        case = Case(tuple(map(parse_call, calls_of(row))))
        outcome = execute(case, kernel, stop=False, check=False)
        found = difference(case, row, observation(outcome, ""))
        if found is not None:
            yield f"{row['id']}: {found}"


@cache
def extended(kernel: str) -> list[dict[str, object]]:
    with opened(SAMPLE / "extended" / f"{kernel}.jsonl.xz") as lines:
        return list(map(json.loads, lines))


@pytest.mark.parametrize("kernel", EXTENDED)
def test_the_model_has_the_other_half_of_the_language(kernel: str) -> None:
    rows = extended(kernel)
    assert list(differing(kernel_named(kernel), rows)) == []
    compare(kernel, rows)  # and no rule is broken that no defect explains


@pytest.mark.truth
@pytest.mark.slow
@pytest.mark.parametrize(
    ("release", "kernel"), [("6.18.15", "linux-6.18.15"), ("7.3.4", "linux-7.3")]
)
def test_the_model_has_the_other_half_of_the_language_in_full(release: str, kernel: str) -> None:
    path = (full_directory() or ROOT) / "extended" / f"linux-{release}.jsonl.xz"
    if not path.exists():
        pytest.skip("no recordings of this release here")
    with opened(path) as lines:
        assert list(differing(kernel_named(kernel), list(map(json.loads, lines)))) == []


@pytest.mark.parametrize("kernel", EXTENDED)
def test_the_other_half_is_all_of_it(kernel: str) -> None:
    rows = extended(kernel)
    calls = {call.partition("(")[0].partition(" 0x")[0] for row in rows for call in calls_of(row)}
    assert {name.rstrip("0123456789 ") if "@" in name else name for name in calls} >= (
        CALLS_OF_EXTENDED
    )
    assert any("MAP_HUGETLB" in call for row in rows for call in calls_of(row))
    assert all(any(row.get(field) for row in rows) for field in ("wp", "sd", "locked", "events"))
    assert {kind for row in rows for kind, *_ in row["events"]} >= {"fork", "remap", "unmap"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("recorded", "kernel"), list(permutations(EXTENDED, 2)))
def test_the_other_half_tells_kernels_apart(recorded: str, kernel: str) -> None:
    assert len(list(islice(differing(kernel_named(kernel), extended(recorded)), 5))) == 5


def compare(kernel: str, group: list[dict[str, object]]) -> None:
    wrong = []
    for recording in group:
        case = Case(tuple(map(parse_call, calls_of(recording))))
        outcome = execute(case, kernel_named(kernel), stop=False)
        modelled = observation(outcome, str(recording["id"]))
        found = list(map(str, items(recording, modelled, shared(recording, modelled))))
        if (broken := unexplained(outcome)) is not None:  # known ones the kernel does not warn of
            found.append(f"call {broken.call}: {broken.violation}")
        wrong += [f"{recording['id']} {line}" for line in found]
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(wrong[:20])


def test_the_recordings_are_what_the_comparison_needs() -> None:
    truth = {kernel: by_category(kernel) for kernel in RECORDED}
    programs = {
        kernel: {r["id"]: r["ops"] for group in truth[kernel].values() for r in group}
        for kernel in truth
    }
    assert programs["linux-6.1"] == programs["linux-6.12"] == programs["linux-6.18"]
    assert len(programs["linux-6.1"]) > 300
    assert set(truth["linux-6.1"]) == CATEGORIES | OBJECTS
    assert all(set(FIELDS) <= set(r) for kernel in truth for g in truth[kernel].values() for r in g)


def test_the_recordings_hold_every_call_and_flag() -> None:
    """Those of the newest kernel do, of what a machine can be asked for."""
    calls = [parse_call(text) for r in recordings("linux-7.3", None) for text in calls_of(r)]
    model_only = {"@fail", "execve_stack", "migrate_begin", "migrate_end", "relocate", "touch_on"}
    model_only |= {"collapse_file", *(name for name in CALLS if CALLS[name].base is not None)}
    assert {call.name for call in calls} == MODELLED_CALLS - model_only
    missing = {
        name
        for declared in {call.name: CALLS[call.name] for call in calls}.values()
        for at, param in enumerate(declared.params)
        if isinstance(param.kind, Flags)
        for name, flag in param.kind.names.items()
        if not any(c.name == declared.name and c.args[at] & flag == flag for c in calls)
    }
    assert missing == {"MAP_32BIT"}


@pytest.mark.parametrize(("recorded", "kernel"), list(permutations(RECORDED, 2)))
def test_the_recordings_tell_kernels_apart(recorded: str, kernel: str) -> None:
    """The comparison can fail: a model of another kernel does not pass."""

    def differs(recording: dict[str, object]) -> bool:
        case = Case(tuple(map(parse_call, calls_of(recording))))
        outcome = execute(case, kernel_named(kernel), stop=False, check=False)
        return any(items(recording, observation(outcome, "")))

    differing = filter(differs, chain.from_iterable(by_category(recorded).values()))
    assert sum(1 for _ in islice(differing, 10)) == 10
