"""Real kernels in virtual machines: they do what their models do, and survive accidents.

A machine boots for each image in the folder that PMDFUZZ_IMAGES names; `.ci/image` fetches one and
says where it is.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from engine.base.geometry import geometry_named
from fuzz.case import Case
from fuzz.forms.text import parse_call
from fuzz.subjects.against import Against
from fuzz.subjects.beside import beside_model
from fuzz.subjects.recordings import programs
from fuzz.subjects.subject import SubjectError
from fuzz.subjects.vm import Vm
from fuzz.vm.image import image_at
from tests.lib.constants import ROOT
from tests.lib.images import FOLDER, real_images

IMAGES = real_images()
NO_IMAGES = pytest.mark.skip(f"no kernel to boot: {FOLDER}=$(.ci/image)")
PROGRAMS = ROOT / "corpus" / "truth" / "linux-6.18.jsonl.xz"
SOME = 40  # of these programs
OTHERS = sorted((ROOT / "corpus" / "truth").glob("*@*.jsonl.xz"))  # on other page tables
PRIVATE = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=IMAGES or [pytest.param(None, marks=NO_IMAGES)], ids=str)
def pair(request: pytest.FixtureRequest) -> Iterator[Against]:
    """A machine beside the model of its kernel."""
    with booted_beside_model(f"vm:{request.param}") as booted:
        yield booted


def booted_beside_model(name: str) -> Against:
    """The machine of that name, if this system has what it takes."""
    try:
        return beside_model(on=name)
    except SubjectError as error:
        if "is not installed" in str(error) or "no C compiler" in str(error):
            pytest.skip(str(error))
        raise


def vm_of(pair: Against) -> Vm:
    assert isinstance(pair.subject, Vm)
    return pair.subject


def program(*calls: str) -> Case:
    return Case(tuple(map(parse_call, calls)))


@pytest.fixture
def fine(pair: Against) -> Case:
    """A program that every kernel runs."""
    page = pair.subject.geometry.page_bytes
    start = 0x40000000
    return program(f"mmap({start:#x}, {page:#x}, {PRIVATE})", f"touch({start:#x}, {page:#x})")


def test_it_does_what_its_model_does(pair: Against) -> None:
    if pair.subject.geometry.name != "x86-64":
        pytest.skip("these programs are for x86-64")
    able = pair.subject.able
    some = (case for _, case in programs(PROGRAMS) if not able.refusal(case))
    cases = list(islice(some, 0, 15 * SOME, 15))
    assert len(cases) == SOME
    observed = pair.subject.run(cases)
    differing = [pair.judge(case, seen) for case, seen in zip(cases, observed, strict=True)]
    assert [one.told() for one in differing if one is not None] == []


def test_a_panic_is_told_and_another_machine_goes_on(pair: Against, fine: Case) -> None:
    machine = vm_of(pair)
    before = machine.worker
    with pytest.raises(SubjectError, match="Kernel panic - not syncing: sysrq triggered crash"):
        machine.ask("!write /proc/sysrq-trigger c")
    seen = machine.observe(fine)
    assert seen["kernel"]["kind"] == "panic"
    assert any("sysrq_handle_crash" in line for line in seen["kernel"]["lines"])
    assert seen["ret"][1] == 0
    assert machine.worker != before


def test_an_agent_that_is_killed_is_told_and_another_goes_on(pair: Against, fine: Case) -> None:
    machine = vm_of(pair)
    machine.observe(fine)
    before = machine.worker
    machine.ask("!signal 9")
    assert machine.observe(fine)["crash"] == "killed by SIGKILL"
    assert machine.observe(fine)["ret"][1] == 0
    assert machine.worker == before


def test_an_agent_that_stops_answering_is_told(
    pair: Against, fine: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = vm_of(pair)
    machine.observe(fine)
    before = machine.worker
    machine.ask("!signal 19")
    monkeypatch.setattr(machine, "_patience", 2.0)
    (seen,) = machine.run([fine])
    assert seen["kernel"]["kind"] == "hang"
    assert machine.worker != before


def test_a_warning_is_told_each_time_and_minimized(pair: Against) -> None:
    """What kernels for i386 PAE warn of (corpus/regressions/pae-pud-mover.case)."""
    machine = vm_of(pair)
    if not machine.geometry.name.startswith("i386-pae"):
        pytest.skip("no other kernel that is to be had warns of something harmless")
    assert "error" not in machine.ask("!write /proc/sys/vm/mmap_min_addr 0")  # for room enough
    gib = 0x40000000
    case = program(
        f"mmap({gib:#x}, {gib:#x}, {PRIVATE})",
        f"touch({gib:#x}, 0x1000)",
        f"mremap({gib:#x}, {gib:#x}, {gib:#x}, MREMAP_MAYMOVE|MREMAP_FIXED, 0)",
    )
    machine.to_the_end = True  # the tables that are in the way are those of a new process
    for _ in range(2):
        found = pair.judge(case, machine.observe(case))
        assert found is not None
        assert found.bucket.name == "kernel-warning--mremap", found.told()
    small = pair.minimized(found, 300)
    assert small is not None
    assert [call.name for call in small.case.calls] == ["mmap", "mremap"]


def other_machines() -> Iterator[tuple[Path, str, Path]]:
    """Each image on each geometry that it can have and that was recorded, and these recordings."""
    for path in IMAGES:
        image = image_at(path)
        for recorded in OTHERS:
            geometry = geometry_named(recorded.name.partition("@")[2].removesuffix(".jsonl.xz"))
            if geometry.name.startswith(image.arch) and geometry.page_bytes == image.page_bytes:
                yield path, geometry.name, recorded


@pytest.mark.parametrize(
    ("path", "geometry", "recorded"),
    list(other_machines()) or [pytest.param(None, "", None, marks=NO_IMAGES)],
    ids=str,
)
def test_other_page_tables(path: Path, geometry: str, recorded: Path) -> None:
    """A CPU with them is asked of qemu, and found in the machine."""
    with booted_beside_model(f"vm:{path}@{geometry}") as pair:
        assert pair.subject.geometry.name == geometry
        some = (case for _, case in islice(programs(recorded), SOME))
        able = [case for case in some if not pair.subject.refusal(case)]
        assert able
        differing = filter(None, map(pair.divergence, able))
        assert [found.told() for found in differing] == []
