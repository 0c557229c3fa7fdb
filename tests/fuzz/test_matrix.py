"""Running a program for many kernels at a time tells of each of them what running it alone does."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import Kernel, kernel_named, releases
from fuzz import bounded
from fuzz.calls.registry import takes_long
from fuzz.campaign.feedback import Cells, StateObserver
from fuzz.case import Case
from fuzz.defects.attribute import Runs, findings, findings_on
from fuzz.defects.known import repaired
from fuzz.execute import execute
from fuzz.forms import text
from fuzz.inputs.inputs import PLANS, Inputs
from fuzz.inputs.mutator import Mutator
from fuzz.matrix import Matrix, in_short
from tests.lib.constants import ROOT

OWN = ("linux-6.18+wrap_safe_overlap-realign", "linux-6.1+swaps_empty_pmd_table")
CASES = sorted((ROOT / "corpus").rglob("*.case"))
Told = tuple[list[str], frozenset[Hashable]]  # findings and cells of a program on a kernel


def runs_of(case: Case) -> Runs:
    return Runs(case, partial(bounded.run, stop=False))


def alone(case: Case, kernels: Sequence[Kernel]) -> Iterator[Told]:
    """What a program shows on each kernel, all of it run again for each."""
    for kernel in kernels:
        cells = Cells(None)
        observer = StateObserver(cells, kernel.geometry)
        observer.finish(
            execute(case, kernel, stop=False, listeners=[observer], on_step=observer.step)
        )
        yield list(map(repr, findings(runs_of(case), kernel))), frozenset(cells._met)


def together(case: Case, kernels: Sequence[Kernel]) -> list[Told]:
    """The same, as a run finds it out."""
    matrix, cells, runs = Matrix(kernels), Cells(None), runs_of(case)
    observer = StateObserver(cells, kernels[0].geometry)
    shown: dict[int, list[str]] = {}
    for noted in matrix.runs():
        outcome = execute(case, noted, stop=False, listeners=[observer], on_step=observer.step)
        same = matrix.having(noted.settings)
        runs.add(noted, outcome)
        observer.finish(outcome, same)
        for some, found in findings_on(runs, matrix, same):
            for number in matrix.numbers(some):
                assert number not in shown, "a kernel belongs to one group"
                shown[number] = list(map(repr, found))
    met = defaultdict(set)
    for key, where in cells._met.items():
        for number in matrix.numbers(where):
            met[number].add(key)
    assert cells.seen == sum(map(len, met.values()))
    return [(shown.get(number, []), frozenset(met[number])) for number in range(len(kernels))]


@st.composite
def programs(draw: st.DrawFn, geometry: str) -> Case:
    """A program as a run makes them, or one of the corpus, perhaps with a change."""
    rng = Random(draw(st.integers(0, 1 << 32)))
    inputs = Inputs([GEOMETRIES[geometry]])
    if draw(st.booleans()):
        data = inputs.planned(rng.choice(PLANS), 0, rng)
    else:
        data = inputs.encode(text.load(draw(st.sampled_from(CASES))).program(), 0)
    if draw(st.booleans()):
        data = Mutator(inputs).mutate(data, 4096, rng.getrandbits(32))
    return inputs.decode(data).case


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["tiny", "x86-64", "i386-pae"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_kernels_together_show_what_each_shows_alone(geometry: str, data: st.DataObject) -> None:
    case = data.draw(programs(geometry))
    if takes_long(case, GEOMETRIES[geometry].page_bytes):
        return
    plain = [*releases(), *map(kernel_named, OWN)]
    some = data.draw(st.lists(st.sampled_from(plain), min_size=1, max_size=8, unique=True))
    if data.draw(st.booleans()):
        some = [repaired(kernel) for kernel in some]
    kernels = [kernel.on(GEOMETRIES[geometry]) for kernel in some]
    for kernel, one, other in zip(
        kernels, together(case, kernels), alone(case, kernels), strict=True
    ):
        assert one == other, kernel.name


def test_a_kernel_is_run_if_a_switch_that_was_read_is_set_otherwise() -> None:
    names = ["linux-5.0", "linux-6.1", "linux-6.12", "linux-6.18", "linux-7.3"]
    matrix = Matrix([kernel_named(name) for name in names])
    ran = []
    for noted in matrix.runs():
        ran.append(noted.plain.name)
        assert isinstance(noted.mseal, bool)  # since 6.10
        if not noted.mseal:
            assert isinstance(noted.dontunmap, bool)  # since 5.7
    assert ran == ["linux-5.0", "linux-6.1", "linux-6.12"]
    late = matrix.having({"mseal": True})
    assert [kernel.name for kernel in matrix.members(late)] == names[2:]


def test_what_reads_nothing_is_run_once() -> None:
    matrix = Matrix(releases())
    assert [noted.plain.name for noted in matrix.runs()] == ["linux-5.0"]
    assert matrix.having({}) == matrix.all
    assert len(matrix.members(matrix.all)) == len(releases())


def test_what_asks_for_the_name_runs_on_each() -> None:
    matrix = Matrix(releases())
    assert [noted.name for noted in matrix.runs()] == [kernel.name for kernel in releases()]


def test_a_kernel_may_be_there_twice() -> None:
    kernel = kernel_named("linux-6.18")
    assert [noted.name for noted in Matrix([kernel, kernel]).runs()] == [kernel.name]


def test_all_releases_cost_a_few_runs() -> None:
    """A program that uses none of what releases differ in is run once, and scenes a few times."""
    matrix = Matrix(releases())
    plain = text.parse("mmap(0x400000, 0x200000, 3, 50)\ntouch(0x400000, 0x200000)\n")
    inputs, rng = Inputs([GEOMETRIES["x86-64"]]), Random(1)
    scenes = [inputs.decode(inputs.planned(PLANS[0], 0, rng)).case for _ in range(20)]

    def runs(case: Case) -> int:
        return sum(1 for noted in matrix.runs() if execute(case, noted, stop=False))

    assert runs(plain) == 1
    assert sum(map(runs, scenes)) < 20 * len(matrix.kernels) / 5


def test_releases_side_by_side_are_told_in_short() -> None:
    names = [kernel.name for kernel in releases()]
    assert in_short(names) == ["linux-5.0 to 7.3"]
    assert in_short(["linux-6.1", "linux-7.3"]) == ["linux-6.1", "linux-7.3"]
    assert in_short(["linux-7.2", "linux-7.3", "linux-6.18"]) == [
        "linux-6.18",
        "linux-7.2",
        "linux-7.3",
    ]
    assert in_short([*OWN, "linux-6.19", "linux-7.0", "linux-7.1"]) == [
        "linux-6.19 to 7.1",
        *OWN,
    ]
