"""Programs at an edge do what each of them is made for: some just suffice, and some do not."""

from collections.abc import Callable
from random import Random

import pytest

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.execute import execute
from fuzz.inputs.edges import _Edge

KERNEL, OLD = (kernel_named(name, "tiny") for name in ("linux-6.18", "linux-6.1"))
SEEDS = 80


def made(kind: str, seed: int) -> Case:
    """A program of a kind."""
    edge = _Edge(Random(seed), KERNEL.geometry)
    getattr(edge, kind)()
    return Case(tuple(edge.calls))


def outcomes(kind: str, *names: str) -> set[str]:
    """What calls of these names have returned; `ok` where they succeed."""
    seen: set[str] = set()
    for seed in range(SEEDS):
        case = made(kind, seed)
        results = execute(case, OLD if seed % 2 else KERNEL, stop=False, check=False).results
        for one, result in zip(case.calls, results, strict=False):
            if one.name in names:
                seen.add(str(result) if str(result).startswith(("-", "SKIP")) else "ok")
    return seen


@pytest.mark.parametrize(
    ("kind", "names", "results"),
    [
        pytest.param("limits", ["mremap"], {"ok", "-ENOMEM", "-EAGAIN"}, id="limits"),
        pytest.param("twice", ["mremap"], {"ok"}, id="locked twice"),
        pytest.param("counts", ["mremap", "munmap"], {"ok", "-ENOMEM"}, id="counts"),
        pytest.param("failures", ["mremap"], {"ok", "-ENOMEM"}, id="failures"),
        pytest.param("places", ["mremap", "mmap"], {"ok", "-ENOMEM"}, id="places"),
        pytest.param("removals", ["munmap"], {"ok", "-EINVAL", "-EPERM"}, id="removals"),
        pytest.param("seams", ["mremap"], {"ok"}, id="seams"),
        pytest.param("beside", ["mremap"], {"ok"}, id="beside"),
        pytest.param(
            "side_by_side",
            ["mremap"],
            {"ok", "-EFAULT", "-EINVAL", "-ENOMEM"},
            id="side by side",
        ),
        pytest.param("put_back", ["mremap"], {"ok", "-ENOMEM"}, id="put back"),
        pytest.param("huge", ["mremap"], {"ok", "-EINVAL"}, id="huge"),
        pytest.param("folio", ["mremap"], {"ok"}, id="folio"),
        pytest.param("watched", ["mremap"], {"ok"}, id="watched"),
        pytest.param("outside", ["mremap"], {"-EINVAL", "-EFAULT"}, id="outside"),
        pytest.param("stack", ["execve_stack", "relocate"], {"ok", "-EINVAL"}, id="stack"),
    ],
)
def test_what_is_made_for_an_edge_comes_down_on_each_side(
    kind: str, names: list[str], results: set[str]
) -> None:
    assert outcomes(kind, *names) >= results


def test_every_kind_is_made() -> None:
    """`make` chooses among all methods that take nothing and make a program."""
    kinds: set[str] = set()

    class Noting(Random):
        def choice(self, seq: object) -> object:  # type: ignore[override]
            chosen = super().choice(seq)  # type: ignore[call-overload]
            if callable(chosen):
                kinds.add(chosen.__name__)
            return chosen

    for seed in range(300):
        assert _Edge(Noting(seed), KERNEL.geometry).make().calls
    needing_more = {"make", "add", "map", "remap", "some", "move", "halves"}
    public = {name for name in vars(_Edge) if not name.startswith("_")}
    assert kinds == public - needing_more


@pytest.mark.parametrize("kind", ["limits", "twice", "counts"])
def test_a_limit_comes_before_what_it_limits(kind: str) -> None:
    for seed in range(SEEDS):
        names = [one.name for one in made(kind, seed).calls]
        assert names[0] == "@limit"
        assert names.count("@limit") == 1


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda e: e.map(4, 2, 2), call("mmap", 4 << 12, 2 << 12, 3, 0x32)),
        (lambda e: e.remap(4, 2, 3, 1), call("mremap", 4 << 12, 2 << 12, 3 << 12, 1, 0)),
        (
            lambda e: e.remap(-1, 1, 1, 3, -2),
            call("mremap", (1 << 64) - 4096, 4096, 4096, 3, (1 << 64) - 8192),
        ),
    ],
)
def test_pages_become_bytes(use: Callable[[_Edge], object], expected: object) -> None:
    edge = _Edge(Random(1), GEOMETRIES["x86-64"])
    use(edge)
    assert edge.calls[0] == expected


def test_plots_do_not_touch() -> None:
    edge = _Edge(Random(1), KERNEL.geometry)
    gaps = {high - low for low, high in zip(edge.plots, edge.plots[1:], strict=False)}
    assert gaps == {4 * edge.slot}
    assert edge.plots[0] >= edge.low + edge.slot
    assert edge.plots[-1] + 4 * edge.slot <= edge.end
