"""Two model kernels side by side: where they part, and that nothing is missed."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from engine.base.kernel import Kernel, kernel_named, releases
from engine.stack import relocate_vma_down
from engine.state.space import AddressSpace
from fuzz.calls.registry import most_filled
from fuzz.case import Case
from fuzz.execute import Outcome, execute
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import load, parse
from fuzz.inputs.inputs import Inputs
from fuzz.inputs.mutator import Mutator
from fuzz.matrix import Matrix
from fuzz.showing import kernel_for
from fuzz.subjects.likeness import as_case, told
from fuzz.subjects.pair import Pair, Parting, otherwise
from fuzz.subjects.state import State, state_of
from tests.lib.constants import ROOT

BASE = "linux-6.18"
MAP = "mmap(0x0, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"


def pair(case: Case, change: str) -> Pair:
    return Pair(kernel_for(case, BASE + change), kernel_for(case, BASE))


@pytest.mark.parametrize(
    ("name", "change", "kind", "call"),
    [
        ("regressions/place-for-huge-pages", "-thp_aligned_search", "result", 3),
        ("regressions/cold-part-of-a-shared-folio", "-large_folio_reuse", "pages", 5),
        ("regressions/stack-stays-small", "-stacks_stay_small", "vmas", 0),
        ("seeds/dontunmap", "-realign", "tables", 2),
        ("museum/b-07-swap", "-uffd_wp_cleared", "uffd-wp-stray", 5),
        ("museum/b-32-pgoff-kept", "+dontunmap_resets_pgoff", "unfaulted-pgoff", 3),
    ],
)
def test_what_differs_and_at_which_call(name: str, change: str, kind: str, call: int) -> None:
    case = load(ROOT / "corpus" / f"{name}.case")
    bucket = Bucket(f"differs-{kind}{change}", case.calls[call].name)
    assert pair(case, change).parting(case) == Parting(kind, call, bucket)
    assert Bucket.named(bucket.name) == bucket


def test_a_program_that_reads_no_such_switch_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    case, ran = parse(MAP), []

    def counted(case: Case, kernel: Kernel, **options: Any) -> Outcome:
        ran.append(kernel)
        return execute(case, kernel, **options)

    monkeypatch.setattr("fuzz.bounded.execute", counted)
    assert pair(case, "-realign").parting(case) is None
    assert len(ran) == 1


def test_told_with_both_drawings() -> None:
    case = load(ROOT / "corpus/museum/b-32-pgoff-kept.case")
    two = pair(case, "+dontunmap_resets_pgoff")
    found = two.parting(case)
    assert found is not None
    text = told(two, case, found)
    call = "mremap(0x1000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = 0"
    assert text.count(call) == 2
    start = text.index(call)
    assert text[:start].count("\n~") == 0, "what is alike is not drawn"
    assert "~ linux-6.18 on x86-64: 2 VMAs" in text[start:]
    assert "~ linux-6.18+dontunmap_resets_pgoff on x86-64: 2 VMAs" in text[start:]
    assert text.splitlines()[-3:] == [
        "differs        linux-6.18       linux-6.18+dontunmap_resets_pgoff",
        "VMA at 0x1000  page offset 0x0  page offset 0x1",
        "call 4 breaks unfaulted-pgoff on linux-6.18 only: "
        "an unfaulted anonymous VMA has the page offset of its address",
    ]


def test_a_change_that_fails_differs_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(space: AddressSpace, *args: Any, **more: Any) -> Any:
        assert not space.kernel.wrap_safe_overlap, "planted"
        return relocate_vma_down(space, *args, **more)

    monkeypatch.setattr("engine.stack.relocate_vma_down", changed)
    case = parse(f"{MAP}execve_stack(0x300000, 0x600000, 0x200000)\nmunmap(0x1000, 0x1000)\n")
    two = pair(case, "+wrap_safe_overlap")
    found = two.parting(case)
    assert found is not None
    assert (found.kind, found.call) == ("exception", 1)
    text = told(two, case, found)
    assert "execve_stack(0x300000, 0x600000, 0x200000) = 0\n" in text
    assert "execve_stack(0x300000, 0x600000, 0x200000)\n" in text
    assert "call 2 breaks exception on linux-6.18+wrap_safe_overlap only" in text
    assert as_case(two, case).like == BASE


PROGRAMS = 150
FAR = "linux-5.10"  # most switches are set otherwise


def programs(geometry: str) -> Iterator[Case]:
    """What a fuzzing run executes."""
    inputs = Inputs([kernel_named(BASE, geometry).geometry])
    mutator, kept = Mutator(inputs), [b""]
    for seed in range(PROGRAMS):
        data = mutator.mutate(random.Random(seed).choice(kept), 4096, seed)
        case = inputs.decode(data).case
        if most_filled(case, inputs.geometries[0].page_bytes) <= 1024:
            kept.append(data)
            yield case


def everything(case: Case, name: str, geometry: str) -> tuple[object, ...]:
    """The state after each call, the results, and what was broken."""
    states: list[State] = []
    kernel = kernel_named(name, geometry)
    outcome = execute(
        case, kernel, stop=False, on_step=lambda _, space: states.append(state_of(space))
    )
    broken = {(call, violation.rule) for call, violation in outcome.violations}
    return states[1:], outcome.results, broken


@pytest.mark.slow
def test_many_kernels_part_from_one_as_each_does_alone() -> None:
    """As a run does it: what one shows all show that have alike what it has read."""
    kernels = [kernel for kernel in releases() if otherwise(kernel, kernel_named(FAR))]
    pairs, matrix = [Pair(kernel, kernel_named(FAR)) for kernel in kernels], Matrix(kernels)
    for case in islice(programs("x86-64"), 20):
        shown: dict[str, tuple[str, int] | None] = {}
        for noted in matrix.runs():
            two = pairs[kernels.index(noted.plain)]
            found = two.beside(two.first(case, noted))
            for number in matrix.numbers(matrix.having(noted.settings)):
                shown[kernels[number].name] = found and (found.kind, found.call)
        alone = {two.kernel.name: two.parting(case) for two in pairs}
        assert shown == {name: one and (one.kind, one.call) for name, one in alone.items()}


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["tiny", "x86-64"])
def test_nothing_that_differs_is_missed(geometry: str) -> None:
    differ = 0
    for other in (FAR, "linux-6.18-realign"):
        two = Pair(kernel_named(BASE, geometry), kernel_named(other, geometry))
        for case in programs(geometry):
            found = two.parting(case)
            ours, theirs = (everything(case, name, geometry) for name in (BASE, other))
            assert (found is None) == (ours == theirs)
            differ += found is not None
    assert differ > PROGRAMS / 8
