"""Recognising a kernel that does the same never lies: it really does, to the last bit."""

import random
from collections.abc import Iterator

import pytest

from engine.base.kernel import KERNELS, SWITCHES, Kernel, kernel_named
from fuzz.calls.registry import most_filled
from fuzz.campaign.feedback import Cells, StateObserver
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.inputs.inputs import Inputs
from fuzz.inputs.mutator import Mutator
from fuzz.noted import Noted

PROGRAMS = 250


def programs(geometry: str) -> Iterator[Case]:
    """What a fuzzing run executes: programs made to a plan, and changes of earlier ones."""
    inputs = Inputs([kernel_named("linux-6.18", geometry).geometry])
    mutator, kept = Mutator(inputs), [b""]
    for seed in range(PROGRAMS):
        earlier = random.Random(seed).choice(kept)
        data = mutator.mutate(earlier, 4096, seed)
        case = inputs.decode(data).case
        if most_filled(case, inputs.geometries[0].page_bytes) <= 1024:
            kept.append(data)
            yield case


def run(case: Case, kernel: Kernel) -> tuple[object, ...]:
    """Run a program, and tell all that it did."""
    cells = Cells(None)
    observer = StateObserver(cells, kernel.geometry)
    outcome = execute(case, kernel, stop=False, listeners=[observer], on_step=observer.step)
    observer.finish(outcome)
    space = outcome.space
    vmas = [
        (v.range, v.flags, v.pgoff, v.tracked, repr(v.backing), repr(v.anon_vma), repr(v.uffd))
        for v in space.vmas
    ]
    counters = (
        space.tree.rss_anon,
        space.tree.rss_shmem,
        space.tree.rss_swap,
        space.total_vm,
        space.hiwater_vm,
    )
    return (
        outcome.results,
        outcome.page_tables,
        vmas,
        space.tree.frozen(),
        space.contents(),
        (*counters, space.locked_vm, space.committed, space.pool.free, space.pool.reserved),
        space.failures.left(),
        [(index, repr(violation)) for index, violation in outcome.violations],
        list(cells._met),
    )


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["tiny", "x86-64", "i386-pae"])
def test_a_kernel_that_is_recognised_does_the_same(geometry: str) -> None:
    kernels = [kernel_named(name, geometry) for name in KERNELS]
    tried = recognised = 0
    for case in programs(geometry):
        noted = {kernel.name: Noted(kernel) for kernel in kernels}
        did = {name: run(case, kernel) for name, kernel in noted.items()}
        for one in kernels:
            for other in kernels:
                if noted[one.name].same_on(other):
                    assert did[other.name] == did[one.name], f"{one.name}, {other.name}"
        tried += 1
        recognised += noted["linux-6.1"].same_on(kernel_named("linux-6.18", geometry))
    assert recognised > tried / 3, "else it is not worth its cost"


def test_what_helpers_read_is_noted() -> None:
    kernel = kernel_named("linux-6.18")
    noted = Noted(kernel)
    assert noted.read == ()
    assert noted.moves_puds()
    assert noted.move_pud  # a second time
    assert noted.read == ("move_pud", "geometry")
    assert noted.same_on(kernel_named("linux-6.1"))
    assert not noted.same_on(kernel_named("linux-5.0"))
    assert not noted.same_on(kernel_named("linux-6.18", "tiny"))


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_is_noted(switch: str) -> None:
    kernel = kernel_named("linux-6.18")
    noted = Noted(kernel)
    assert getattr(noted, switch) is getattr(kernel, switch)
    assert noted.read == (switch,)


def test_a_kernel_that_is_read_by_name_is_like_no_other() -> None:
    noted = Noted(kernel_named("linux-6.18"))
    assert noted.name == "linux-6.18"
    assert not any(noted.same_on(KERNELS[name]) for name in KERNELS if name != "linux-6.18")
