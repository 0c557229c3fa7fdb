"""State feedback: what the cells tell apart, and that libFuzzer heeds them."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Hashable

import pytest

from engine.base.address import Range
from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.calls.registry import call
from fuzz.campaign.feedback import (
    FED,
    KINDS,
    Cells,
    FeedbackUnavailable,
    StateObserver,
    bucket,
    flag_operands,
    relation,
    result_class,
)
from fuzz.case import Faults
from fuzz.execute import execute
from fuzz.forms.text import parse
from fuzz.matrix import KernelSet
from tests.lib.constants import ROOT

SLOT = GEOMETRIES["x86-64"].slot_bytes

needs_atheris = [
    pytest.mark.atheris,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="atheris is not installed"
    ),
]


class FakeAtheris:
    """Counters that remember what was counted."""

    def __init__(self, step: int = 1) -> None:
        self.next = 100
        self.step = step
        self.counted: list[int] = []
        self._trace_branch: Callable[[int], None] = lambda _: None

    def _reserve_counter(self) -> int:
        self.next += self.step
        return self.next

    def fuzz(self) -> None:
        """What `Fuzz()` does to the module."""
        self._trace_branch = self.counted.append


def test_a_cell_is_counted_once_an_input() -> None:
    atheris = FakeAtheris()
    cells = Cells(atheris, size=8)
    atheris.fuzz()
    for key in ("a", "b", "a", "a"):
        cells.hit(key)
    cells.flush()
    assert atheris.counted == [101, 102]
    cells.hit("b")
    cells.flush()
    assert atheris.counted == [101, 102, 102]
    assert cells.seen == 2


def test_what_is_not_fed_is_counted_only() -> None:
    atheris = FakeAtheris()
    cells = Cells(atheris, size=8)
    atheris.fuzz()
    cells.hit("a", feed=False)
    cells.hit("b")
    cells.flush()
    assert atheris.counted == [101]
    assert cells.seen == 2
    alone = Cells(None)
    alone.check_live()
    alone.hit("a")
    alone.flush()
    assert alone.seen == 1


@pytest.mark.parametrize(("fed", "counters"), [(FED, 0), (("vma",), 1), (("vma", "pair"), 4)])
def test_libfuzzer_gets_the_kinds_that_are_fed(fed: tuple[str, ...], counters: int) -> None:
    atheris = FakeAtheris()
    cells = Cells(atheris)
    atheris.fuzz()
    kernel = kernel_named("linux-6.18")
    observer = StateObserver(cells, kernel.geometry, fed)
    move = MOVE.format("0x40000000", "0x400000", "0x400000", "0x80000000")
    case = parse(MAPPED + move)
    observer.finish(execute(case, kernel, stop=False, listeners=[observer], on_step=observer.step))
    cells.flush()
    assert len(atheris.counted) == counters
    assert {key[0] for key in cells._met} <= set(KINDS)  # type: ignore[index]


def test_a_full_block_shares_its_counters_and_keeps_out_of_the_last_one() -> None:
    atheris = FakeAtheris()
    cells = Cells(atheris, size=4)
    atheris.fuzz()
    for key in range(6):
        cells.hit(key)
    cells.flush()
    assert atheris.counted == [101, 102, 103, 104]
    assert atheris.next == 105  # reserved and never used
    assert cells.seen == 6


def test_a_cell_counts_for_each_kernel() -> None:
    atheris = FakeAtheris()
    cells = Cells(atheris, size=8)
    atheris.fuzz()
    for key, kernels in (("a", 0b101), ("b", 0b1), ("a", 0b110)):
        cells.hit(key, kernels)
    cells.hit("a", 0b1000, feed=False)
    cells.flush()
    assert atheris.counted == [101, 102, 103, 104]  # a on three of the kernels, and b on one
    assert cells.seen == 5


def test_missing_names_are_told() -> None:
    with pytest.raises(FeedbackUnavailable, match="_trace_branch"):
        Cells(object())  # type: ignore[arg-type]


def test_counters_with_gaps_are_told() -> None:
    with pytest.raises(FeedbackUnavailable, match="consecutive"):
        Cells(FakeAtheris(step=2), size=4)


def test_an_inert_counter_function_is_told() -> None:
    atheris = FakeAtheris()
    cells = Cells(atheris, size=4)
    with pytest.raises(FeedbackUnavailable, match="did not activate"):
        cells.check_live()
    atheris.fuzz()
    cells.check_live()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((0, 4), (2, 6), "up overlap"),
        ((2, 6), (0, 4), "down overlap"),
        ((0, 4), (4, 8), "up touch"),
        ((4, 8), (0, 4), "down touch"),
        ((0, 4), (5, 9), "up slot"),
        ((5, 9), (0, 4), "down slot"),
        ((0, 4), (SLOT // 4096, SLOT // 4096 + 4), "up apart"),
        ((SLOT // 4096, SLOT // 4096 + 4), (0, 4), "down apart"),
    ],
)
def test_relation(old: tuple[int, int], new: tuple[int, int], expected: str) -> None:
    pages = [Range(start << 12, end << 12) for start, end in (old, new)]
    assert relation(*pages, SLOT) == expected


def test_buckets_grow_with_the_count() -> None:
    buckets = [bucket(n) for n in range(1, 100_000)]
    assert buckets == sorted(buckets)
    assert [bucket(n) for n in (0, 1, 2, 3, 4, 7, 8)] == [0, 1, 2, 3, 4, 4, 5]
    assert bucket(1 << 20) < 25


def test_results_are_told_apart_by_kind() -> None:
    results = [0x200000, "-EINVAL", "SKIP", Faults(segv=((1, 2),)), Faults(bus=((1, 2),))]
    assert [result_class(result) for result in results] == ["ok", "-EINVAL", "SKIP", "segv", "bus"]
    assert result_class(Faults(((1, 2),), ((3, 1),))) == "segvbus"


def test_unknown_flag_bits_make_no_cells() -> None:
    plain = flag_operands(call("mremap", 0, 4096, 4096, 3, 0))
    assert plain == [("flags", 3)]
    assert flag_operands(call("mremap", 0, 4096, 4096, 3 | 1 << 40, 0)) == plain
    assert flag_operands(call("madvise", 0, 4096, 102)) == [("advice", 102)]
    assert flag_operands(call("touch", 0, 4096)) == []


class Recorder(Cells):
    """Cells that remember their keys."""

    def __init__(self) -> None:
        super().__init__(FakeAtheris(), size=1)
        self.keys: list[Hashable] = []

    def hit(self, key: Hashable, kernels: KernelSet = 1, *, feed: bool = True) -> None:
        self.keys.append(key)


def cells_of(program: str, kernel: str = "linux-6.18") -> dict[str, set[Hashable]]:
    """The cells of a program, by kind."""
    recorder = Recorder()
    model = kernel_named(kernel)
    observer = StateObserver(recorder, model.geometry)
    case = parse(program)
    for _ in range(2):  # the second run must show what the first one showed
        before, recorder.keys = recorder.keys, []
        observer.finish(
            execute(case, model, stop=False, listeners=[observer], on_step=observer.step)
        )
    assert before == recorder.keys
    kinds: dict[str, set[Hashable]] = {}
    for kind, *key in recorder.keys:  # type: ignore[misc]
        kinds.setdefault(kind, set()).add(tuple(key))
    return kinds


MAPPED = """\
mmap(0x40000000, 0x400000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x40000000, 0x400000)
"""
MOVE = "mremap({}, {}, {}, MREMAP_MAYMOVE|MREMAP_FIXED, {})\n"


def moved(old: str, length: str, new: str, *, before: str = "") -> dict[str, set[Hashable]]:
    """The cells of a mapping of two slots, of which a part is moved."""
    return cells_of(MAPPED + before + MOVE.format(old, length, length, new))


def moved_by(cells: dict[str, set[Hashable]]) -> set[tuple[str, str, str]]:
    """Mover, extent class and alignment of each extent that moved."""
    return {(*key[0], key[1]) for key in cells["place"] if key[0][0].endswith("-moved")}  # type: ignore[index]


@pytest.mark.parametrize(
    ("old", "length", "new", "expected"),
    [
        ("0x40000000", "0x400000", "0x80000000", ("pmd-moved", "slot", "both")),
        ("0x40000000", "0x1000", "0x80000000", ("ptes-moved", "page", "both")),
        ("0x40001000", "0x2000", "0x80001000", ("ptes-moved", "part", "same")),
        ("0x40000000", "0x2000", "0x80001000", ("ptes-moved", "part", "apart")),
    ],
)
def test_movers_extents_and_alignments_are_told_apart(
    old: str, length: str, new: str, expected: tuple[str, str, str]
) -> None:
    assert moved_by(moved(old, length, new)) == {expected}


def test_heads_and_relations_are_told_apart() -> None:
    below = "mmap(0x80000000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    entries = [
        moved("0x40001000", "0x1000", "0x80001000")["entry"],
        moved("0x40000000", "0x1000", "0x80001000")["entry"],
        moved("0x40001000", "0x1000", "0x80001000", before=below)["entry"],
        moved("0x40001000", "0x1000", "0x20001000")["entry"],
        moved("0x403ff000", "0x1000", "0x40400000")["entry"],
    ]
    assert all(len(entry) == 1 for entry in entries)
    assert len(set.union(*entries)) == len(entries)
    ((first, *_),) = entries[0]  # type: ignore[misc]
    assert first == ("up apart", False, ("own", "free"))


def test_realignment_is_seen_where_the_kernel_has_it() -> None:
    program = (
        "mmap(0x40100000, 0x300000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "touch(0x40100000, 0x300000)\n" + MOVE.format("0x40100000", *["0x300000"] * 2, "0x80100000")
    )
    for kernel, realigned in (("linux-6.1", False), ("linux-6.18", True)):
        ((entry, *_),) = cells_of(program, kernel)["entry"]  # type: ignore[misc]
        assert entry[1] is realigned


def test_refusals_and_results_are_seen() -> None:
    stack = cells_of("execve_stack(0x300000, 0x700000, 0x200000)\n", "linux-6.1")
    assert {key[0] for key in stack["refused"]} == {"pmd-occupied"}  # type: ignore[index]
    pairs = cells_of(MAPPED + "munmap(0x1, 0x1000)\n")["pair"]
    assert pairs == {
        (None, ("mmap", "ok")),
        (("mmap", "ok"), ("touch", "ok")),
        (("touch", "ok"), ("munmap", "-EINVAL")),
    }


TOY = """
import sys
import atheris
from fuzz.campaign.feedback import Cells

cells = Cells(atheris, size=4096)

def one_input(data):
    cells.check_live()
    if sys.argv[1] == "cells":
        # A table look-up: no branch depends on the byte, so edge coverage sees nothing.
        cells.hit(data[0] >> 2 if data else None)
    cells.flush()

atheris.Setup([sys.argv[0], "-runs=5000", "-seed=1"], one_input)
atheris.Fuzz()
"""


def corpus_size(mode: str) -> int:
    """Inputs libFuzzer found interesting in the toy."""
    run = subprocess.run(
        [sys.executable, "-c", TOY, mode],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    done = next(line for line in run.stderr.splitlines() if "DONE" in line)
    return int(done.split("corp: ")[1].split("/")[0])


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [
        pytest.param("cells", 40, 70, marks=needs_atheris),
        pytest.param("none", 1, 1, marks=needs_atheris),
    ],
)
def test_libfuzzer_keeps_an_input_for_each_cell(mode: str, low: int, high: int) -> None:
    assert low <= corpus_size(mode) <= high
